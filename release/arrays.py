"""Arrays on disk that are larger than memory, in folders that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from release.errors import StorageError


def create(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """An array of zeros, memory-mapped from a new .npy file whose room on the disk is taken.

    Raises OSError where the disk is too full.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        # A sparse file on a full disk kills the process (SIGBUS) at the first page it lacks.
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def digest_of_arrays(*arrays: np.ndarray) -> str:
    """24 hex digits of what the arrays hold."""
    found = hashlib.sha256()
    for values in arrays:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.hexdigest()[:24]


@contextmanager
def whole_folder(folder: Path, advice: str) -> Iterator[Path]:
    """Yields a new folder to fill, which takes the place of `folder` when all went well.

    StorageError with `advice` where the disk is full; what was there before then stays.
    """
    making = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        yield making
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        shutil.rmtree(making, ignore_errors=True)
        raise StorageError(
            f"{folder} could not be written ({problem.strerror}): {advice}, then run the same "
            "command again"
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)
