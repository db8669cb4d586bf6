"""The ablations: which methods are compared with which settings, and what for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from crafting.registry import Preset


@dataclass(frozen=True)
class Row:
    """A method with the settings (name, value) that differ from its preset."""

    method: str
    settings: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """In Markdown."""
        return f"`{' '.join([self.method, *(f'{name}={value}' for name, value in self.settings)])}`"


@dataclass(frozen=True)
class Study:
    """One question; rows: what is measured for it, by preset; gone: what was measured, and is not
    in the code any more as it did not pay."""

    title: str
    about: str
    rows: Mapping[Preset, Sequence[Row]]
    gone: Sequence[Row] = ()


def _row(method: str, **settings: object) -> Row:
    return Row(method, tuple((name, str(value)) for name, value in settings.items()))


_PLAIN = ("sep", "sep-fa", "sep-fa-vr")
"""The methods of the paper, whose every checkpoint is asked at every step."""


def _checkpoints(counts: Sequence[int]) -> list[Row]:
    return [_row(method, checkpoints=count) for method in _PLAIN for count in counts]


STUDIES: Mapping[str, Study] = {
    "passes": Study(
        "An equal number of gradients",
        "Self-Ensemble Protection, Table 4, with `sep-fa-mi` and at an equal number of gradient "
        "passes an image (as near as whole steps come to it).",
        {
            "quick": [
                _row("sep-fa-mi", steps=90, step_levels=1),
                _row("sep-fa-mi"),
                _row("sep-mi"),
                _row("sep-both-mi"),
                _row("sep-fa-vr"),
                _row("sep-fa", steps=18),
                _row("sep", steps=18),
                _row("ensemble", steps=22),
                _row("tap", steps=90),
                _row("random-noise"),
            ],
            "paper": [
                _row("sep-fa-mi", steps=900),
                _row("sep-fa-mi"),
                _row("sep-mi"),
                _row("sep-both-mi"),
                _row("sep-fa-vr"),
                _row("sep-fa"),
                _row("sep"),
                _row("ensemble"),
                _row("tap", steps=900, restarts=1),
                _row("random-noise"),
            ],
        },
    ),
    "checkpoints": Study(
        "How many checkpoints",
        "Self-Ensemble Protection, Figure 5.",
        {"quick": _checkpoints((3, 5, 10)), "paper": _checkpoints((3, 5, 10, 30, 120))},
    ),
    "surrogates": Study(
        "Which net is the surrogate",
        "Who trains on the release is not known; Re-thinking Data Availability Attacks, Table 5, "
        "asks the same of `min-max-min`.",
        {
            "quick": [
                _row("sep-fa-mi"),
                _row("sep-fa-mi", surrogate="resnet10-w16"),
                _row("sep-fa-mi", surrogate="resnet18-w16"),
            ],
            "paper": [
                _row(method, surrogate=net)
                for method in ("min-max-min", "sep-fa-mi")
                for net in ("vgg16", "resnet18", "resnet50", "densenet121")
            ],
        },
    ),
    "ours": Study(
        "What was tried for sep-fa-mi",
        "Wanted is that victims learn little even after the best renaming of the classes, or where "
        "their last layer is fitted anew on clean rows: at most half of what clean twins come to. "
        "`pull=class` is the loss of `sep-mi`; "
        "`second_surrogate`: checkpoints of another net take "
        "turns with the first's; `targets`: the images of a class are pulled towards so many "
        "classes, each image to one of them; `moved`: every gradient is taken after a fresh shift "
        "and mirroring of each image; `+ops`: one pixel of all images of a class is set to one "
        "colour besides; `+ops-m`: three.",
        {
            "quick": [
                _row("sep-fa-mi"),
                _row("sep-fa-mi", normalise="false"),
                _row("sep-mi"),
                _row("sep-both-mi"),
                _row("sep-both-mi", steps=15, step_levels=2.0),
                _row("sep-fa-mi+ops"),
                _row("sep-both-mi+ops"),
                _row("sep-both-mi+ops-m"),
            ],
            "paper": [],
        },
        gone=[
            _row("sep-fa-mi", targets=2),
            _row("sep-fa-mi", targets=4),
            _row("sep-fa-mi", second_surrogate="resnet18-w16"),
            _row("sep-fa-mi", pull="class", targets=2),
            _row("sep-fa-mi", pull="class", second_surrogate="resnet18-w16"),
            _row("sep-both-mi", steps=15, step_levels=2.0, moved="all"),
        ],
    ),
}
