"""Locks between processes that leave nothing behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody else holds the lock of this file, which is waited for and is gone afterwards. OSError
    where the file cannot be made."""
    while True:
        with open(path, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_at(path, lock):
                continue  # whoever held it took it away, and another run may hold a new one
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


@contextmanager
def held_if_free(path: Path) -> Iterator[bool]:
    """Whether nobody held the lock of this file, which is held here then and is gone afterwards; it
    is not waited for. OSError where the file cannot be made."""
    with open(path, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if not _is_at(path, lock):
            yield False  # whoever held it took it away just now
            return
        try:
            yield True
        finally:
            path.unlink(missing_ok=True)


def _is_at(path: Path, lock: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
