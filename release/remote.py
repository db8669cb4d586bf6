"""Files of a source on the Hub, read piece by piece; a Hub that does not answer is waited for."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, TypeVar

from huggingface_hub import HfFileSystem

from release.hub_client import patiently, source_patience, token_for

T = TypeVar("T")


class RemoteFile(io.RawIOBase):
    """A file on the Hub, from its first byte on. FileNotFoundError where there is none; HubRefused
    where the Hub stayed silent for longer than a source is waited for."""

    def __init__(self, url: str) -> None:
        path = url.removeprefix("hf://")
        self._file: Any = _waited(lambda: _filesystem().open(path, "rb"))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int | None = -1) -> bytes:
        place = self._file.tell()

        def again() -> bytes:
            self._file.seek(place)
            data: bytes = self._file.read(-1 if size is None else size)
            return data

        return _waited(again)

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _filesystem() -> HfFileSystem:
    return HfFileSystem(token=token_for("source"))


def _waited(call: Callable[[], T]) -> T:
    return patiently(call, source_patience())
