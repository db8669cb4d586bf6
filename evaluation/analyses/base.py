"""What every analysis is given and gives back, and how analyses are named."""

from __future__ import annotations

import importlib
import math
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any, ClassVar, TypeVar, get_type_hints

import numpy as np
import torch

from crafting.batch import PixelSplit
from crafting.registry import Preset, by_name, lookup, parse_value

Progress = Callable[[float], None]
"""Is told the finished share, from 0 to 1."""


@dataclass(frozen=True)
class Material:
    """What an analysis may look at.

    protected: the rows as victims train on them; clean: the clean images of the same rows, where
    the verifier has them; test: clean rows with labels that are in neither; epochs: of every
    training that is made, instead of the recipe's; seed: of everything that is drawn.
    """

    protected: PixelSplit
    clean: PixelSplit | None
    test: PixelSplit
    net_size: int
    preset: Preset
    device: torch.device
    seed: int
    epochs: int | None = None

    @property
    def originals(self) -> PixelSplit:
        """The clean images, which this analysis is known to have."""
        assert self.clean is not None, "an analysis that needs clean images was given none"
        return self.clean

    def sample(self, split: PixelSplit, most: int) -> PixelSplit:
        """At most so many of its rows; of splits with the same rows, the same ones."""
        rows, _ = split.numbered()
        if len(rows) <= most:
            return split
        chosen = np.random.default_rng(self.seed).choice(len(rows), most, replace=False)
        return split.take(rows[chosen].tolist())


@dataclass(frozen=True)
class Findings:
    """What an analysis found.

    figures: numbers by name, all finite, None where nothing could be measured; sentence: what they
    mean, to people; curves: one value an epoch; matrix: row by row, as `labels` name both its rows
    and its columns.
    """

    figures: dict[str, float | None]
    sentence: str
    curves: dict[str, list[float]] = field(default_factory=dict)
    matrix: list[list[float]] | None = None
    labels: list[str] = field(default_factory=list)

    @property
    def finite(self) -> Findings:
        """Without the curves and the matrix that have numbers that are not finite, as those of a
        net that diverged, and with None for such figures."""
        rows = self.matrix or []
        is_whole = all(_all_finite(row) for row in rows)
        return replace(
            self,
            figures={name: measured(value) for name, value in self.figures.items()},
            curves={name: curve for name, curve in self.curves.items() if _all_finite(curve)},
            matrix=self.matrix if is_whole else None,
            labels=self.labels if is_whole else [],
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measured(figure: float | None) -> float | None:
    """The figure, or None where it is not finite."""
    return figure if figure is not None and math.isfinite(figure) else None


def _all_finite(figures: Sequence[float]) -> bool:
    return all(map(math.isfinite, figures))


@dataclass(frozen=True)
class Analysis(ABC):
    """A question to a release; its dataclass fields are its parameters, each with a default, and
    its docstring's first line says what it tells, to people.

    needs_clean: whether it compares with the clean images of the protected rows; needs_labels:
    whether these rows must have labels.
    """

    name: ClassVar[str]
    needs_clean: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = True

    @property
    def cost(self) -> float:
        """Its time relative to training vgg-w16 once on the same rows."""
        return 0.1

    def run(self, material: Material, progress: Progress) -> Findings:
        """What it finds in this material. ValueError where that lacks what it needs."""
        _demand(self, material)
        found = self.examine(material, progress).finite
        progress(1.0)
        return found

    @abstractmethod
    def examine(self, material: Material, progress: Progress) -> Findings:
        """What it finds in material that has all it needs."""

    def __str__(self) -> str:
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        changed = [f"{f.name}={own[f.name]}" for f in fields(self) if own[f.name] != f.default]
        return f"{self.name}:{','.join(changed)}" if changed else self.name


def _demand(analysis: Analysis, material: Material) -> None:
    if analysis.needs_labels and material.protected.targets is None:
        raise ValueError(f"{analysis.name} goes by labels, and the release has none: leave it out")
    if not analysis.needs_clean:
        return
    if material.clean is None:
        raise ValueError(f"{analysis.name} compares with the clean images of the rows: give them")
    rows, clean_rows = (split.numbered()[0] for split in (material.protected, material.clean))
    if not np.array_equal(rows, clean_rows):
        raise ValueError(
            f"{analysis.name} compares row by row, and the clean images are not those of the "
            f"{len(rows)} protected rows: give exactly these"
        )


A = TypeVar("A", bound=type[Analysis])
_KNOWN: dict[str, type[Analysis]] = {}


def register(kind: A) -> A:
    """From now on `kind.name` means this analysis; a name is given once."""
    assert kind.name not in _KNOWN, f"two analyses are called {kind.name}"
    _KNOWN[kind.name] = kind
    return kind


@cache
def analyses() -> Mapping[str, type[Analysis]]:
    """Every analysis of this package by name."""
    import evaluation.analyses as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_KNOWN.items()))


def parse(text: str) -> Analysis:
    """The analysis written as `text`; its str() is the one way to write it.

    ValueError names the nearest analyses or parameters, or what a value must be.
    """
    name, _, written = text.partition(":")
    kind = lookup("analysis", name, analyses())
    kinds = {f.name: get_type_hints(kind)[f.name] for f in fields(kind)}
    if written and not kinds:
        raise ValueError(f"analysis {name} has no parameters: write {name} alone")
    settings = {}
    for key, value in by_name(f"analysis {name}", written.split(",") if written else ()).items():
        wanted = lookup(f"parameter of {name}", key, kinds)
        settings[key] = parse_value(f"{name} {key}", wanted, value)
    return kind(**settings)


def demand_counts(analysis: Analysis) -> None:
    """ValueError where a parameter that is a whole number is below 1: all of them are counts."""
    for f in fields(analysis):
        value = getattr(analysis, f.name)
        if type(value) is int and value < 1:
            raise ValueError(f"{analysis.name} {f.name} is a count of at least 1, not {value}")


def portion(progress: Progress, part: int, parts: int) -> Progress:
    """The progress of one of several equal parts, counted from 0."""
    return lambda share: progress((part + share) / parts)
