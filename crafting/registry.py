"""Things found by name: methods, and by the same habit nets, victims and countermeasures.

A method enters by one `register` call in its own file under crafting/methods/; every module there
is imported the first time a name is asked for, so that adding a method touches one file.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from itertools import permutations
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from crafting.budget import Budget, Sum
from crafting.method import Method
from crafting.mixture import Mixture, mix, of_part

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


def registration(name: str) -> Registration:
    """The method called `name`, or the mixture of those whose names `+` joins; ValueError names the
    nearest ones, and refuses to mix a method with itself."""
    names = name.split("+")
    if len(names) == 1:
        return lookup("method", name, methods())
    parts = [(part, lookup("method", part, methods())) for part in names]
    if len(set(names)) < len(names):
        raise ValueError(f"{name} names a method twice: once is as much as a larger budget")
    paper, quick = (mix((n, entry.preset(p)) for n, entry in parts) for p in get_args(Preset))
    return Registration(name, paper, quick)


def configure(
    name: str,
    preset: Preset,
    budget: Budget | None = None,
    settings: Mapping[str, str] | None = None,
) -> Method:
    """The method called `name`, with its preset's fields, the budget and the settings laid over it.

    Settings are written values by field name, as in `--set steps=30`, for a part of a mixture
    `--set tap.steps=30`; ValueError names the nearest fields, the accepted values, or the methods
    and budgets there are.
    """
    method, written = registration(name).preset(preset), settings or {}
    if not isinstance(method, Mixture):
        return _configured(name, method, budget, written)
    known = method.options()
    for key in written:
        if key not in known:
            raise ValueError(f"method {name} has no option {key!r}: {nearest(key, known)}")
    budgets = _divided(name, method, budget)
    return mix(
        (part, _configured(part, own, budgets[part], of_part(part, written)))
        for part, own in method.parts
    )


def _configured(
    name: str, method: Method, budget: Budget | None, settings: Mapping[str, str]
) -> Method:
    changes = {key: _field(name, method, key, value) for key, value in settings.items()}
    if budget is not None:
        _check_budget(name, method, budget)
        changes["budget"] = budget
    return replace(method, **changes)


def _divided(name: str, mixture: Mixture, budget: Budget | None) -> Mapping[str, Budget | None]:
    """Each part's share of a sum: the part of it that is of the kind it has of its own, else the
    one in its place, else any that it can work within."""
    own = dict(mixture.parts)
    if budget is None:
        return dict.fromkeys(own)
    typed = [own[part] for part in name.split("+")]
    given = budget.parts if isinstance(budget, Sum) else (budget,)

    def fits(order: tuple[Budget, ...]) -> bool:
        pairs = zip(typed, order, strict=False)
        return len(order) == len(typed) and all(isinstance(b, m.allowed) for m, b in pairs)

    def alike(order: tuple[Budget, ...]) -> int:
        pairs = zip(typed, order, strict=True)
        return sum(type(method.budget) is type(part) for method, part in pairs)

    fitting = [order for order in permutations(given) if fits(order)]
    if not fitting:
        raise ValueError(
            f"method {name} does not work within {budget}: it takes a sum of one budget for each "
            f"part, such as {mixture.budget}"
        )
    best = max(fitting, key=alike)
    return dict(zip(name.split("+"), best, strict=True))


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
        value = kind(text)
    except ValueError:
        raise ValueError(f"{what} is a value of type {kind.__name__}, not {text!r}") from None
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{what} is a finite number, not {text!r}")
    return value


def by_name(what: str, written: Iterable[str]) -> dict[str, str]:
    """Values by name, each written NAME=VALUE; ValueError for a name that is there twice, as only
    one of its values could count."""
    found: dict[str, str] = {}
    for text in written:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in found:
            raise ValueError(
                f"{what} has {name} twice, {found[name]!r} and {value!r}: leave one of them out"
            )
        found[name] = value
    return found
