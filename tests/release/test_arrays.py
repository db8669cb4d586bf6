"""Arrays on disk: their room is taken at once, and a folder is whole or not there."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from release.arrays import create, whole_folder
from release.errors import StorageError


def test_an_array_lies_on_disk_with_all_its_room(tmp_path: Path) -> None:
    array = create(tmp_path / "a.npy", np.int64, (100_000, 3))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= array.nbytes
    assert not array.any()
    array[5] = 7
    array.flush()
    assert np.load(tmp_path / "a.npy")[5].tolist() == [7, 7, 7]


def test_a_folder_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with whole_folder(tmp_path / "deep/folder", "make room") as making:
            (making / text).write_text(text)
    assert [path.name for path in (tmp_path / "deep/folder").iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, number: int) -> None:
    with whole_folder(tmp_path / "folder", "make room") as making:
        (making / "kept").touch()
    with (
        pytest.raises(StorageError, match="make room, then run the same command again"),
        whole_folder(tmp_path / "folder", "make room"),
    ):
        raise OSError(number, os.strerror(number))
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert (tmp_path / "folder/kept").exists()


def test_another_error_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), whole_folder(tmp_path / "folder", "make room"):
        raise ConnectionError("the source is gone")
    assert not (tmp_path / "folder").exists()
