"""The seam: a countermeasure is parameters that give hooks of the one training loop.

It enters by one `register` call in its own file of this package and is written
`NAME` or `NAME:FIELD=VALUE,FIELD=VALUE`, such as `cutout:size=0.25`.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, Literal, TypeVar, get_type_hints

import torch
from torch import Tensor

from crafting.batch import PixelSplit
from crafting.registry import by_name, lookup, nearest, parse_value
from crafting.training import Hooks, Recipe

Data = Literal["clean", "protected"]


@dataclass(frozen=True)
class Setting:
    """What the hooks of one training may know.

    data: whether the victim is given protected rows, or is the clean twin of one that is; twin: the
    clean images of its rows under the same numbers, where whoever verifies has them; owned:
    labelled clean images that the appropriator has, none of which it is scored on (None unless
    `clean_images` asks for some); seed: of everything that a hook draws apart from torch.
    """

    num_classes: int
    data: Data
    recipe: Recipe
    device: torch.device
    seed: int
    twin: PixelSplit | None = None
    owned: PixelSplit | None = None


@dataclass(frozen=True)
class Countermeasure(ABC):
    """Something done to the training of a victim; its dataclass fields are its parameters, each
    with a default, and its docstring's first line says what it does, to people.

    is_setting: whether it is no answer to protection but a circumstance, such as clean rows among
    the protected ones: then nothing is expected of the protection. needs_labels, needs_twin: what
    the rows must have; is_watched: whether the net that trains is what is scored in the end, so
    that its accuracy after each epoch tells something; protocol: raised when the same training
    would come to something else, so that what was kept of it is not taken for it.
    """

    name: ClassVar[str]
    is_setting: ClassVar[bool] = False
    is_watched: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_twin: ClassVar[bool] = False
    protocol: ClassVar[int] = 0

    @property
    def cost(self) -> float:
        """The time of an epoch relative to plain training."""
        return 1.0

    @property
    def clean_images(self) -> int:
        """How many labelled clean images it takes; they are kept out of the score."""
        return 0

    @property
    def public(self) -> str:
        """How reports write it, which also names its outcome: what it reads is told by its content,
        not by where it lies."""
        return str(self)

    @abstractmethod
    def hooks(self, setting: Setting) -> Hooks:
        """What it changes about training."""

    def recipe(self, recipe: Recipe) -> Recipe:
        """How a victim is trained that would be trained by `recipe`."""
        return recipe

    def outputs(self, num_classes: int) -> int:
        """How many outputs the net has; ValueError where so many classes are too few."""
        return num_classes

    def missing(self, *, labelled: bool, has_twin: bool, num_classes: int) -> str | None:
        """What it takes and such rows have not, in words; None where it can be tried on them."""
        named = f"countermeasure {self.public}"
        if self.needs_labels and not labelled:
            return f"{named} learns from labels, and the release has no labels"
        if self.needs_twin and not has_twin:
            return f"{named} needs the clean images that the release was made from"
        try:
            self.outputs(num_classes)
        except ValueError as problem:
            return str(problem)
        return None

    def folded(self, logits: Tensor) -> Tensor:
        """Logits (B,K) over the classes it is scored on, of the net's own (B,`outputs`)."""
        return logits

    def scored(self, test: PixelSplit) -> PixelSplit:
        """What it is scored on, of the clean test rows, or of those that it learns from; ValueError
        where that is nothing."""
        return test

    def __str__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.name}:{','.join(changed)}" if changed else self.name


C = TypeVar("C", bound=type[Countermeasure])
_KNOWN: dict[str, type[Countermeasure]] = {}


def register(kind: C) -> C:
    """From now on `kind.name` means this countermeasure; a name is given once."""
    assert kind.name not in _KNOWN, f"two countermeasures are called {kind.name}"
    _KNOWN[kind.name] = kind
    return kind


@cache
def countermeasures() -> Mapping[str, type[Countermeasure]]:
    """Every countermeasure of this package by name."""
    import evaluation.countermeasures as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_KNOWN.items()))


def parse(text: str) -> Countermeasure:
    """The countermeasure written as `text`; its str() is the one way to write it.

    ValueError names the nearest countermeasures or parameters, or what a value must be.
    """
    kind, written = kind_of(text), text.partition(":")[2]
    settings = by_name(f"countermeasure {kind.name}", written.split(",") if written else ())
    return kind(**{key: _value(kind, key, value) for key, value in settings.items()})


def kind_of(text: str) -> type[Countermeasure]:
    """The kind of the countermeasure written as `text`; ValueError names the nearest ones."""
    return lookup("countermeasure", text.partition(":")[0], countermeasures())


def _value(kind: type[Countermeasure], key: str, text: str) -> Any:
    settable = [field.name for field in fields(kind)]
    if not settable:
        raise ValueError(f"countermeasure {kind.name} has no parameters: write {kind.name} alone")
    if key not in settable:
        raise ValueError(
            f"countermeasure {kind.name} has no parameter {key!r}: {nearest(key, settable)}"
        )
    return parse_value(f"{kind.name} {key}", get_type_hints(kind)[key], text)
