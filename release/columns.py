"""Which columns of a source hold the image and the label, and which others may be published.

Nothing but the image and the label is published unless asked for, and what could carry the
originals (images, bytes, vectors, URLs, paths, long strings) only where the owner insists.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from datasets import ClassLabel, Features, Image, Value

from release.errors import InputError

_NUMBERS = ("bool", "int", "uint", "float")
_STRINGS = ("string", "large_string")
_BYTES = ("binary", "large_binary")
# A 28x28 thumbnail in base64 is longer than this.
_LONGEST_STRING = 256
_LOOKS_LIKE_URL = re.compile(r"[a-z][a-z0-9+.-]*://|^(www\.|data:)", re.IGNORECASE)
_LOOKS_LIKE_PATH = re.compile(
    r"^(/|~/|\.{1,2}[/\\]|[a-z]:[/\\]|\\\\)"  # starts as one
    r"|^\S+[/\\]\S*\.\w{1,5}$"  # folders, then a file with an extension
    r"|\.(png|jpe?g|webp|bmp|tiff?|gif|npy|npz|pt|h5|zip|tar|gz|parquet)$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Columns:
    """The columns of a release, by the names they have in the source.

    kept: the other published columns, each with its feature as `Features.to_dict` writes it.
    """

    image: str
    label: str | None
    class_names: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)

    def features(self) -> Features:
        """What `datasets` shows of the release: Image, ClassLabel with names, kept columns."""
        features = Features({self.image: Image()})
        if self.label is not None:
            features[self.label] = ClassLabel(names=list(self.class_names))
        features.update(Features.from_dict(dict(self.kept)))
        return features


def find_image(features: Features, wanted: str | None) -> str:
    """The column called `wanted`, else the first Image column; InputError where there is none."""
    if wanted is not None:
        feature = _feature(features, wanted, "image")
        if not _may_hold_image(feature):
            raise InputError(f"column {wanted!r} holds no image files: {_listing(features)}")
        return wanted
    found = _first(features, Image)
    if found is not None:
        return found
    raise InputError(
        f"no column of the source holds images: {_listing(features)}; name one with --image-column"
    )


def find_label(features: Features, wanted: str | None) -> str | None:
    """The column called `wanted` (ClassLabel or integer), else the first ClassLabel column, else
    None; InputError where `wanted` is no such column."""
    if wanted is not None:
        feature = _feature(features, wanted, "label")
        if not isinstance(feature, ClassLabel) and not _is_value(feature, ("int", "uint")):
            turned = f"; class_encode_column({wanted!r}) of `datasets` turns names into labels"
            raise InputError(
                f"column {wanted!r} holds no labels (class labels or whole numbers): "
                f"{_listing(features)}" + turned * _is_value(feature, _STRINGS)
            )
        return wanted
    return _first(features, ClassLabel)


def declared_classes(features: Features, label: str | None) -> tuple[str, ...] | None:
    """The class names that come with the label column; None for a column of bare numbers."""
    if label is None:
        return ()
    feature = features[label]
    return tuple(feature.names) if isinstance(feature, ClassLabel) else None


def classes_of_numbers(labels: Iterable[int | None], column: str) -> tuple[str, ...]:
    """The class names "0".."K-1" of a column of bare numbers.

    Missing and negative ones are no class (their rows are quarantined); InputError where the
    others are not 0..K-1 without a gap.
    """
    found = sorted({label for label in labels if label is not None and label >= 0})
    if not found or found[-1] != len(found) - 1:
        gap = next((n for n, label in enumerate(found) if n != label), 0)
        raise InputError(
            f"column {column!r} cannot number the classes: its values must be 0..K-1 and none is "
            f"{gap}; renumber them or cast the column to ClassLabel"
        )
    return tuple(str(label) for label in found)


def kept_columns(
    features: Features, used: Sequence[str | None], keep: Sequence[str], keep_clean: Sequence[str]
) -> dict[str, Any]:
    """The features, as plain values, of the columns to publish beside image and label.

    InputError for a name that is no column, is in `used`, or is not in `keep_clean` and could carry
    the originals by its type or lead to them by the names of its classes.
    """
    for name in (*keep, *keep_clean):
        feature = _feature(features, name, "kept")
        if name in used:
            raise InputError(f"column {name!r} is published anyway: do not keep it")
        if name not in keep_clean and not _is_plain(feature):
            raise InputError(
                f"column {name!r} ({_kind(feature)}) can carry the clean images, so it is not "
                f"published; --keep-clean-column {name} publishes it as it is"
            )
        if name not in keep_clean and isinstance(feature, ClassLabel):
            for number, called in enumerate(feature.names):
                _check_string(name, called, f"the name of class {number}")
    wanted = dict.fromkeys((*keep, *keep_clean))
    kept: dict[str, Any] = Features({name: features[name] for name in wanted}).to_dict()
    return kept


def demand_continued(published: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """InputError where one of these features, as plain values, is not what was published under its
    name: all releases are read alike. The classes of a column may grow at the end."""
    before, after = (Features.from_dict(dict(plain)) for plain in (published, kept))
    for name, was in before.items():
        now = after[name]
        if isinstance(was, ClassLabel) and isinstance(now, ClassLabel):
            _demand_names(name, was.names, now.names)
        elif was != now:
            raise InputError(
                f"column {name!r} is {_kind(now)} and was published as {_kind(was)}: cast it back "
                "in the source, or name another --to"
            )


def _demand_names(column: str, was: Sequence[str], now: Sequence[str]) -> None:
    for number, name in enumerate(was):
        found = repr(now[number]) if number < len(now) else "nothing"
        if found != repr(name):
            raise InputError(
                f"class {number} of column {column!r} is {found} and was published as {name!r}: "
                "keep the names in their order, with new ones at the end, or name another --to"
            )


def check_kept_value(column: str, value: object, row: int) -> None:
    """Raises InputError for a string that is a URL, a path, or too long to be a plain word: it
    could lead to the clean image, or be it."""
    if isinstance(value, str):
        _check_string(column, value, f"row {row}")


def _check_string(column: str, value: str, where: str) -> None:
    if _LOOKS_LIKE_URL.search(value) or _LOOKS_LIKE_PATH.search(value.strip()):
        what = "looks like a URL or a path"
    elif len(value) > _LONGEST_STRING:
        what = f"is longer than {_LONGEST_STRING} characters"
    else:
        return
    raise InputError(
        f"column {column!r} in {where} {what}, which can lead to the clean images; leave the "
        f"column out, or publish it as it is with --keep-clean-column {column}"
    )


def check_kept_kind(column: str, value: object, kind: pa.DataType, row: int) -> None:
    """Raises InputError for a value that a column of this kind, which is that of the first row's
    value, would not hold as it is: JSON's fields may change from sample to sample."""
    try:
        held = pa.array([value], kind).to_pylist()[0]
        fits = held == value or isinstance(value, dict | list)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        fits = False
    if not fits:
        raise InputError(
            f"column {column!r} holds {reprlib.repr(value)} in row {row}, which is no {kind} as in "
            "the first row: write all its values alike (1.0 beside 0.5), or leave the column out"
        )


def _first(features: Features, kind: type) -> str | None:
    return next((str(name) for name, f in features.items() if isinstance(f, kind)), None)


def _feature(features: Features, name: str, role: str) -> Any:
    if name not in features:
        raise InputError(f"no {role} column is called {name!r}: {_listing(features)}")
    return features[name]


def _listing(features: Features) -> str:
    kinds = ", ".join(f"{name} ({_kind(feature)})" for name, feature in features.items())
    return f"there are {kinds or 'no columns'}"


def _kind(feature: Any) -> str:
    if isinstance(feature, Value):
        return str(feature.dtype)
    return "struct" if isinstance(feature, dict) else type(feature).__name__


def _is_value(feature: Any, kinds: tuple[str, ...]) -> bool:
    return isinstance(feature, Value) and feature.dtype.startswith(kinds)


def _is_plain(feature: Any) -> bool:
    return isinstance(feature, ClassLabel) or _is_value(feature, _NUMBERS + _STRINGS)


def _may_hold_image(feature: Any) -> bool:
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, Image) or _is_value(feature, _BYTES)
