"""The seam: a countermeasure is parameters that give hooks of the one training loop.

It enters by one `register` call in its own file of this package and is written
`NAME` or `NAME:FIELD=VALUE,FIELD=VALUE`, such as `cutout:size=8`.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar, TypeVar, get_type_hints

from crafting.registry import lookup, nearest, parse_value
from crafting.training import Hooks


@dataclass(frozen=True)
class Countermeasure(ABC):
    """Something done to the training of a victim; its dataclass fields are its parameters, each
    with a default, and its docstring's first line says what it does, to people."""

    name: ClassVar[str]
    cost: ClassVar[float] = 1.0
    """The time of an epoch relative to plain training."""

    @abstractmethod
    def hooks(self) -> Hooks:
        """What it changes about training."""

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
    name, _, written = text.partition(":")
    kind = lookup("countermeasure", name, countermeasures())
    settings = [part.partition("=") for part in written.split(",")] if written else []
    return kind(**{key: _value(kind, key, value) for key, _, value in settings})


def _value(kind: type[Countermeasure], key: str, text: str) -> Any:
    settable = [field.name for field in fields(kind)]
    if not settable:
        raise ValueError(f"countermeasure {kind.name} has no parameters: write {kind.name} alone")
    if key not in settable:
        raise ValueError(
            f"countermeasure {kind.name} has no parameter {key!r}: {nearest(key, settable)}"
        )
    return parse_value(f"{kind.name} {key}", get_type_hints(kind)[key], text)
