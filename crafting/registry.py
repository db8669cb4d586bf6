"""Things found by name: methods, and by the same habit nets, victims and countermeasures.

A method enters by one `register` call in its own file under crafting/methods/; every module there
is imported the first time a name is asked for, so that adding a method touches one file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crafting.budget import Budget
from crafting.method import Method

T = TypeVar("T")
Preset = Literal["paper", "quick"]
_METHODS: dict[str, Registration] = {}


@dataclass(frozen=True)
class Registration:
    """A method's name with its two settings: the paper's figures, and minutes on a small CPU."""

    name: str
    paper: Method
    quick: Method

    def preset(self, preset: Preset) -> Method:
        return self.paper if preset == "paper" else self.quick


def register(name: str, *, paper: Method, quick: Method) -> None:
    """From now on `name` means this method; a name is given once."""
    assert name not in _METHODS, f"two methods are called {name}"
    _METHODS[name] = Registration(name, paper, quick)


@cache
def methods() -> Mapping[str, Registration]:
    """Every method of crafting/methods/ by name."""
    import crafting.methods as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(sorted(_METHODS.items()))


def configure(
    name: str,
    preset: Preset,
    budget: Budget | None = None,
    settings: Mapping[str, str] | None = None,
) -> Method:
    """The method called `name`, with its preset's fields, the budget and the settings laid over it.

    Settings are written values by field name, as in `--set steps=30`; ValueError names the nearest
    fields, the accepted values, or the methods and budgets there are.
    """
    method = lookup("method", name, methods()).preset(preset)
    changes = {key: _field(name, method, key, value) for key, value in (settings or {}).items()}
    if budget is not None:
        _check_budget(name, method, budget)
        changes["budget"] = budget
    return replace(method, **changes)


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """The entry called `name`; ValueError names the nearest ones."""
    if name not in table:
        raise ValueError(f"no {kind} is called {name!r}: {nearest(name, table)}")
    return table[name]


def nearest(name: str, names: Iterable[str]) -> str:
    """What to offer instead of a name that is none of `names`."""
    known = sorted(names)
    close = get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known)}"


def _check_budget(name: str, method: Method, budget: Budget) -> None:
    if not isinstance(budget, method.allowed):
        kinds = ", ".join(kind.__name__.lower() for kind in method.allowed)
        raise ValueError(f"method {name} does not work within {budget}: it takes {kinds}")


def _field(name: str, method: Method, field: str, text: str) -> Any:
    settable = {f.name for f in fields(method)} - {"budget"}
    if not settable:
        raise ValueError(f"method {name} has no options: drop {field!r}")
    if field not in settable:
        raise ValueError(f"method {name} has no option {field!r}: {nearest(field, settable)}")
    value = parse_value(f"{name} {field}", get_type_hints(type(method))[field], text)
    if type(value) is int and value < 1:
        raise ValueError(f"{name} {field} is a count of at least 1, not {text}")
    return value


def parse_value(what: str, kind: Any, text: str) -> Any:
    """`text` as a value of a dataclass field's type (bool, int, float, str or a Literal)."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ValueError(f"{what} is one of {', '.join(get_args(kind))}, not {text!r}")
        return text
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(f"{what} is true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{what} is a value of type {kind.__name__}, not {text!r}") from None
