"""Rows of a source whose pictures are public already, be it under another label: protected once
more, they would be published with two noises, which average out.

They are found by the ledger, which knows a picture by its file's bytes together with its label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from release.ledger import Ledger, Released
from release.row_names import row_name
from release.source import Source
from release.survey import digests_as

REASON = "public already"


@dataclass(frozen=True)
class PublicRow:
    """place: of the row in the source; row, label: what its picture is published as."""

    place: int
    row: int
    label: int | None


def public_rows(
    source: Source,
    split: str,
    places: Sequence[int],
    ledger: Ledger,
    marks: Callable[[np.ndarray], np.ndarray],
) -> Iterator[PublicRow]:
    """Which of these rows (ascending) the ledger has under whatever label. `marks` gives the marks
    (N,32) of digests (N,32). Reads these rows alone."""
    released, labels = Released(ledger.rows, ledger.marks), (*range(source.num_classes), None)
    for row in source.bare().picked(split, places):
        digests = np.frombuffer(digests_as(sha256(row.image), labels), np.uint8)
        found = released.rows(marks(digests.reshape(len(labels), -1)))
        for which in np.flatnonzero(found >= 0)[:1]:
            yield PublicRow(row.number, int(found[which]), labels[which])


def told(source: Source, split: str, found: Sequence[PublicRow]) -> str:
    """What a person is told of these rows."""
    first = found[0]
    name = row_name(source, split, first.place)
    known_as = "" if first.label is None else f" labelled {source.class_names[first.label]}"
    return (
        f"{len(found)} new rows are left out, since their pictures are public already and two "
        f"noises average out (first: {name}, which is row {first.row}{known_as}); published rows "
        "keep their labels: for others, withdraw the dataset and make a new one"
    )
