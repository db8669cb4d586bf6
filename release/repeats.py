"""Rows of one release that show the same picture under several labels: noise is drawn for a picture
with its label, and two noises of one picture average out. The first row in source order stays.

Copies with the same label have the same noise, and stay too, unless the noise of a row depends on
the rows around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from release.ledger import grouped
from release.row_names import row_name
from release.source import Source
from release.survey import Survey, restricted
from release.workdir import Workdir

if TYPE_CHECKING:
    from crafting.method import Method

OTHER_LABEL = "the same picture is there under another label"
COPY = "the same picture is there once more"


def one_each(method: Method) -> bool:
    """Whether the method gives copies of a picture different noises, so that one alone may stay."""
    return method.scope != "sample"


def repeated(survey: Survey, rows: np.ndarray, one_each: bool) -> np.ndarray:
    """(M,2) int64: those of these rows (ascending) that show the picture of a row before them with
    another label, or, where there may be `one_each`, at all; each with that row, ascending."""
    order, group = grouped(survey.pictures[rows])
    first = order[np.unique(group, return_index=True)[1]][group]
    labels = survey.labels[rows]
    lost = order != first if one_each else labels[order] != labels[first]
    found: np.ndarray = np.stack([rows[order[lost]], rows[first[lost]]], axis=1)
    return found[np.argsort(found[:, 0])]


def left_out(
    source: Source,
    split: str,
    survey: Survey,
    rows: np.ndarray,
    one_each: bool,
    tell: Callable[[str], None],
) -> dict[int, str]:
    """Which of these rows (ascending) are left out, and why; a person is told."""
    found = repeated(survey, rows, one_each)
    if not len(found):
        return {}
    place, kept = (row_name(source, split, int(row)) for row in found[0])
    copies = ", or once more," if one_each else ""
    tell(
        f"{len(found)} rows are left out, since their pictures are there under another label"
        f"{copies} and two noises average out (first: {place}, which is the picture of {kept}): "
        "take the wrong ones out of the source"
    )
    labels = survey.labels[found]
    reasons = np.where(labels[:, 0] != labels[:, 1], OTHER_LABEL, COPY)
    return dict(zip(found[:, 0].tolist(), reasons.tolist(), strict=True))


def first_release(
    source: Source,
    split: str,
    survey: Survey,
    one_each: bool,
    workdir: Workdir,
    tell: Callable[[str], None],
) -> tuple[str, Survey]:
    """The name in WORKDIR and the survey of a first release, which is that of the split where no
    picture is there under two labels."""
    lost = left_out(source, split, survey, survey.rows(), one_each, tell)
    if not lost:
        return split, survey
    name, folder = restricted(survey, split, np.arange(len(survey)), lost, workdir)
    return name, Survey.load(folder)
