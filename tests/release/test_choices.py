"""What can be tried on which rows, before any training begins."""

from __future__ import annotations

import pytest

from release import choices, demand
from release.errors import InputError


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("has_clean", [True, False])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_all_is_everything_that_such_rows_allow(
    labelled: bool, has_clean: bool, num_classes: int
) -> None:
    rows = choices.Rows(num_classes, labelled, has_clean)
    tried = choices.countermeasures(["all"], rows)
    demand.possible(tried, rows)
    demand.examinable(choices.analyses(["all"], rows), rows)
    assert ("simclr:clean=1000" in tried) == (not labelled)
    assert ("relabel" in tried) == (labelled and num_classes > 2)
    assert ("noise-swap" in tried) == (labelled and has_clean)


@pytest.mark.parametrize(
    ("rows", "tried", "says"),
    [
        (choices.Rows(2), ["none", "relabel"], "leaves one class of 2"),
        (choices.Rows(4), ["none", "class-wise:classes=7"], "classes are 0 to 3"),
        (choices.Rows(4, labelled=False), ["simclr"], "try simclr:clean=1000"),
        (choices.Rows(4), ["mix-percent", "relabel"], "add --countermeasure none"),
        (choices.Rows(4, has_clean=False), ["none", "noise-swap"], "give them with --clean"),
    ],
)
def test_what_cannot_be_tried_is_refused_at_once(
    rows: choices.Rows, tried: list[str], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        demand.possible(tried, rows)


def test_analyses_that_go_by_labels_are_refused_without_any() -> None:
    with pytest.raises(InputError, match="csd goes by labels"):
        demand.examinable(["csd"], choices.Rows(4, labelled=False))
