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


BARE = choices.Rows(4, labelled=False, has_clean=False)


@pytest.mark.parametrize(
    ("rows", "tried", "ends"),
    [
        (BARE, "cutmix", "the release has no labels: drop it, or try simclr:clean=1000"),
        (BARE, "noise-swap", "the release has no labels: drop it, or try simclr:clean=1000"),
        (choices.Rows(4, has_clean=False), "relabel:merge=9", "a smaller merge, or 1: drop it"),
        (choices.Rows(4), "relabel:merge=9", "a smaller merge, or 1: drop it"),
        (choices.Rows(4, has_clean=False), "mix-percent", ": drop it, or give them with --clean"),
    ],
)
def test_what_is_advised_would_help(rows: choices.Rows, tried: str, ends: str) -> None:
    with pytest.raises(InputError) as refused:
        demand.possible(["none", tried], rows)
    assert str(refused.value).endswith(ends)


def test_a_setting_that_is_given_twice_is_refused() -> None:
    assert choices.settings(["steps=3", "size = 2"]) == {"steps": "3", "size": "2"}
    with pytest.raises(InputError, match="--set has steps twice, '3' and '5'"):
        choices.settings(["steps=3", "steps=5"])
    with pytest.raises(InputError, match="--incremental-set takes NAME=VALUE, not 'steps'"):
        choices.settings(["steps"], "--incremental-set")


def test_a_class_is_named_or_numbered() -> None:
    assert choices.classes("--protect-classes", "b,0", ["a", "b"]) == [0, 1]
    with pytest.raises(InputError, match="--protect-classes: no class is called '²'"):
        choices.classes("--protect-classes", "²", ["a", "b", "c"])


def test_analyses_that_go_by_labels_are_refused_without_any() -> None:
    with pytest.raises(InputError, match="csd goes by labels"):
        demand.examinable(["csd"], choices.Rows(4, labelled=False))
