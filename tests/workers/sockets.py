"""The sockets of processes, as /proc tells them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_LISTENS = "0A"


def addresses(pids: Iterable[int]) -> dict[tuple[str, int], bool]:
    """Every TCP address and port that a socket of these processes is bound to, and whether it
    listens there."""
    own = {inode for pid in pids for inode in _inodes(pid)}
    found: dict[tuple[str, int], bool] = {}
    for table in ("tcp", "tcp6"):
        for address, port, listens, inode in _bound(Path("/proc/net") / table):
            if inode in own:  # what was accepted has the port of what listens
                found[address, port] = found.get((address, port), False) or listens
    return found


def _inodes(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError, ProcessLookupError):  # it may end while it is looked at
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                opened = os.readlink(each)
                if opened.startswith("socket:["):
                    yield opened.removeprefix("socket:[").removesuffix("]")


def _bound(table: Path) -> Iterator[tuple[str, int, bool, str]]:
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        address, port = fields[1].split(":")
        yield _written(address), int(port, 16), fields[3] == _LISTENS, fields[9]


def _written(address: str) -> str:
    """The kernel writes each word of four bytes as a number of this machine."""
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    packed = b"".join(word.to_bytes(4, "little") for word in words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
