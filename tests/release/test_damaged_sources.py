"""What is wrong with a source's own files is one line that names them."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clean_data import Run
from datasets import Features
from datasets import Image as ImageFeature
from source_files import file_of, picture, png, write_parquet_file

from release.errors import InputError
from release.source import open_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures in each of two classes."""
    for number in range(6):
        path = tmp_path / f"images/{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    return tmp_path / "images"


@pytest.mark.parametrize("yaml", ["title: x: y", "title: [", "a: !!no/such 1", "configs: [3]"])
def test_a_card_that_is_no_yaml(folder: Path, yaml: str) -> None:
    (folder / "README.md").write_text(f"---\n{yaml}\n---\n# Pictures\n")
    with pytest.raises(InputError, match=r"^[^\n]*(README\.md of .* mend it|cannot be opened).*$"):
        open_source(str(folder))


def test_an_empty_citation_is_none(folder: Path) -> None:
    (folder / "README.md").write_text("# Pictures\n```bibtex\n```\n")
    assert open_source(str(folder)).citation is None


@pytest.mark.parametrize("name", [b"a/caf\xe9.png", b"a/caf\xe9.txt"])
def test_a_file_name_that_is_not_utf_8(folder: Path, name: bytes) -> None:
    try:
        (folder / os.fsdecode(name)).write_bytes(png(7))
    except OSError:
        pytest.skip("this file system has names in UTF-8 alone")
    with pytest.raises(InputError, match=r"not UTF-8 \(.*a/caf\\udce9\....\): rename it"):
        open_source(str(folder))


def test_a_damaged_page_of_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    write_parquet_file(path, [png(row) for row in range(4)], [0, 1, 2, 0])
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset : column.data_page_offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"^[^\n]*train\.parquet is no readable Parquet[^\n]*$"):
        list(open_source(str(tmp_path)).rows("train"))


def naming(path: Path, *images: str) -> Path:
    """A Parquet file whose images lie elsewhere, in a folder of their own."""
    path.parent.mkdir(parents=True)
    features = Features({"img": ImageFeature()})
    values = {"img": [{"bytes": None, "path": image} for image in images]}
    pq.write_table(pa.Table.from_pydict(values, schema=features.arrow_schema), path)
    return path


@pytest.mark.parametrize(
    "image",
    [
        *("{secret}", "../secret.png", "in/../../secret.png", "..\\secret.png", "\\secret.png"),
        *("file://{secret}", "hf://datasets/org/other/0.png", "..", "in.png\0"),
    ],
)
def test_an_image_that_lies_elsewhere_than_beside_its_parquet_file(
    tmp_path: Path, image: str
) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(0))
    path = naming(tmp_path / "source/train.parquet", "in.png", image.format(secret=secret))
    (path.parent / "in.png").symlink_to(secret)
    rows = open_source(str(path.parent)).rows("train")
    assert next(rows).image == png(0)  # a link is its owner's own
    with pytest.raises(InputError, match=r"^row 1 of .*train\.parquet names the image .*beside"):
        next(rows)


def test_images_beside_their_parquet_file_are_read(tmp_path: Path) -> None:
    path = naming(tmp_path / "source/train.parquet", "a/0.png", "a/../1.png", "./1.png", "..a.png")
    (path.parent / "a").mkdir()
    for name in ("a/0.png", "1.png", "..a.png"):
        (path.parent / name).write_bytes(png(len(name)))
    rows = open_source(str(path.parent)).rows("train")
    assert [row.image for row in rows] == [png(7), png(5), png(5), png(7)]


def test_an_image_that_does_not_fit_in_webp(run: Run, tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / f"images/{number}/wide.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(file_of(picture(number, size=(16384, 1))))
        path.with_name("small.png").write_bytes(png(number))
    asked = ("--to", tmp_path / "out", "--workdir", tmp_path / "work", "--no-verify")
    told = run("plan", tmp_path / "images", *asked, "--encoding", "webp")
    assert told.exit_code == 2, told.output
    assert "a side of 16384 pixels, and those of WebP end at 16383: use --encoding" in told.stderr
    assert run("plan", tmp_path / "images", *asked).exit_code == 0
