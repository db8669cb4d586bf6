"""What is wrong with a source's own files is one line that names them."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clean_data import Run
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
