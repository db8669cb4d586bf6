"""The rows of one split's files, in order: Parquet, a folder of images, tars.

Images are handed over as they are in the file: a damaged one is for the survey to find, and ends
no iteration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from release.errors import InputError
from release.files import open_file, too_large
from release.tars import LARGEST_NOTE, Members, Tar, contents, tar_samples
from release.threads import in_order

IMAGE_EXTENSIONS = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff")
_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Row:
    """One row of a source: its number within the split, the image file's bytes (empty where there
    is none), the label as given, the kept columns' values, and why the image was not read, if it
    was there."""

    number: int
    image: bytes
    label: int | None
    kept: Mapping[str, Any] = field(default_factory=dict)
    problem: str | None = None


class _Image(NamedTuple):
    """The bytes of an image file, and why they were not read."""

    data: bytes
    problem: str | None = None


def file_size(row: Row) -> int:
    """The size in bytes of a row's image file."""
    return len(row.image)


@dataclass(frozen=True)
class Fields:
    """What to read of each row: column names, or a tar's file extensions (image None: any)."""

    image: str | None
    label: str | None
    kept: tuple[str, ...] = ()


def parquet_rows(files: Sequence[str], fields: Fields, start: int, stop: int) -> Iterator[Row]:
    """Rows start..stop of Parquet files laid end to end; groups before `start` are not read.

    Reads one batch at a time and on this thread: a `datasets` stream, or pyarrow with
    pre-buffering, that is stopped early leaves Arrow threads behind that read a Python file and
    abort or hang the process as it exits (apache/arrow#45214).
    """
    first = 0
    for url in files:
        if first >= stop:
            return
        with _parquet(url) as parquet:
            yield from _one_parquet(parquet, url, fields, first, start, stop)
            first += parquet.metadata.num_rows


@contextmanager
def _parquet(url: str) -> Iterator[Any]:
    with open_file(url) as file:
        try:
            # Buffered, so that a row group larger than memory is never read at once. Pre-buffering
            # (the default) reads ahead on Arrow's threads: see `parquet_rows`.
            yield pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as error:
            raise _damaged(url, error) from None
        except OSError as error:
            if type(error) is OSError and error.errno is None:  # Arrow's own, of a page it read
                raise _damaged(url, error) from None
            raise


def _damaged(url: str, error: Exception) -> InputError:
    return InputError(
        f"{url} is no readable Parquet file ({' '.join(str(error).split())}): write it again"
    )


def _one_parquet(
    parquet: Any, url: str, fields: Fields, first: int, start: int, stop: int
) -> Iterator[Row]:
    groups, at = _groups(parquet.metadata, first, start, stop)
    names = [fields.image, fields.label, *fields.kept]
    lost = [name for name in names if name and name not in parquet.schema_arrow.names]
    if lost:
        raise InputError(f"{url} has no column {lost[0]!r}, which other files of the source have")
    batches = parquet.iter_batches(
        batch_size=batch_rows(parquet.metadata),
        row_groups=groups,
        columns=[name for name in names if name is not None],
        use_threads=False,
    )
    for batch in batches if groups else ():
        low, high = max(start - at, 0), min(stop - at, batch.num_rows)
        if low < high:
            yield from _batch_rows_of(batch.slice(low, high - low), url, fields, at + low)
        at += batch.num_rows
        if at >= stop:
            return


def _groups(metadata: Any, first: int, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that overlap start..stop, and the number of the first row in them."""
    groups: list[int] = []
    began = at = first
    for group in range(metadata.num_row_groups):
        after = at + metadata.row_group(group).num_rows
        if after > start and at < stop:
            began = began if groups else at
            groups.append(group)
        at = after
    return groups, began


def batch_rows(metadata: Any) -> int:
    """How many rows of a Parquet file to hold at once: about 16 MiB."""
    groups = range(metadata.num_row_groups)
    size = sum(int(metadata.row_group(group).total_byte_size) for group in groups)
    return max(1, min(1024, _BATCH_BYTES * int(metadata.num_rows) // max(1, size)))


def _batch_rows_of(batch: pa.RecordBatch, url: str, fields: Fields, number: int) -> Iterator[Row]:
    images = batch.column(fields.image).to_pylist()
    labels = batch.column(fields.label).to_pylist() if fields.label else [None] * len(images)
    kept = batch.select(list(fields.kept)).to_pylist() if fields.kept else [{}] * len(images)
    for offset, (image, label, values) in enumerate(zip(images, labels, kept, strict=True)):
        found = _stored_image(image, url, number + offset)
        yield Row(number + offset, found.data, label, values, found.problem)


def _stored_image(stored: Any, url: str, row: int) -> _Image:
    """What an Image column's value holds, or names; InputError where it names a file elsewhere than
    beside the Parquet file, which may be no part of the dataset."""
    if isinstance(stored, dict):
        stored = stored.get("bytes") or stored.get("path")
    if not isinstance(stored, str):
        return _Image(stored or b"")
    if _leads_out(stored):
        raise InputError(
            f"row {row} of its split in {url} names the image {stored!r}, which does not lie "
            "beside that file: put the images into it (Dataset.push_to_hub does), or beside it and "
            "name them from there"
        )
    return _read(os.path.join(os.path.dirname(url), stored))


def _leads_out(path: str) -> bool:
    """Whether a path is none within the folder that it is relative to."""
    plain = path.replace("\\", "/")  # as systems of another kind read it
    is_whole = "://" in path or plain.startswith("/") or "\0" in path
    return is_whole or os.path.normpath(plain).split("/")[0] == ".."


def parquet_num_rows(files: Sequence[str]) -> int:
    """How many rows the files' own metadata counts."""
    total = 0
    for url in files:
        with _parquet(url) as parquet:
            total += parquet.metadata.num_rows
    return total


def parquet_schema(url: str) -> pa.Schema:
    """The Arrow schema of one file."""
    with _parquet(url) as parquet:
        return parquet.schema_arrow


def parquet_labels(files: Sequence[str], column: str) -> Generator[int | None, None, None]:
    """Every row's value in a column of whole numbers."""
    for url in files:
        with _parquet(url) as parquet:
            for batch in parquet.iter_batches(columns=[column], use_threads=False):
                yield from batch.column(0).to_pylist()


def folder_rows(
    files: Sequence[str], class_names: Sequence[str], start: int, stop: int
) -> Iterator[Row]:
    """One row per image file, in the order given, labelled by its folder if there are classes."""
    numbers = {name: number for number, name in enumerate(class_names)}
    chosen = files[start:stop]
    images = in_order(_read, chosen, threads=8, ahead=32, size=_size_on_disk)
    for number, (url, image) in enumerate(zip(chosen, images, strict=True), start):
        label = numbers.get(class_folder(url))
        yield Row(number, image.data, label, problem=image.problem)


def class_folder(url: str) -> str:
    """What the folder of an image is called."""
    return PurePosixPath(url).parent.name


def tar_rows(files: Sequence[str], fields: Fields, start: int, stop: int) -> Iterator[Row]:
    """Rows start..stop of WebDataset tars laid end to end; skipped rows' files are not read."""
    number = 0
    for url in files:
        for tar, members in tar_samples(url):
            if number >= stop:
                return
            if number >= start:
                yield _tar_row(tar, members, fields, number)
            number += 1


def tar_num_rows(files: Sequence[str]) -> int:
    """How many samples the tars' headers show."""
    return sum(1 for url in files for _ in tar_samples(url))


def tar_labels(files: Sequence[str], extension: str) -> Generator[int | None, None, None]:
    """Every sample's whole-number label."""
    for url in files:
        for tar, members in tar_samples(url):
            yield _whole_number(_note(tar, members, extension))


def _tar_row(tar: Tar, members: Members, fields: Fields, number: int) -> Row:
    image = members.get(fields.image or only_image(members))
    problem = None if image is None else too_large(image.size)
    data = b"" if image is None or problem else contents(tar, image)
    label = _whole_number(_note(tar, members, fields.label)) if fields.label else None
    return Row(number, data, label, _json_fields(tar, members, fields.kept), problem)


def only_image(members: Members) -> str:
    """The extension of a sample's image, empty where it has none; InputError where it has several,
    since nobody has said which."""
    images = [extension for extension in members if extension in IMAGE_EXTENSIONS]
    if len(images) > 1:
        name = members[images[0]].name
        raise InputError(
            f"the sample of {name} has several images (.{', .'.join(images)}): say with "
            "--image-column which is protected; the others are not published"
        )
    return images[0] if images else ""


def _note(tar: Tar, members: Members, extension: str) -> bytes | None:
    return contents(tar, members[extension], LARGEST_NOTE) if extension in members else None


def _whole_number(text: bytes | None) -> int | None:
    try:
        return None if text is None else int(text)
    except ValueError:
        return None  # as good as no label: the survey quarantines the row


def _json_fields(tar: Tar, members: Members, names: Sequence[str]) -> dict[str, Any]:
    values = sample_json(tar, members) if names else {}
    return {name: values.get(name) for name in names}


def sample_json(tar: Tar, members: Members) -> dict[str, Any]:
    """The object in a sample's `.json` file; empty where there is none."""
    text = _note(tar, members, "json")
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        raise InputError(f"{members['json'].name} is not JSON: mend the tar") from None
    return values if isinstance(values, dict) else {}


def within(root: str, url: str) -> str:
    """A file's path within its dataset, with forward slashes."""
    return os.path.relpath(url, root).replace(os.sep, "/")


def _read(url: str) -> _Image:
    try:
        with open_file(url) as file:
            size = file.seek(0, os.SEEK_END)
            if problem := too_large(size):
                return _Image(b"", problem)
            file.seek(0)
            return _Image(file.read(size))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError):
        return _Image(b"")  # as good as no image: the survey quarantines the row


def _size_on_disk(url: str) -> int:
    """Of a file on the Hub 4 MiB, since to ask takes as long as to read it."""
    if url.startswith("hf://"):
        return 4 << 20
    try:
        return os.stat(url).st_size
    except OSError:
        return 0  # as good as no image


def first_sample(url: str) -> tuple[list[str], dict[str, Any]]:
    """The extensions of a tar's first sample, and the object in its `.json` file."""
    for tar, members in tar_samples(url):
        return list(members), sample_json(tar, members)
    raise InputError(f"{url} holds no samples named KEY.EXTENSION")


def json_features(values: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a JSON object's fields, as `Features.to_dict` writes them."""
    features: dict[str, Any] = Features.from_arrow_schema(
        pa.Table.from_pylist([dict(values)]).schema
    ).to_dict()
    return features
