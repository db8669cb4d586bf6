"""A Hub to try things on by hand: python -m tests.hub [--folder FOLDER] [--port PORT]"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
from pathlib import Path

from tests.hub.server import Hub
from tests.hub.state import Request


def main() -> None:
    """Serves until Ctrl-C; what the folder holds is there again the next time."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where everything is kept (a temporary folder)")
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (any free one)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        _serve(Hub(chosen.folder or Path(temporary), chosen.port))


def _serve(hub: Hub) -> None:
    if "alice" not in hub.accounts.users:
        hub.add_user("alice", "hf_alice")
        hub.add_org("org", "alice")
    for stop in (signal.SIGINT, signal.SIGTERM):  # shells start background jobs without Ctrl-C
        signal.signal(stop, signal.default_int_handler)
    hub.on_request = _say
    hub.start()
    print(f"export HF_ENDPOINT={hub.url}")
    print("export HF_TOKEN=hf_alice")
    print("export HF_HUB_DISABLE_XET=1", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        hub.stop()


def _say(request: Request) -> None:
    print(f"{request.status or 'reset'} {request.method} {request.path}", file=sys.stderr)


if __name__ == "__main__":
    main()
