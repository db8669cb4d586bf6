"""What can go wrong in a release, and what the shell is told.

    ReleaseError                 1  a bug, or a worker that died for good
    ├── InputError               2  the command, the source or the target is not usable as given
    │   └── SecondNoise             rows are out with another noise, or may be
    ├── GateMissed               3  the release does not hold: not published, report kept
    ├── TooManyBadRows           4  more rows are unreadable than --max-bad allows
    ├── HubRefused               5  the Hub said no
    └── StorageError             6  disk full, or a file is not what its record says
        └── ShardCorrupt
    Interrupted                130  Ctrl-C

Every message is one line: what, where, what to do next.
"""

from __future__ import annotations


class ReleaseError(Exception):
    """A release could not go on; the message is for the person at the terminal."""

    exit_code = 1


class InputError(ReleaseError):
    exit_code = 2


class SecondNoise(InputError):
    """method: what made the noise that the rows have; None where that is not known."""

    def __init__(self, message: str, method: str | None) -> None:
        super().__init__(message)
        self.method = method


class GateMissed(ReleaseError):
    """found: what is the matter, without what to do."""

    exit_code = 3

    def __init__(self, message: str, found: str | None = None) -> None:
        super().__init__(message)
        self.found = found or message


class TooManyBadRows(ReleaseError):
    exit_code = 4


class HubRefused(ReleaseError):
    exit_code = 5


class StorageError(ReleaseError):
    exit_code = 6


class ShardCorrupt(StorageError):
    pass


class Interrupted(ReleaseError):
    exit_code = 130


KINDS: dict[str, type[ReleaseError]] = {
    kind.__name__: kind
    for kind in (
        ReleaseError,
        InputError,
        GateMissed,
        TooManyBadRows,
        HubRefused,
        StorageError,
        ShardCorrupt,
        Interrupted,
    )
}
"""By name, so that an error met in a worker can be raised again in the parent."""
