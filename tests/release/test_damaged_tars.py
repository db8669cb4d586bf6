"""A tar that is cut, damaged or promises more than there is: one line that names it, or a row that
says what is wrong with it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from clean_data import Run
from source_files import png, write_tar

from release.errors import InputError
from release.readers import Fields, Row, folder_rows, tar_num_rows, tar_rows
from release.source import open_source
from release.survey import survey
from release.tars import LARGEST_NOTE

SUFFIXES = ("tar", "tar.gz", "tar.bz2", "tar.xz")
SAMPLES = [{"png": png(n), "cls": b"%d" % (n % 2)} for n in range(3)]


def packed(folder: Path, suffix: str) -> Path:
    """A tar of three samples, compressed as its suffix says."""
    whole = write_tar(folder / "whole.tar", SAMPLES)
    path = folder / f"train.{suffix}"
    with tarfile.open(whole) as source, tarfile.open(path, f"w:{suffix[4:]}") as archive:  # type: ignore[call-overload]
        for member in source:
            archive.addfile(member, source.extractfile(member))
    return path


def read(path: Path) -> list[Row] | str:
    """The rows, or the one line that says why there are none."""
    url = str(path)
    try:
        count = tar_num_rows([url])
        rows = list(tar_rows([url], Fields(None, "cls"), 0, 99))
    except InputError as problem:
        line = str(problem)
        assert line.startswith(f"{url} is no readable tar (")
        assert "\n" not in line
        return line
    assert len(rows) == count
    return rows


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_cut_at_any_byte_loses_no_row_unseen(tmp_path: Path, suffix: str) -> None:
    path = packed(tmp_path, suffix)
    data, rows = path.read_bytes(), read(path)
    assert len(rows) == 3
    ends = {*range(0, len(data), 97), *range(0, len(data), 512), *range(len(data) - 40, len(data))}
    for end in ends:
        path.write_bytes(data[:end])
        found = read(path)
        whole = suffix == "tar" and not any(data[end:])  # of the end mark one block is enough
        assert isinstance(found, str) or (whole and found == rows), end


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_byte_that_was_changed_loses_no_row_unseen(tmp_path: Path, suffix: str) -> None:
    path = packed(tmp_path, suffix)
    data, rows = path.read_bytes(), read(path)
    damaged = 0
    for place in range(0, len(data), 1 if len(data) < 3000 else 37):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        found = read(path)
        damaged += isinstance(found, str)
        # Only what is compressed has a checksum of the files' own bytes.
        assert isinstance(found, str) or found == rows or (suffix, len(found)) == ("tar", 3), place
    assert damaged > 20


def test_a_damaged_tar_is_one_line_of_a_command(run: Run, tmp_path: Path) -> None:
    path = packed(tmp_path / "source", "tar.xz")
    path.with_name("whole.tar").unlink()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    asked = ("--to", tmp_path / "out", "--workdir", tmp_path / "work", "--no-verify")
    told = run("plan", path.parent, *asked)
    assert told.exit_code == 2
    assert f"{path} is no readable tar (" in told.stderr


def header(name: str, size: int, kind: bytes = b"0", more: dict[int, bytes] | None = None) -> bytes:
    """A header of a tar as GNU writes it, with a size that may be of any order."""
    made = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    made[124:136] = big(size)
    made[156:157] = kind
    for place, data in (more or {}).items():
        made[place : place + len(data)] = data
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def big(number: int) -> bytes:
    return b"\x80" + number.to_bytes(11, "big")


def sparse(piece: int, size: int) -> bytes:
    """The header of a file of this size with one piece of so many bytes, of which 512 are there."""
    return header("0000.png", 512, b"S", {386: b"%011o\0%011o\0" % (0, piece), 483: big(size)})


SPARSE = sparse(512, 2 * 10**11)
END = bytes(1024)


def test_a_sparse_image_of_200_gb_is_a_row_with_a_reason(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "source/train.tar"
    rest = write_tar(tmp_path / "rest.tar", [{}, *({"png": png(n)} for n in range(1, 4))])
    path.parent.mkdir()
    path.write_bytes(SPARSE + b"x" * 512 + rest.read_bytes())
    assert path.stat().st_size < 30_000
    found = survey(open_source(str(path.parent)), "train", tmp_path / "survey")
    assert found.bad == [(0, "an image file of 200 GB")]
    assert found.good.tolist() == [False, True, True, True]


PROMISES = {
    "10 TB": header("0000.png", 10**13) + b"x" * 512,
    "2^80 bytes": header("0000.png", 2**80) + b"x" * 512,
    "500 MiB": header("0000.png", 500 << 20) + b"x" * 512,
    "a name of 4 GB": header("././@LongLink", 4 << 30, b"L") + b"x" * 512,
    "a link of 4 GB": header("././@LongLink", 4 << 30, b"K") + b"x" * 512,
    "records of 4 GB": header("PaxHeaders/0", 4 << 30, b"x") + b"x" * 512,
    "records of 4 GB for all": header("PaxHeaders/0", 4 << 30, b"g") + b"x" * 512,
    "less than nothing": b"".join(
        [
            header("PaxHeaders/0", 14, b"x") + b"14 size=-1024\n".ljust(512, b"\0"),
            header("0.png", 0) + END,
        ]
    ),
    "names of names": header("././@LongLink", 8, b"L") * 3000,
    "an end": header("0000.png", 0),
    "a sparse file's bytes": SPARSE,
    "a piece beyond the end": sparse(10**6, 10**6) + b"x" * 512 + END,
}


@pytest.mark.parametrize("promise", PROMISES)
def test_promises_that_a_tar_does_not_keep_are_one_line(tmp_path: Path, promise: str) -> None:
    (tmp_path / "train.tar").write_bytes(PROMISES[promise])
    assert isinstance(read(tmp_path / "train.tar"), str)


def test_a_label_of_megabytes_is_none(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "train.tar", [{"png": b"p", "cls": b"0" * (LARGEST_NOTE + 1)}])
    with pytest.raises(InputError, match=r"train\.tar holds 0000\.cls of 16.8 MB, and 16.8 MB are"):
        list(tar_rows([str(path)], Fields("png", "cls"), 0, 1))


def test_an_image_file_of_200_gb_is_a_row_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a/0.png"
    path.parent.mkdir()
    path.touch()
    os.truncate(path, 2 * 10**11)
    (row,) = folder_rows([str(path)], ("a", "b"), 0, 1)
    assert (row.image, row.label, row.problem) == (b"", 0, "an image file of 200 GB")
