"""One folder in the place of another, so that readers find a whole one at every moment.

What a run that was killed leaves beside `folder` is put right by the next one that looks at it:

    .NAME.incoming   what was to take its place, or what it took the place of: never put back
    .NAME.previous   what was there before, where there is no NAME; else to be removed
    .NAME.lock       held while a run works on these
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from release.locks import held, held_if_free

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
"""What is said where the kernel, its sandbox or the file system has no such step."""


def beside(folder: Path, what: str) -> Path:
    """Where this lies for a folder; what: incoming, previous or lock."""
    return folder.with_name(f".{folder.name}.{what}")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other run changes the folder meanwhile, which is whole, with nothing left beside it.
    OSError where nothing can be written there."""
    with held(beside(folder, "lock")):
        _put_right(folder)
        yield


def recover(folder: Path) -> None:
    """What a killed run left is put right. One that is alive is waited for where there is no folder
    to read meanwhile, else left alone; OSError where that folder cannot be put back."""
    if _is_half_swapped(folder):
        with alone(folder):
            return
    if not any(beside(folder, what).exists() for what in ("incoming", "previous", "lock")):
        return
    try:
        with held_if_free(beside(folder, "lock")) as is_ours:
            if is_ours:
                _put_right(folder)
    except OSError:
        pass  # whoever may only read there reads what is whole


def swap_in(folder: Path) -> None:
    """What was made at `beside(folder, "incoming")` is at `folder`; what was there is gone. Only
    for whoever is `alone`."""
    incoming, previous = beside(folder, "incoming"), beside(folder, "previous")
    if not folder.exists():
        incoming.rename(folder)
        return
    if not exchange(incoming, folder):
        folder.rename(previous)
        try:
            incoming.rename(folder)
        except OSError:
            previous.rename(folder)
            raise
        previous.rename(incoming)  # half removed it must never be put back
    shutil.rmtree(incoming, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Each has the other's name, in one step; False, and nothing is changed, where the system or
    the file system has no such step."""
    call = _renameat2()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    problem = ctypes.get_errno()
    if problem in _NO_EXCHANGE:
        return False
    raise OSError(problem, os.strerror(problem), str(one), None, str(other))


def _renameat2() -> Callable[..., int] | None:
    """The call of Linux; None where this C library has none."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return call  # type: ignore[no-any-return]


def _is_half_swapped(folder: Path) -> bool:
    return beside(folder, "previous").exists() and not folder.exists()


def _put_right(folder: Path) -> None:
    incoming, previous = beside(folder, "incoming"), beside(folder, "previous")
    if _is_half_swapped(folder):
        previous.rename(folder)
    shutil.rmtree(incoming, ignore_errors=True)
    if previous.exists():
        previous.rename(incoming)
        shutil.rmtree(incoming, ignore_errors=True)
