"""Shards that real readers read, the same bytes each time, whole or not there."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset
from source_files import NAMES, picture

from release import shards
from release.columns import Columns
from release.encode import Encoding, encode
from release.errors import ShardCorrupt, StorageError
from release.shards import ReleasedRow, ShardSpec, cut, default_rows_per_shard, finished
from release.source import Source, open_source

KEPT = Features({"age": Value("int64"), "note": Value("string")})
COLUMNS = Columns("img", "label", NAMES, KEPT.to_dict())


def released(
    rows: range, encoding: Encoding = "png", size: tuple[int, int] = (8, 8)
) -> list[ReleasedRow]:
    return [
        ReleasedRow(
            row,
            f"train-{row:08d}",
            encode(np.asarray(picture(row, size=size)), encoding),
            row % 3,
            {"age": row, "note": f"beast {row}"},
        )
        for row in rows
    ]


@pytest.mark.parametrize("num_rows", [1, 63, 64, 1000, 50_000, 3_000_000])
@pytest.mark.parametrize("bytes_per_row", [784, 3072, 150_528, 40_000_000])
def test_cuts_hold_every_row_once_in_shards_of_a_bearable_size(
    num_rows: int, bytes_per_row: int
) -> None:
    size = default_rows_per_shard(num_rows, bytes_per_row)
    if 64 * bytes_per_row <= 256 << 20:
        assert size % 64 == 0
        assert size == 64 or (size - 64) * bytes_per_row < 256 << 20
    else:
        assert size == 1 or size * bytes_per_row <= 256 << 20
    shards = cut(num_rows, size)
    assert [row for s in shards[:3] for row in range(s.start, s.stop)] == list(
        range(min(num_rows, 3 * size))
    )
    assert shards[-1].stop == num_rows
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert len(shards) >= min(8, num_rows // 64)


def test_load_dataset_reads_parquet_shards(tmp_path: Path) -> None:
    for part, rows in enumerate((range(3), range(3, 5))):
        path = shards.shard_path("parquet", "train", part)
        shards.write_parquet(tmp_path, path, released(rows), COLUMNS, "png")
    data = load_dataset(str(tmp_path), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.features == Features(
        {"img": Image(), "label": ClassLabel(names=list(NAMES)), **KEPT}
    )
    assert data["age"] == list(range(5))
    assert data["note"][4] == "beast 4"
    for row in range(5):
        np.testing.assert_array_equal(np.asarray(data[row]["img"]), np.asarray(picture(row)))
    stored = data.cast_column("img", Image(decode=False))[3]["img"]
    assert stored["path"] == "train-00000003.png"


def test_a_stream_reads_parquet_shards(tmp_path: Path) -> None:
    shards.write_parquet(tmp_path, "data/train/r.parquet", released(range(4)), COLUMNS, "png")
    stream = load_dataset(str(tmp_path), split="train", streaming=True)
    assert [row["label"] for row in stream] == [0, 1, 2, 0]


def test_a_row_group_is_byte_for_byte_what_datasets_writes(tmp_path: Path) -> None:
    rows = released(range(60), size=(80, 80))
    shards.write_parquet(tmp_path, "ours.parquet", rows, COLUMNS, "png")
    values = [
        {"img": {"bytes": row.image, "path": f"{row.key}.png"}, "label": row.label, **row.kept}
        for row in rows
    ]
    theirs = Dataset.from_list(values, features=COLUMNS.features())
    theirs.to_parquet(tmp_path / "theirs.parquet")
    ours = (tmp_path / "ours.parquet").read_bytes()
    assert len(ours) > 3 * datasets.config.DEFAULT_CDC_OPTIONS["min_chunk_size"]
    assert ours == (tmp_path / "theirs.parquet").read_bytes()


def test_parquet_is_laid_out_as_the_hub_wants_it(tmp_path: Path) -> None:
    shards.write_parquet(tmp_path, "s.parquet", released(range(2500)), COLUMNS, "png")
    metadata = pq.read_metadata(tmp_path / "s.parquet")
    assert [metadata.row_group(n).num_rows for n in range(3)] == [1000, 1000, 500]
    assert {b"huggingface", b"content_defined_chunking"} <= set(metadata.metadata)
    columns = {metadata.row_group(0).column(n).path_in_schema: n for n in range(5)}
    image = metadata.row_group(0).column(columns["img.bytes"])
    label = metadata.row_group(0).column(columns["label"])
    assert (image.compression, label.compression) == ("UNCOMPRESSED", "SNAPPY")
    assert image.has_offset_index


def test_large_images_make_small_row_groups(tmp_path: Path) -> None:
    rows = [ReleasedRow(row, f"t-{row}", bytes(9 << 20), 0, {}) for row in range(8)]
    columns = Columns("img", "label", NAMES)
    shards.write_parquet(tmp_path, "s.parquet", rows, columns, "png")
    assert pq.read_metadata(tmp_path / "s.parquet").num_row_groups == 2


# webdataset leaves the tar that it has read to the garbage collector to close.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_webdataset_reads_tar_shards(tmp_path: Path, encoding: Encoding) -> None:
    path = shards.shard_path("webdataset", "train", 0)
    shards.write_webdataset(tmp_path, path, released(range(3), encoding), COLUMNS, encoding)
    data = webdataset.WebDataset(str(tmp_path / path), shardshuffle=False).decode("rgb8")
    samples = list(data)
    assert [sample["__key__"] for sample in samples] == [f"train-{row:08d}" for row in range(3)]
    assert [sample["cls"] for sample in samples] == [0, 1, 2]
    assert samples[1]["json"] == {"age": 1, "note": "beast 1"}
    np.testing.assert_array_equal(samples[2][encoding], np.asarray(picture(2)))


def test_load_dataset_reads_tar_shards(tmp_path: Path) -> None:
    shards.write_webdataset(tmp_path, "webdataset/train/r.tar", released(range(3)), COLUMNS, "png")
    data = load_dataset(str(tmp_path), split="train", streaming=True)
    rows = list(data)
    assert [row["cls"] for row in rows] == [0, 1, 2]
    np.testing.assert_array_equal(np.asarray(rows[1]["png"]), np.asarray(picture(1)))


@pytest.mark.parametrize("write", [shards.write_parquet, shards.write_webdataset])
def test_the_bytes_depend_on_the_rows_alone(tmp_path: Path, write: Any) -> None:
    first = write(tmp_path, "a", released(range(70)), COLUMNS, "png")
    again = write(tmp_path, "b/c", iter(released(range(70))), COLUMNS, "png")
    other = write(tmp_path, "d", released(range(1, 71)), COLUMNS, "png")
    assert first.sha256 == again.sha256 != other.sha256
    assert (first.num_rows, first.num_bytes) == (70, (tmp_path / "a").stat().st_size)
    assert b"webdataset" not in (tmp_path / "a").read_bytes()[:1024]


@pytest.mark.parametrize("name", ["parquet", "webdataset"])
@pytest.mark.parametrize("labelled", [True, False])
def test_rows_are_read_back_as_they_were_written(tmp_path: Path, name: str, labelled: bool) -> None:
    columns = COLUMNS if labelled else Columns("img", None)
    rows = released(range(7, 12))
    if not labelled:
        rows = [ReleasedRow(row.row, row.key, row.image, None) for row in rows]
    write = shards.write_parquet if name == "parquet" else shards.write_webdataset
    path = shards.shard_path(name, "train", 0)
    write(tmp_path, path, rows, columns, "png")
    assert list(shards.read_shard(tmp_path / path)) == rows


def test_bytes_kept_at_the_owners_word_fit_into_json(tmp_path: Path) -> None:
    columns = Columns("img", None, (), Features({"raw": Value("binary")}).to_dict())
    row = ReleasedRow(0, "t-0", b"x", None, {"raw": b"\xff"})
    shards.write_webdataset(tmp_path, "s.tar", [row], columns, "png")
    assert next(shards.read_webdataset(tmp_path / "s.tar")).kept == {"raw": "/w=="}


@pytest.mark.parametrize("name", ["s.parquet", "s.tar"])
@pytest.mark.parametrize("damage", ["junk", "cut"])
def test_a_damaged_shard_is_named(tmp_path: Path, name: str, damage: str) -> None:
    write = shards.write_parquet if name == "s.parquet" else shards.write_webdataset
    write(tmp_path, name, released(range(5)), COLUMNS, "png")
    path = tmp_path / name
    path.write_bytes(b"junk" * 300 if damage == "junk" else path.read_bytes()[:700])
    with pytest.raises(ShardCorrupt, match=rf"{name} is no readable shard"):
        list(shards.read_shard(path))


@pytest.fixture
def source(parquet: Path) -> Source:
    return open_source(str(parquet), keep=["age"])


def write(folder: Path, source: Source, shard: ShardSpec) -> shards.ShardRecord:
    return shards.write_shard(
        folder,
        shard,
        released(range(shard.start, shard.stop)),
        columns=source.columns,
        split="train",
        formats=["parquet", "webdataset"],
        encoding="png",
        measured=lambda: {"psnr": 31.5},
        started=time.monotonic(),
    )


def test_a_finished_shard_has_a_record_beside_its_files(tmp_path: Path, source: Source) -> None:
    shard = ShardSpec(2, 4, 9)
    assert finished(tmp_path / "out", "train", shard) is None
    record = write(tmp_path / "out", source, shard)
    assert finished(tmp_path / "out", "train", shard) == record
    assert record.rows == (4, 5, 6, 7, 8)
    assert record.measured == {"psnr": 31.5}
    assert [file.path for file in record.files] == [
        "data/train/r0001-00002.parquet",
        "webdataset/train/r0001-00002.tar",
    ]
    assert [file.format for file in record.of_format("webdataset")] == ["webdataset"]
    table = pq.read_table(tmp_path / "out/data/train/r0001-00002.parquet")
    assert table.column_names == ["img", "label", "age"]


def test_a_shard_is_not_finished_where_a_file_is_gone_cut_or_of_other_rows(
    tmp_path: Path, source: Source
) -> None:
    shard = ShardSpec(0, 0, 5)
    record = write(tmp_path, source, shard)
    assert finished(tmp_path, "train", ShardSpec(0, 0, 6)) is None
    assert finished(tmp_path, "test", shard) is None
    tar = tmp_path / record.files[1].path
    tar.write_bytes(tar.read_bytes()[:-1])
    assert finished(tmp_path, "train", shard) is None
    write(tmp_path, source, shard)
    (tmp_path / record.files[0].path).unlink()
    assert finished(tmp_path, "train", shard) is None


def test_a_row_that_is_written_is_held_no_longer(tmp_path: Path, source: Source) -> None:
    """Of photographs two of them would not fit in memory."""
    written: list[weakref.ref[ReleasedRow]] = []

    def rows() -> Iterator[ReleasedRow]:
        for row in range(4):
            assert not [each for each in written if each() is not None]
            (made,) = released(range(row, row + 1))
            written.append(weakref.ref(made))
            yield made
            del made

    record = shards.write_shard(
        tmp_path,
        ShardSpec(0, 0, 4),
        rows(),
        columns=source.columns,
        split="train",
        formats=["webdataset"],
        encoding="png",
        measured=dict,
        started=time.monotonic(),
    )
    assert record.rows == (0, 1, 2, 3)


def test_an_interrupted_write_leaves_nothing_with_a_final_name(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "_as_sample", broken)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, source, ShardSpec(0, 0, 3))
    assert finished(tmp_path, "train", ShardSpec(0, 0, 3)) is None
    assert not [path for path in tmp_path.rglob("*r0001*") if path.is_file()]


def test_a_full_disk_says_what_to_do_and_leaves_nothing_behind(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards._RowGroups, "flush", full)
    with pytest.raises(StorageError, match=r"r0001-00000\.parquet .*No space left.*same command"):
        write(tmp_path / "out", source, ShardSpec(0, 0, 3))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


def test_no_row_tells_where_it_came_from(tmp_path: Path, source: Source) -> None:
    record = write(tmp_path / "out", source, ShardSpec(0, 0, 3))
    data = b"".join((tmp_path / "out" / file.path).read_bytes() for file in record.files)
    assert str(tmp_path).encode() not in data
    assert b"train-00000-of-" not in data
    names = json.dumps(record.to_json())
    assert str(tmp_path) not in names
