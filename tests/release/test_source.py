"""Every kind of source is found, pinned, and read as the same numbered rows each time."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Value, load_dataset
from source_files import NAMES, picture, png, write_parquet_file, write_tar

from release.errors import InputError
from release.images import decode
from release.readers import Row
from release.source import Source, open_source
from release.tars import split_key, tar_samples


def rows_of(source: Source, split: str = "train", *span: int) -> list[Row]:
    return list(source.rows(split, *span))


def test_parquet_without_a_readme_is_read_in_order(parquet: Path) -> None:
    source = open_source(str(parquet))
    assert (source.kind, source.image_column, source.label_column) == ("parquet", "img", "label")
    assert source.class_names == NAMES
    assert (source.num_rows("train"), source.num_rows("test")) == (10, 3)
    rows = rows_of(source)
    assert [row.number for row in rows] == list(range(10))
    assert [row.image for row in rows] == [png(row) for row in range(10)]
    assert [row.label for row in rows] == [row % 3 for row in range(10)]
    assert all(row.kept == {} for row in rows)


@pytest.mark.parametrize("start", range(11))
@pytest.mark.parametrize("length", [1, 3, 10])
def test_any_span_of_parquet_rows_is_the_same_rows(parquet: Path, start: int, length: int) -> None:
    source = open_source(str(parquet))
    span = rows_of(source, "train", start, start + length)
    assert span == rows_of(source)[start : start + length]


def test_row_groups_before_the_start_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "groups"
    write_parquet_file(folder / "train.parquet", [png(row) for row in range(12)], [0] * 12)
    asked: list[list[int]] = []
    read = pq.ParquetFile.iter_batches

    def spy(self: Any, *args: Any, **more: Any) -> Any:
        asked.append(more["row_groups"])
        return read(self, *args, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    assert [row.number for row in rows_of(open_source(str(folder)), "train", 5, 7)] == [5, 6]
    assert asked == [[1]]


def test_a_readme_names_configurations_splits_and_facts(parquet: Path) -> None:
    (parquet / "README.md").write_text(
        "---\nlicense: cc-by-4.0\npretty_name: Three Beasts\nconfigs:\n"
        "- config_name: first\n  data_files: [{split: train, path: data/train-00000*}]\n"
        "- config_name: all\n  data_files: [{split: whole, path: data/train-*}]\n---\n"
        "# Beasts\n```bibtex\n@misc{beasts}\n```\n"
    )
    source = open_source(str(parquet), config="all")
    assert list(source.splits) == ["whole"]
    assert source.num_rows("whole") == 10
    assert list(source.other_configs) == ["first"]
    assert (source.license, source.pretty_name) == ("cc-by-4.0", "Three Beasts")
    assert source.citation == "@misc{beasts}"
    with pytest.raises(InputError, match=r"without --config.*first.*all"):
        open_source(str(parquet))
    with pytest.raises(InputError, match=r"'none'.*first.*all"):
        open_source(str(parquet), config="none")


def test_kept_columns_come_along(parquet: Path) -> None:
    source = open_source(str(parquet), keep=["age"])
    assert [row.kept for row in rows_of(source, "train", 5, 8)] == [{"age": n} for n in (5, 6, 7)]


def test_columns_of_numbers_label_too(parquet: Path) -> None:
    source = open_source(str(parquet), label_column="age")
    assert source.class_names == tuple(str(age) for age in range(10))
    assert [row.label for row in rows_of(source, "test")] == [1, 2, 3]


def test_images_beside_the_parquet_file_are_opened_and_missing_ones_are_empty(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "beside"
    write_parquet_file(folder / "train.parquet", [None] * 3, [0, 1, 2])
    table = pq.read_table(folder / "train.parquet")
    images = [{"bytes": None, "path": "pictures/a.png"}, {"bytes": None, "path": "gone.png"}, None]
    column = pa.array(images, table.schema.field("img").type)
    pq.write_table(table.set_column(0, "img", column), folder / "train.parquet")
    (folder / "pictures").mkdir()
    (folder / "pictures/a.png").write_bytes(png(1))
    card = "---\nconfigs: [{config_name: default, data_files: train.parquet}]\n---\n"
    (folder / "README.md").write_text(card)
    assert [row.image for row in rows_of(open_source(str(folder)))] == [png(1), b"", b""]


def test_a_binary_column_may_be_named_as_image(tmp_path: Path) -> None:
    pq.write_table(pa.table({"file": [png(0), png(1)]}), tmp_path / "train.parquet")
    source = open_source(str(tmp_path), image_column="file")
    assert [row.image for row in rows_of(source)] == [png(0), png(1)]
    assert source.label_column is None


def test_damaged_rows_end_nothing(tmp_path: Path) -> None:
    images = [png(0)[:30], b"junk", None, png(3)]
    write_parquet_file(tmp_path / "train.parquet", images, [0, 1, None, 2])
    rows = rows_of(open_source(str(tmp_path)))
    assert [row.image for row in rows] == [images[0], b"junk", b"", png(3)]
    assert [row.label for row in rows] == [0, 1, None, 2]


def test_class_folders_are_numbered_by_path_digest(class_folders: Path) -> None:
    source = open_source(str(class_folders))
    assert (source.kind, source.image_column, source.label_column) == (
        "imagefolder",
        "image",
        "label",
    )
    assert source.class_names == NAMES
    paths = [
        path.relative_to(class_folders).as_posix() for path in class_folders.rglob("train/*/*")
    ]
    paths.sort(key=lambda path: hashlib.sha256(path.encode()).digest())
    rows = rows_of(source)
    assert [row.image for row in rows] == [(class_folders / path).read_bytes() for path in paths]
    assert [NAMES[row.label or 0] for row in rows] == [path.split("/")[1] for path in paths]
    assert rows_of(source, "train", 3, 7) == rows[3:7]
    assert len(rows_of(source, "test")) == source.num_rows("test") == 3


def test_folders_have_the_classes_that_datasets_finds(class_folders: Path, tmp_path: Path) -> None:
    theirs = load_dataset(str(class_folders), cache_dir=str(tmp_path / "cache"))
    assert theirs["train"].features["label"].names == list(NAMES)
    assert theirs["train"].num_rows == open_source(str(class_folders)).num_rows("train")


def test_a_flat_folder_of_images_has_no_labels(tmp_path: Path) -> None:
    for row in range(3):
        (tmp_path / f"{row}.png").write_bytes(png(row))
    source = open_source(str(tmp_path))
    assert source.label_column is None
    assert source.class_names == ()
    assert sorted(row.image for row in rows_of(source)) == sorted(png(row) for row in range(3))


def test_any_file_name_will_do(tmp_path: Path) -> None:
    names = ["a [1].png", "b #2?.png", "c*.PNG", "d%20e.png", "\u00e9t\u00e9.png"]
    for row, name in enumerate(names):
        (tmp_path / name).write_bytes(png(row))
    (tmp_path / "Thumbs.db").write_bytes(b"not an image, and none of the rows")
    rows = rows_of(open_source(str(tmp_path)))
    assert sorted(row.image for row in rows) == sorted(png(row) for row in range(5))


@pytest.mark.parametrize("name", ["metadata.csv", "more.zip"])
def test_a_folder_with_more_than_images_says_what_to_do(class_folders: Path, name: str) -> None:
    (class_folders / "train" / name).write_bytes(b"file_name,x\n")
    with pytest.raises(InputError, match=rf"train/{name} lies among images"):
        open_source(str(class_folders))


def test_tars_are_read_in_order(tars: Path) -> None:
    source = open_source(str(tars), keep=["age"])
    assert (source.kind, source.image_column, source.label_column) == (
        "webdataset",
        "image",
        "label",
    )
    assert source.class_names == ("0", "1", "2")
    assert source.num_rows("train") == 7
    rows = rows_of(source)
    assert [row.image for row in rows] == [png(row) for row in range(7)]
    assert [row.label for row in rows] == [row % 3 for row in range(7)]
    assert [row.kept for row in rows] == [{"age": row} for row in range(7)]
    assert rows_of(source, "train", 2, 6) == rows[2:6]


def test_tars_mix_image_formats_and_miss_files(tmp_path: Path) -> None:
    samples = [{"jpg": b"j", "cls": b"0"}, {"png": b"p", "cls": b"1"}, {"cls": b"1"}]
    write_tar(tmp_path / "train.tar", [*samples, {"png": b"q", "cls": b"dog"}, {"png": b"r"}])
    rows = rows_of(open_source(str(tmp_path)))
    assert [(row.image, row.label) for row in rows] == [
        (b"j", 0),
        (b"p", 1),
        (b"", 1),
        (b"q", None),
        (b"r", None),
    ]


def test_named_files_of_a_tar_are_taken(tmp_path: Path) -> None:
    sample = {"thumb.png": b"t", "full.png": b"f", "cls": b"9", "age": b"0"}
    write_tar(tmp_path / "train.tar", [sample, sample | {"age": b"1"}])
    source = open_source(str(tmp_path), image_column="full.png", label_column="age")
    assert [(row.image, row.label) for row in rows_of(source)] == [(b"f", 0), (b"f", 1)]
    with pytest.raises(InputError, match=r"no image file.*\.thumb\.png.*--image-column"):
        open_source(str(tmp_path))


def test_a_long_tar_is_not_held_in_memory(tmp_path: Path) -> None:
    write_tar(tmp_path / "train.tar", [{"png": b"p", "cls": b"0"}] * 50)
    assert all(len(tar.members) < 3 for tar, _ in tar_samples(str(tmp_path / "train.tar")))


def test_tar_names_are_cut_at_the_first_dot_of_their_last_part() -> None:
    assert split_key("a.b/0001.seg.PNG") == ("a.b/0001", "seg.png")
    assert split_key("a/.hidden")[0] == ""
    assert split_key("a/plain") == ("a/plain", "")


@pytest.mark.parametrize("kind", ["parquet", "class_folders", "tars"])
def test_a_source_survives_json(kind: str, request: pytest.FixtureRequest) -> None:
    source = open_source(str(request.getfixturevalue(kind)))
    again = Source.from_json(json.loads(json.dumps(source.to_json())))
    assert again == source
    assert rows_of(again) == rows_of(source)


@pytest.mark.parametrize("kind", ["parquet", "class_folders", "tars"])
def test_the_pin_follows_the_bytes_and_not_the_place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(kind)
    pin = open_source(str(folder)).pin
    moved = folder.rename(tmp_path / "moved")
    assert open_source(str(moved)).pin == pin
    some = min(path for path in moved.rglob("*.*") if path.is_file())
    some.rename(some.with_name(f"a{some.name}"))
    renamed = open_source(str(moved)).pin
    assert renamed != pin
    if kind == "class_folders":
        some.with_name(f"a{some.name}").write_bytes(png(77))
        assert open_source(str(moved)).pin not in (pin, renamed)


@pytest.mark.parametrize("spec", ["./nowhere", "nowhere", "a/b/c", "no where/x"])
def test_an_unknown_source_is_one_line(spec: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(spec)} is neither a folder nor a Hub id"):
        open_source(spec)


def test_the_hub_is_out_of_reach_where_it_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for library in ("huggingface_hub.constants", "datasets.config"):  # both read it when imported
        monkeypatch.setattr(f"{library}.HF_HUB_OFFLINE", True)
    for spec in ("org/none", "org/none@main", "hf://datasets/org/none"):
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            open_source(spec)


def test_a_folder_that_reads_like_a_hub_id_must_be_written_plainly(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    parquet.rename(tmp_path / "org/beasts")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"write \./org/beasts .* hf://datasets/org/beasts"):
        open_source("org/beasts")
    assert open_source("./org/beasts").num_rows("train") == 10


def test_a_file_is_not_a_source(parquet: Path) -> None:
    with pytest.raises(InputError, match="name the folder"):
        open_source(str(parquet / "data/train-00000-of-00002.parquet"))


def test_an_empty_folder_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no dataset"):
        open_source(str(tmp_path))


def test_another_kind_of_dataset_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"as csv.*to_parquet"):
        open_source(str(tmp_path))


def test_a_source_without_images_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"age": [1, 2]}), tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"holds images.*age \(int64\)"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("kind", ["parquet", "class_folders", "tars"])
def test_a_missing_split_names_those_there_are(kind: str, request: pytest.FixtureRequest) -> None:
    source = open_source(str(request.getfixturevalue(kind)))
    for ask in (source.rows, source.num_rows):
        with pytest.raises(InputError, match=r"no split 'valid': there are train"):
            ask("valid")


def test_our_own_release_is_no_source(parquet: Path) -> None:
    manifest = parquet / "releases/r0001.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"made_by": "protect-release"}, indent=1))
    with pytest.raises(InputError, match="itself a release"):
        open_source(str(parquet))
    manifest.unlink()
    (parquet / "README.md").write_text("---\ntags: [images, protect-release]\n---\n")
    with pytest.raises(InputError, match="itself a release"):
        open_source(str(parquet))


def test_a_damaged_parquet_file_or_tar_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/train.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(InputError, match=r"train\.parquet is no readable Parquet"):
        open_source(str(tmp_path / "a"))
    path = write_tar(tmp_path / "b/train.tar", [{"png": png(0), "cls": b"0"}] * 3)
    path.write_bytes(path.read_bytes()[:-11000])
    with pytest.raises(InputError, match=r"train\.tar is no readable tar"):
        open_source(str(tmp_path / "b")).num_rows("train")


def test_a_clean_thumbnail_is_kept_only_at_the_owners_word(tmp_path: Path) -> None:
    extra = {"note": (Value("binary"), [b"1", b"2"])}
    write_parquet_file(tmp_path / "train.parquet", [png(0), png(1)], [0, 1], extra)
    with pytest.raises(InputError, match="--keep-clean-column note"):
        open_source(str(tmp_path), keep=["note"])
    source = open_source(str(tmp_path), keep_clean=["note"])
    assert [row.kept for row in rows_of(source)] == [{"note": b"1"}, {"note": b"2"}]


_STOP_EARLY = """
import os
import sys
from release.source import open_source

source = open_source(sys.argv[1])
before = len(os.listdir("/proc/self/task"))
for number, row in enumerate(source.rows("train")):
    if number == 6:
        print(max(0, len(os.listdir("/proc/self/task")) - before))
        raise SystemExit(3)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_reading_parquet_leaves_no_thread_behind_to_break_the_exit(tmp_path: Path) -> None:
    """Arrow threads that read ahead abort or hang a process that stops early, one time in four."""
    images = [png(row, size=(64, 64)) for row in range(40)]
    write_parquet_file(tmp_path / "source/train.parquet", images, [0] * 40)
    script = tmp_path / "stop_early.py"
    script.write_text(_STOP_EARLY)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "source")],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "0\n", "")


def test_pictures_of_a_folder_decode(class_folders: Path) -> None:
    for row in open_source(str(class_folders)).rows("test"):
        assert decode(row.image).pixels.shape == (*picture(0).size, 3)


@pytest.mark.parametrize("kind", ["parquet", "class_folders", "tars"])
def test_only_chosen_rows_are_read_and_counted_anew(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source = open_source(str(request.getfixturevalue(kind)))
    whole = list(source.rows("train"))
    np.save(tmp_path / "rows.npy", np.array([1, 3, 5, 6]))
    only = source.only("train", tmp_path / "rows.npy")
    assert only.num_rows("train") == 4
    for start, stop in ((0, None), (1, 3), (2, 9), (4, None)):
        read = [(row.number, row.image, row.label) for row in only.rows("train", start, stop)]
        chosen = list(enumerate([1, 3, 5, 6]))[start:stop]
        assert read == [(at, whole[row].image, whole[row].label) for at, row in chosen]
    assert list(only.whole().rows("train")) == whole
