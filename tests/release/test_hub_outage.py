"""A Hub that goes away for a minute, while a release is being made."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from clean_data import Run
from hub_source import CHEAP, SOURCE, TARGET, Digits, put_rows, released_rows

from tests.hub.server import Hub
from tests.hub.state import Request

OUTAGE_SECONDS = 60


@pytest.mark.slow
@pytest.mark.parametrize("route", ["resolve", "lfs-upload", "commit"])
def test_a_hub_that_is_down_for_a_minute_is_waited_for(
    run: Run, hub: Hub, digits: Digits, tmp_path: Path, route: str
) -> None:
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, 40), tmp_path)
    began = threading.Event()

    def fall(request: Request) -> None:
        if request.route == route and not began.is_set():
            began.set()
            threading.Thread(target=hub.down).start()
            threading.Timer(OUTAGE_SECONDS, hub.up).start()

    hub.on_request = fall
    try:
        command = ("push", SOURCE, "--workdir", tmp_path / "work", *CHEAP, "--json")
        result = run(*command, "--hub-patience", "300")
    finally:
        hub.on_request = None
    assert began.is_set()
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 40 == released_rows(hub, TARGET)
    assert [c.title for c in hub.repo(TARGET).commits("main")].count("protect-release r0001") == 1
