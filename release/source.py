"""The owner's clean dataset as pinned splits of numbered rows that can be read again and again.

Wherever it lies (the Hub, a local folder, a sample), `datasets` says what its files and features
are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Features

from release import readers
from release.columns import (
    Columns,
    classes_of_numbers,
    declared_classes,
    find_image,
    find_label,
    kept_columns,
)
from release.discover import Found, Kind, discover
from release.errors import InputError
from release.image_folder import class_folders
from release.readers import Fields, Row, class_folder

__all__ = ["Row", "Source", "known_split", "open_source", "protected_split", "test_splits_of"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset as it was found: plain values, from which any process reads the same rows.

    pin: the commit on the Hub, or a digest of every file's path and contents; splits: the URLs of
    each split's files, in row order; tar_image, tar_label: extensions within tars (None: any image,
    no label); kept: the other published columns with their features; kept_clean: those among them
    whose values are published whatever they are; dropped: columns that are not published; unread:
    how many files of each extension among images are no rows; chosen: for splits that are not read
    whole, an .npy file of the row numbers that are (ascending), rows then counting from 0 anew.
    """

    spec: str
    kind: Kind
    pin: str
    config: str | None
    splits: Mapping[str, Sequence[str]]
    image_column: str
    label_column: str | None
    class_names: tuple[str, ...]
    kept: Mapping[str, Any]
    kept_clean: tuple[str, ...]
    tar_image: str | None
    tar_label: str | None
    other_configs: Sequence[str]
    dropped: Sequence[str]
    license: str | None
    pretty_name: str | None
    citation: str | None
    unread: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def columns(self) -> Columns:
        """What a release of this source is made of."""
        return Columns(self.image_column, self.label_column, self.class_names, self.kept)

    def kept_kinds(self) -> dict[str, pa.DataType]:
        """Of the kept columns whose values may be of other kinds from row to row: fields of the
        tars' JSON. Parquet files hold one kind."""
        if self.kind != "webdataset":
            return {}
        schema = Features.from_dict(dict(self.kept)).arrow_schema
        return {field.name: field.type for field in schema}

    def is_labelled(self, split: str) -> bool:
        """Whether some row of the split has a label, or there is no row that could have none;
        labels alone are read, up to the first one."""
        if self.label_column is None:
            return False
        if self.kind == "imagefolder":
            files = self.files(split)
            return not files or any(class_folder(url) in self.class_names for url in files)
        if self.kind == "parquet":
            labels = readers.parquet_labels(self.files(split), self.label_column)
        else:
            assert self.tar_label is not None
            labels = readers.tar_labels(self.files(split), self.tar_label)
        with closing(labels):
            found = (label is not None and label >= 0 for label in labels)
            return next(found, True) or any(found)

    def labelled_as(self, split: str) -> Source:
        """This source, without its label column where no row of the split has a label."""
        if self.label_column is None or self.is_labelled(split):
            return self
        dropped = sorted({*self.dropped, self.label_column})
        return replace(self, label_column=None, tar_label=None, class_names=(), dropped=dropped)

    def files(self, split: str) -> Sequence[str]:
        """The URLs of the split's files; InputError names the splits there are."""
        if split not in self.splits:
            raise InputError(
                f"{self.spec} has no split {split!r}: there are {', '.join(self.splits)}"
            )
        return self.splits[split]

    def num_rows(self, split: str) -> int:
        """How many rows the split has, without reading an image."""
        files = self.files(split)
        if split in self.chosen:
            return len(np.load(self.chosen[split], mmap_mode="r"))
        if self.kind == "parquet":
            return readers.parquet_num_rows(files)
        return readers.tar_num_rows(files) if self.kind == "webdataset" else len(files)

    def rows(self, split: str, start: int = 0, stop: int | None = None) -> Iterator[Row]:
        """Rows start..stop of the split in source order, each with its number.

        Damaged and missing images, missing labels and labels out of range are handed over as they
        are; InputError where a Parquet file or tar itself cannot be read.
        """
        if split in self.chosen:
            wanted = np.load(self.chosen[split], mmap_mode="r")[start:stop].tolist()
            picked = enumerate(self.whole().picked(split, wanted), start)
            return (replace(row, number=number) for number, row in picked)
        files, end = self.files(split), sys.maxsize if stop is None else stop
        if self.kind == "imagefolder":
            return readers.folder_rows(files, self.class_names, start, end)
        if self.kind == "webdataset":
            inside = Fields(self.tar_image, self.tar_label, tuple(self.kept))
            return readers.tar_rows(files, inside, start, end)
        fields = Fields(self.image_column, self.label_column, tuple(self.kept))
        return readers.parquet_rows(files, fields, start, end)

    def picked(self, split: str, wanted: Sequence[int]) -> Iterator[Row]:
        """The rows of these numbers (ascending) of a split that is read whole."""
        if self.kind == "imagefolder":
            files = [self.files(split)[row] for row in wanted]
            rows = readers.folder_rows(files, self.class_names, 0, len(files))
            yield from (replace(row, number=n) for n, row in zip(wanted, rows, strict=True))
            return
        kept = set(wanted)
        reach = self.rows(split, wanted[0], wanted[-1] + 1) if wanted else iter(())
        yield from (row for row in reach if row.number in kept)

    def only(self, split: str, rows: Path) -> Source:
        """This source with only the rows of the split that the .npy file lists, counted from 0."""
        return replace(self, chosen={**self.chosen, split: str(rows)})

    def whole(self) -> Source:
        """This source with every row."""
        return replace(self, chosen={})

    def bare(self) -> Source:
        """The same rows with image and label alone, as victims and surrogates need them."""
        return replace(self, kept={}, kept_clean=())

    def to_json(self) -> dict[str, Any]:
        """The source as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Source:
        """The source that `to_json` wrote; nothing is looked up or hashed again."""
        names, clean = tuple(values["class_names"]), tuple(values["kept_clean"])
        return cls(**{**values, "class_names": names, "kept_clean": clean})


def open_source(
    spec: str,
    *,
    config: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    keep: Sequence[str] = (),
    keep_clean: Sequence[str] = (),
    ours_too: bool = False,
    split: str | None = None,
    looked_at: str | None = None,
) -> Source:
    """The source that a person means by `spec`, found and pinned.

    `spec` is a local folder (Parquet, class folders of images, WebDataset tars), a Hub id
    org/name[@revision] (or hf://datasets/org/name[@revision]), or sample:NAME. Raises InputError
    where nothing is there, it holds no images, a named column or configuration does not exist, or
    it is itself one of our releases, unless `ours_too`. What its columns are is found from all
    splits, or from the one that is `looked_at`; the classes of an image folder from `split` (train
    by default), and others that are laid out alike.
    """
    found = discover(spec, config, ours_too=ours_too)
    wanted = _Wanted(image_column, label_column, tuple(keep), tuple(keep_clean), split)
    seen = found if looked_at is None else found.only(looked_at)
    chosen = _CHOOSE[found.kind](seen, wanted)
    return Source(
        spec=spec,
        kind=found.kind,
        pin=found.pin(),
        config=config,
        splits=found.splits,
        image_column=chosen.columns.image,
        label_column=chosen.columns.label,
        class_names=chosen.columns.class_names,
        kept=chosen.columns.kept,
        kept_clean=wanted.keep_clean,
        tar_image=chosen.tar_image,
        tar_label=chosen.tar_label,
        other_configs=[name for name in found.configs if name != found.config],
        dropped=sorted(set(chosen.present) - {*chosen.columns.features(), *chosen.in_tars()}),
        license=found.fact("license"),
        pretty_name=found.fact("pretty_name"),
        citation=found.citation(),
        unread=found.unread,
    )


def protected_split(source: Source, asked: str | None) -> str:
    """The split that is protected: the one asked for, else train, else the only one; InputError
    where that says none."""
    if asked is not None:
        return known_split(source, "--split", asked)
    if "train" in source.splits:
        return "train"
    if len(source.splits) == 1:
        return next(iter(source.splits))
    raise InputError(
        f"{source.spec} has no split train: choose one with --split ({', '.join(source.splits)})"
    )


def known_split(source: Source, option: str, name: str) -> str:
    """`name`, a split of the source; InputError names those there are."""
    if name not in source.splits:
        raise InputError(
            f"{source.spec} has no split {name!r} ({option}): it has {', '.join(source.splits)}"
        )
    return name


def test_splits_of(source: Source, protected: str) -> list[str]:
    """The splits that victims may be scored on where nobody names one, the likeliest first."""
    return [name for name in ("test", "validation") if name in source.splits and name != protected]


@dataclass(frozen=True)
class _Wanted:
    """The columns a person named, and the split to protect."""

    image: str | None
    label: str | None
    keep: tuple[str, ...]
    keep_clean: tuple[str, ...]
    split: str | None

    def kept(self, features: Features, *used: str | None) -> dict[str, Any]:
        return kept_columns(features, used, self.keep, self.keep_clean)


@dataclass(frozen=True)
class _Chosen:
    """The columns of a release, and the names of all that the source has."""

    columns: Columns
    present: Sequence[str]
    tar_image: str | None = None
    tar_label: str | None = None

    def in_tars(self) -> tuple[str | None, ...]:
        """What image and label are called in tars."""
        images = readers.IMAGE_EXTENSIONS if self.tar_image is None else (self.tar_image,)
        return (*images, self.tar_label)


def _in_parquet(found: Found, wanted: _Wanted) -> _Chosen:
    files = found.files()
    features = found.features or Features.from_arrow_schema(readers.parquet_schema(files[0]))
    image, label = find_image(features, wanted.image), find_label(features, wanted.label)
    names = declared_classes(features, label)
    if names is None:
        assert label is not None
        names = classes_of_numbers(readers.parquet_labels(files, label), label)
    return _Chosen(Columns(image, label, names, wanted.kept(features, image, label)), [*features])


def _in_folders(found: Found, wanted: _Wanted) -> _Chosen:
    names = class_folders(found.spec, found.root, found.splits, wanted.split)
    features = Columns("image", "label" if names else None, names).features()
    image, label = find_image(features, wanted.image), find_label(features, wanted.label)
    return _Chosen(Columns(image, label, names, wanted.kept(features, image, label)), [*features])


def _in_tars(found: Found, wanted: _Wanted) -> _Chosen:
    """In the release a tar's image and label are called image and label, since their names in the
    tar are file extensions; the fields of its `.json` can be kept."""
    files, declared = found.files(), found.features or Features()
    there, values = readers.first_sample(files[0])
    pictures = readers.IMAGE_EXTENSIONS if wanted.image is None else (wanted.image,)
    _demand_file(found, pictures, there, "image")
    extension = wanted.label or find_label(declared, None) or ("cls" if "cls" in there else None)
    names: tuple[str, ...] = ()
    if extension is not None:
        _demand_file(found, (extension,), there, "label")
        known = declared_classes(declared, extension) if extension in declared else None
        names = known or classes_of_numbers(readers.tar_labels(files, extension), extension)
    label = None if extension is None else "label"
    features = Columns("image", label, names, readers.json_features(values)).features()
    kept = wanted.kept(features, "image", label)
    present = [name for name in (*there, *values) if name != "json"]
    return _Chosen(Columns("image", label, names, kept), present, wanted.image, extension)


def _demand_file(found: Found, extensions: Sequence[str], there: Sequence[str], role: str) -> None:
    if not set(extensions) & set(there):
        raise InputError(
            f"the tars of {found.spec} hold no {role} file (.{', .'.join(extensions)}): they hold "
            f".{', .'.join(there)}; name one with --{role}-column"
        )


_CHOOSE: dict[Kind, Callable[[Found, _Wanted], _Chosen]] = {
    "parquet": _in_parquet,
    "imagefolder": _in_folders,
    "webdataset": _in_tars,
}
