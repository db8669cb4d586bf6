"""Finished shards: Parquet and WebDataset files that never change once they have their name.

    data/SPLIT/r0001-00000.parquet         webdataset/SPLIT/r0001-00000.tar
    records/SPLIT/r0001-00000.json         written last: this shard is whole

Cuts depend on the plan alone, never on who does the work.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features, Image
from datasets import config as datasets_config
from datasets.arrow_writer import get_parquet_column_options

from release.columns import Columns
from release.encode import Encoding
from release.errors import InputError, ShardCorrupt, StorageError
from release.readers import batch_rows, sample_json
from release.tars import contents, tar_samples

FIRST_RELEASE = "r0001"
FORMATS = ("parquet", "webdataset")
_LARGEST = 256 << 20
_FEWEST = 16
_MULTIPLE = 64
_GROUP_BYTES = 32 << 20
_GROUP_ROWS = 1000


@dataclass(frozen=True)
class ShardSpec:
    """Rows start..stop of what a release adds, counted from 0, as one shard."""

    index: int
    start: int
    stop: int
    release: str = FIRST_RELEASE


def cut(num_rows: int, rows_per_shard: int, release: str = FIRST_RELEASE) -> list[ShardSpec]:
    """The shards of rows 0..num_rows, in order."""
    starts = range(0, num_rows, rows_per_shard)
    return [
        ShardSpec(index, start, min(start + rows_per_shard, num_rows), release)
        for index, start in enumerate(starts)
    ]


def default_rows_per_shard(num_rows: int, bytes_per_row: int) -> int:
    """Rows, a multiple of 64, that make about 16 shards (to share out and to resume at) of about
    256 MiB or less each; fewer shards of few rows, and fewer rows of more than 4 MiB each."""
    most = max(1, _LARGEST // max(1, bytes_per_row))
    rows = min(-(-num_rows // _FEWEST), most)
    in_batches = -(-rows // _MULTIPLE) * _MULTIPLE
    return in_batches if most >= _MULTIPLE else min(in_batches, most)


@dataclass(frozen=True)
class ReleasedRow:
    """One row as it is published: `key` names it (no dot, ends in its number), `image` is the
    lossless file."""

    row: int
    key: str
    image: bytes
    label: int | None
    kept: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardFile:
    """A published file, by its path within the release."""

    path: str
    sha256: str
    num_bytes: int
    num_rows: int
    format: str


@dataclass(frozen=True)
class ShardRecord:
    """A finished shard: its files, its rows in order by their number in the dataset, and what was
    measured on them. start and stop are its spec's."""

    index: int
    start: int
    stop: int
    rows: tuple[int, ...]
    files: tuple[ShardFile, ...]
    measured: Mapping[str, Any]
    seconds: float

    def of_format(self, name: str) -> list[ShardFile]:
        """Its files in one format."""
        return [file for file in self.files if file.format == name]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ShardRecord:
        files = tuple(ShardFile(**file) for file in values["files"])
        return cls(**{**values, "rows": tuple(values["rows"]), "files": files})


def shard_path(name: str, split: str, index: int, release: str = FIRST_RELEASE) -> str:
    """Where the shard's file of format `name` lies within a release."""
    if name == "parquet":
        return f"data/{split}/{release}-{index:05d}.parquet"
    return f"webdataset/{split}/{release}-{index:05d}.tar"


def _record_path(folder: Path, split: str, shard: ShardSpec) -> Path:
    return folder / f"records/{split}/{shard.release}-{shard.index:05d}.json"


def write_shard(
    folder: Path,
    shard: ShardSpec,
    rows: Iterable[ReleasedRow],
    *,
    columns: Columns,
    split: str,
    formats: Sequence[str],
    encoding: Encoding,
    measured: Callable[[], Mapping[str, Any]],
    started: float,
) -> ShardRecord:
    """The shard's files are in `folder`, one per format, and its record says so, with what was
    measured on the rows once all of them are written. Rows are taken one by one; `started` is
    when that began, by time.monotonic.

    StorageError where they cannot be written; nothing then has a final name that is not whole.
    """
    paths = {name: shard_path(name, split, shard.index, shard.release) for name in formats}
    with _written({name: folder / path for name, path in paths.items()}, columns, encoding) as add:
        # A loop would hold each row, which may be large, until the next one is made.
        released = tuple(map(add, rows))
    files = tuple(_described(folder, path, name, len(released)) for name, path in paths.items())
    seconds = round(time.monotonic() - started, 3)
    record = ShardRecord(shard.index, shard.start, shard.stop, released, files, measured(), seconds)
    with _whole(_record_path(folder, split, shard)) as making:
        making.write_text(json.dumps(record.to_json()))
    return record


def finished(folder: Path, split: str, shard: ShardSpec) -> ShardRecord | None:
    """The record of a shard whose files are all there in their size, else None."""
    path = _record_path(folder, split, shard)
    if not path.exists():
        return None
    record = ShardRecord.from_json(json.loads(path.read_text()))
    whole = all(_has_size(folder / file.path, file.num_bytes) for file in record.files)
    same = (record.start, record.stop) == (shard.start, shard.stop)
    return record if whole and same else None


def _has_size(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def write_parquet(
    folder: Path, path: str, rows: Iterable[ReleasedRow], columns: Columns, encoding: Encoding
) -> ShardFile:
    """One Parquet file of these rows is at `folder`/`path`."""
    return _write_alone("parquet", folder, path, rows, columns, encoding)


def write_webdataset(
    folder: Path, path: str, rows: Iterable[ReleasedRow], columns: Columns, encoding: Encoding
) -> ShardFile:
    """One tar of these rows is at `folder`/`path`."""
    return _write_alone("webdataset", folder, path, rows, columns, encoding)


def _write_alone(
    name: str,
    folder: Path,
    path: str,
    rows: Iterable[ReleasedRow],
    columns: Columns,
    encoding: Encoding,
) -> ShardFile:
    with _written({name: folder / path}, columns, encoding) as add:
        count = sum(1 for _ in map(add, rows))
    return _described(folder, path, name, count)


Add = Callable[[ReleasedRow], None]


@contextmanager
def _written(
    paths: Mapping[str, Path], columns: Columns, encoding: Encoding
) -> Iterator[Callable[[ReleasedRow], int]]:
    """Every row that is added, whose number is told, is in each of these files, by format; they get
    their names together, once all of them are whole and the context ends well."""
    with ExitStack() as whole:
        makings = [whole.enter_context(_whole(path)) for path in paths.values()]
        adds: dict[Path, Add] = {}
        for (name, path), making in zip(paths.items(), makings, strict=True):
            whole.enter_context(_in_words(path))
            adds[path] = whole.enter_context(_WRITERS[name](making, columns, encoding))

        def add(row: ReleasedRow) -> int:
            for path, add_to in adds.items():
                with _in_words(path):
                    add_to(row)
            return row.row

        yield add


@contextmanager
def _parquet(making: Path, columns: Columns, encoding: Encoding) -> Iterator[Add]:
    """A Parquet file as `datasets` itself writes it (schema, column options, content-defined
    chunks, page index), with the same bytes for the same rows."""
    features = columns.features()
    schema, chunking = features.arrow_schema, datasets_config.DEFAULT_CDC_OPTIONS
    options = get_parquet_column_options(features, schema)
    with pq.ParquetWriter(
        making, schema, write_page_index=True, use_content_defined_chunking=chunking, **options
    ) as file:
        file.add_key_value_metadata({"content_defined_chunking": json.dumps(chunking)})
        groups = _RowGroups(file, columns, encoding)
        yield groups.add
        groups.flush()


@dataclass
class _RowGroups:
    """Rows are written in groups small enough to be read one at a time by a stream or the Hub's
    viewer."""

    file: pq.ParquetWriter
    columns: Columns
    encoding: Encoding
    _group: list[ReleasedRow] = field(default_factory=list)
    _bytes: int = 0

    def add(self, row: ReleasedRow) -> None:
        self._group.append(row)
        self._bytes += len(row.image)
        if self._bytes >= _GROUP_BYTES or len(self._group) == _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """No row is left to be written."""
        if self._group:
            values = [_as_values(row, self.columns, self.encoding) for row in self._group]
            self._group, self._bytes = [], 0
            self.file.write_table(pa.Table.from_pylist(values, schema=self.file.schema))


def _as_values(row: ReleasedRow, columns: Columns, encoding: Encoding) -> dict[str, Any]:
    image = {"bytes": row.image, "path": f"{row.key}.{encoding}"}
    labelled = {} if columns.label is None else {columns.label: row.label}
    return {columns.image: image} | labelled | {name: row.kept.get(name) for name in columns.kept}


@contextmanager
def _tar(making: Path, columns: Columns, encoding: Encoding) -> Iterator[Add]:
    """A tar of KEY.png (or .webp), KEY.cls and, where there are kept columns, KEY.json, with the
    same bytes for the same rows."""
    from webdataset import TarWriter  # loads torch, which readers of this module may not need

    with TarWriter(str(making), encoder=False, mtime=0, user="", group="") as tar:
        yield lambda row: tar.write(_as_sample(row, columns, encoding))


def _as_sample(row: ReleasedRow, columns: Columns, encoding: Encoding) -> dict[str, Any]:
    sample: dict[str, Any] = {"__key__": row.key, encoding: row.image}
    if columns.label is not None:
        sample["cls"] = str(row.label).encode()
    if columns.kept:
        kept = {name: row.kept.get(name) for name in columns.kept}
        sample["json"] = json.dumps(kept, default=_as_text).encode()
    return sample


_WRITERS = {"parquet": _parquet, "webdataset": _tar}


def _as_text(value: Any) -> str:
    """A value that JSON has no type for; only columns kept at the owner's word hold such."""
    return b64encode(value).decode() if isinstance(value, bytes) else str(value)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """What is written under the temporary name that this yields is at `path`, and on the disk.
    Whoever writes it next, after a process that was killed, takes the same name."""
    making = path.with_name(f".{path.name}.part")
    try:
        with _in_words(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield making
            with open(making, "rb") as file:
                os.fsync(file.fileno())
            making.replace(path)
    finally:
        making.unlink(missing_ok=True)


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as problem:
        raise StorageError(
            f"{path} could not be written ({problem.strerror or problem}): make room, then run the "
            "same command again; finished shards are kept"
        ) from None


def _described(folder: Path, path: str, name: str, num_rows: int) -> ShardFile:
    digest, num_bytes = sha256(folder / path), (folder / path).stat().st_size
    return ShardFile(path, digest, num_bytes, num_rows, name)


def sha256(path: Path) -> str:
    """The hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_shard(path: Path) -> Iterator[ReleasedRow]:
    """The rows of a finished shard of either format; ShardCorrupt where it is not one."""
    return read_parquet(path) if path.suffix == ".parquet" else read_webdataset(path)


def read_parquet(path: Path) -> Iterator[ReleasedRow]:
    """The rows of a finished Parquet shard, in order; ShardCorrupt where it is not one."""
    try:
        with pq.ParquetFile(path, pre_buffer=False) as parquet:  # one row group at a time
            features = Features.from_arrow_schema(parquet.schema_arrow)
            image = next(name for name, f in features.items() if isinstance(f, Image))
            label = next((name for name, f in features.items() if isinstance(f, ClassLabel)), None)
            few = min(64, batch_rows(parquet.metadata))
            for batch in parquet.iter_batches(batch_size=few, use_threads=False):
                for values in batch.to_pylist():
                    yield _from_values(values, image, label)
    except (pa.ArrowInvalid, StopIteration, OSError) as problem:
        raise ShardCorrupt(f"{path} is no readable shard ({problem}): make it again") from None


def _from_values(values: dict[str, Any], image: str, label: str | None) -> ReleasedRow:
    stored = values.pop(image)
    number = None if label is None else values.pop(label)
    return _released(stored["path"].rpartition(".")[0], stored["bytes"], number, values)


def _released(key: str, image: bytes, label: int | None, kept: Mapping[str, Any]) -> ReleasedRow:
    return ReleasedRow(int(key.rpartition("-")[2]), key, image, label, kept)


def read_webdataset(path: Path) -> Iterator[ReleasedRow]:
    """The rows of a finished tar shard, in order; ShardCorrupt where it is not one."""
    try:
        for tar, members in tar_samples(str(path)):
            files = {name: contents(tar, member) for name, member in members.items()}
            key = next(iter(members.values())).name.partition(".")[0]
            image = files.get("png") or files.get("webp") or b""
            label = int(files["cls"]) if "cls" in files else None
            yield _released(key, image, label, sample_json(tar, members))
    except (InputError, ValueError, OSError) as problem:
        raise ShardCorrupt(f"{path} is no readable shard ({problem}): make it again") from None
