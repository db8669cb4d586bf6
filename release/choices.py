"""What a person's words mean: options that are written as text, as values.

Each raises InputError naming the option and what it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from release import machine
from release.errors import InputError

if TYPE_CHECKING:
    from crafting.registry import Preset
    from evaluation.countermeasures import Countermeasure
    from evaluation.released import Format

Choice = TypeVar("Choice", bound=str)
WITHOUT_LABELS = ("simclr:clean=1000",)
"""What is tried on rows without labels: nothing else learns from them."""


def one_of(option: str, value: str, allowed: tuple[Choice, ...]) -> Choice:
    """The allowed value that `value` is."""
    for choice in allowed:
        if value == choice:
            return choice
    raise InputError(f"{option} is {' or '.join(allowed)}, not {value!r}")


def formats(text: str) -> list[Format]:
    """Formats in the order given; victims read the first."""
    parts = [part.strip() for part in text.split(",")]
    return [one_of("--format", part, ("parquet", "webdataset")) for part in dict.fromkeys(parts)]


def row_numbers(option: str, text: str | None) -> list[int]:
    """Numbers of rows, such as 3,14."""
    try:
        rows = [int(part) for part in text.split(",")] if text else []
    except ValueError:
        rows = [-1]
    if any(row < 0 for row in rows):
        raise InputError(f"{option} takes row numbers such as 3,14, not {text!r}")
    return rows


def preset(asked: str | None) -> Preset:
    """The preset: the papers' figures where there is a GPU, unless said otherwise."""
    if asked is None:
        return "paper" if machine.gpus() else "quick"
    return one_of("--preset", asked, ("paper", "quick"))


def victims(names: Sequence[str], preset: Preset) -> list[str]:
    """Known victims, those of the preset where none is named."""
    from evaluation.victims import default_victims, victim

    try:
        return [victim(name).name for name in dict.fromkeys(names or default_victims(preset))]
    except ValueError as problem:
        raise InputError(f"{problem} (see `protect-release victims`)") from None


@dataclass(frozen=True)
class Rows:
    """What victims meet: how many classes there are, whether the released rows have labels, and
    whether whoever verifies has their clean images."""

    num_classes: int
    labelled: bool = True
    has_clean: bool = True

    def missing(self, tried: Countermeasure) -> str | None:
        """What the countermeasure would need beside, in words."""
        return tried.missing(
            labelled=self.labelled, has_twin=self.has_clean, num_classes=self.num_classes
        )


def countermeasures(written: Sequence[str], rows: Rows) -> list[str]:
    """Known countermeasures, each written in the one way, plain training first; `all` is every one
    that such rows allow and that reads no file of one's own."""
    from evaluation.countermeasures import COUNTERMEASURES, parse

    known = [name for name in COUNTERMEASURES if name != "finetune"]
    known += [] if rows.labelled else WITHOUT_LABELS
    everyone = [name for name in known if rows.missing(parse(name)) is None]
    names = [name for text in written for name in (everyone if text == "all" else [text])]
    try:
        parsed = [str(parse(text)) for text in names]
    except ValueError as problem:
        raise InputError(f"{problem} (see `protect-release countermeasures`)") from None
    return sorted(dict.fromkeys(parsed), key=lambda text: text != "none")


def analyses(written: Sequence[str], rows: Rows) -> list[str]:
    """Known analyses, each written in the one way; `all` is every one that such rows allow."""
    from evaluation.analyses import ANALYSES, parse

    everyone = [
        name
        for name, kind in ANALYSES.items()
        if (rows.has_clean or not kind.needs_clean) and (rows.labelled or not kind.needs_labels)
    ]
    names = [name for text in written for name in (everyone if text == "all" else [text])]
    try:
        return list(dict.fromkeys(str(parse(text)) for text in names))
    except ValueError as problem:
        raise InputError(f"{problem} (see `protect-release analyses`)") from None


def settings(written: Sequence[str], option: str = "--set") -> dict[str, str]:
    """Values by name, each written NAME=VALUE."""
    from crafting.registry import by_name

    for text in written:
        if "=" not in text:
            raise InputError(f"{option} takes NAME=VALUE, not {text!r}")
    try:
        return by_name(option, written)
    except ValueError as problem:
        raise InputError(str(problem)) from None


def share(option: str, text: str) -> float:
    """A fraction, written as one or in per cent."""
    try:
        fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise InputError(f"{option} is a share such as 1% or 0.01, not {text!r}")
    return fraction


def classes(option: str, text: str, names: Sequence[str]) -> list[int]:
    """Class numbers, written a,b,c by name or number."""
    return sorted({class_named(option, part, names) for part in text.split(",")})


def class_named(option: str, text: str, names: Sequence[str]) -> int:
    """The number of the class of this name or number."""
    from crafting.registry import nearest

    name = text.strip()
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise InputError(f"{option}: no class is called {name!r}: {nearest(name, names)}")


def target_map(text: str, names: Sequence[str], protected: Sequence[int]) -> list[int]:
    """The class that each class is pulled towards, written a:b,c:d; unprotected classes point at
    themselves, every protected one at another."""
    pairs = [part.partition(":")[::2] for part in text.split(",")]
    chosen = {
        class_named("--target-map", a, names): class_named("--target-map", b, names)
        for a, b in pairs
    }
    wrong = [names[label] for label in protected if chosen.get(label, label) == label]
    if wrong:
        raise InputError(
            f"--target-map gives no other class for {', '.join(wrong)}: every protected class "
            "needs one"
        )
    return [chosen.get(label, label) for label in range(len(names))]
