"""Another account of the machine, where this one may become it.

`python -m tests.workers.hostile RUN_ID MARKER PORT...` speaks to each port as torch's store does,
leaves there what would make a file MARKER were it unpickled, and then sends what nobody expects.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from base64 import b64encode
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch

_SECONDS = 2
_NOBODY = 65534


class _Payload:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return Path.touch, (Path(self.marker),)  # type: ignore[return-value]


def main(run_id: str, marker: str, ports: list[str]) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
    payload = b64encode(pickle.dumps(_Payload(marker)))
    for port in map(int, ports):
        with suppress(RuntimeError):  # whatever listens there is no store
            store = torch.distributed.TCPStore(
                "127.0.0.1", port, is_master=False, timeout=timedelta(seconds=_SECONDS)
            )
            store.set(f"torch.rendezvous.{run_id}", payload)
        with suppress(OSError), socket.socket() as raw:
            raw.settimeout(_SECONDS)
            raw.connect(("127.0.0.1", port))
            raw.sendall(pickle.dumps(_Payload(marker)) * 100)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
