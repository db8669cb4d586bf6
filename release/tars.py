"""The samples of WebDataset tars, plain or compressed, whatever others wrote into them.

A header may promise any size, and a tar may end or be damaged at any byte: what is read at once is
bounded, and what cannot be read is one line that names the tar.
"""

from __future__ import annotations

import errno
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from release.errors import InputError
from release.files import LARGEST_IMAGE, in_words, open_file

LARGEST_NOTE = 16 << 20
"""Bytes of the largest file of a sample that is read beside its image: a label, or JSON."""
_LARGEST_HEADER = 1 << 20  # a name or PAX records, which tarfile reads at once
_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
# What tarfile and the decompressors are seen to raise on damaged files.
_DAMAGED = (
    tarfile.TarError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    ValueError,
    LookupError,
    OverflowError,
    RecursionError,
)

Members = dict[str, tarfile.TarInfo]


class _Header(tarfile.TarInfo):
    """A header that is whole, of a size that can be."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        """For tarfile any other header than the end mark is an end, too: rows would be lost."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as problem:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the end mark
            raise tarfile.ReadError(f"{problem} where a file or the end should be") from None
        if header.size < 0 or (header.type in _HEADERS and header.size > _LARGEST_HEADER):
            raise tarfile.ReadError(f"a header of {in_words(header.size)}")
        return header


class Tar(tarfile.TarFile):
    """An open tar, which knows where it lies."""

    tarinfo = _Header
    url = ""


def tar_samples(url: str) -> Iterator[tuple[Tar, Members]]:
    """Each sample of a tar: its files by extension (lower case), read through the open tar.

    A sample is a run of files whose names agree up to the first dot of the last part. InputError
    where the tar is damaged, or ends without its end mark.
    """
    with open_file(url) as file, _told_of(url), Tar.open(fileobj=file, mode="r:*") as tar:
        tar.url = url
        yield from ((tar, members) for members in _samples(tar))
        if (inside := cast("IO[bytes]", tar.fileobj)) is not file:
            while inside.read(1 << 20):
                pass  # the checksum of what is compressed stands at its end


@contextmanager
def _told_of(url: str) -> Iterator[None]:
    """What tells that a tar is damaged is one line that names it."""
    try:
        yield
    except _DAMAGED as problem:
        raise _unreadable(url, problem) from None
    except OSError as problem:
        # None: of a decompressor; the other: no file system has the place that a header led to.
        if problem.errno not in (None, errno.EINVAL):
            raise
        raise _unreadable(url, problem) from None


def _unreadable(url: str, problem: Exception) -> InputError:
    said = (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(":")
    return InputError(f"{url} is no readable tar ({said}): fetch it or write it again")


def _samples(tar: Tar) -> Iterator[Members]:
    key, members = "", Members()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # else every header read stays in memory
        if member.size < 0:  # by PAX records, which would lead back to where it was read
            raise tarfile.ReadError(f"{member.name} has {member.size} bytes")
        stem, extension = split_key(member.name)
        if not member.isfile() or not stem or not extension:
            continue
        if members and stem != key:
            yield members
            members = {}
        key, members[extension] = stem, member
    if members:
        yield members


def split_key(name: str) -> tuple[str, str]:
    """A tar member's key and extension: cut at the first dot of the last part of its name."""
    folder, slash, last = name.rpartition("/")
    stem, _, extension = last.partition(".")
    return (f"{folder}{slash}{stem}" if stem else ""), extension.lower()


def contents(tar: Tar, member: tarfile.TarInfo, largest: int = LARGEST_IMAGE) -> bytes:
    """The bytes of one file of an open tar; InputError where there are more than `largest`, or the
    tar is damaged."""
    if member.size > largest:
        raise InputError(
            f"{tar.url} holds {member.name} of {in_words(member.size)}, and {in_words(largest)} "
            "are read at most: write the tar again without it"
        )
    with _told_of(tar.url):
        file = tar.extractfile(member)
        return file.read() if file is not None else b""
