"""Sources on the Hub: pinned, waited for, and read only by who may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from source_files import png, write_parquet_file

from release.errors import InputError
from release.source import open_source
from tests.hub.server import Hub


def test_a_hub_source_is_pinned_to_its_commit(hub: Hub, parquet: Path) -> None:
    repo = hub.add_repo("org/beasts", private=True)
    files = {str(p.relative_to(parquet)): p.read_bytes() for p in parquet.rglob("*.parquet")}
    commit = repo.put(files).id
    local = list(open_source(str(parquet)).rows("train"))
    repo.put({"data/train-00000-of-00002.parquet": None})
    for spec in (f"org/beasts@{commit}", f"hf://datasets/org/beasts@{commit[:10]}"):
        source = open_source(spec)
        assert source.pin == commit
        assert list(source.rows("train")) == local
    assert len(list(open_source("org/beasts").rows("train"))) == 4


def test_a_gated_source_is_read_by_who_may(hub: Hub, parquet: Path) -> None:
    from release.hub import readable_without_token

    repo = hub.add_repo("org/beasts")
    repo.put({str(p.relative_to(parquet)): p.read_bytes() for p in parquet.rglob("*.parquet")})
    assert readable_without_token("org/beasts")
    repo.gated = "manual"
    assert not readable_without_token("org/beasts")
    assert len(list(open_source("org/beasts").rows("train"))) == 10


def test_a_revision_that_is_gone_is_named(hub: Hub) -> None:
    hub.add_repo("org/beasts", private=True)
    with pytest.raises(InputError, match="no revision 'v2'"):
        open_source("org/beasts@v2")


@pytest.mark.parametrize("kind", ["503", "reset", "half"])
def test_a_hub_that_stumbles_is_waited_for(hub: Hub, parquet: Path, kind: str) -> None:
    from release.hub_client import be_patient

    be_patient(2)
    repo = hub.add_repo("org/beasts", private=True)
    repo.put({str(p.relative_to(parquet)): p.read_bytes() for p in parquet.rglob("*.parquet")})
    source = open_source("org/beasts")
    hub.faults.fail("resolve", kind, nth=2)
    hub.faults.fail("resolve", kind, nth=4)
    assert list(source.rows("train")) == list(open_source(str(parquet)).rows("train"))
    assert hub.faults.happened


@pytest.mark.slow
def test_streams_of_the_hub_that_stop_early_keep_their_exit_code(hub: Hub, tmp_path: Path) -> None:
    """Twenty runs: read through `datasets`, most of them abort or hang."""
    images = [png(row, size=(64, 64)) for row in range(400)]
    write_parquet_file(tmp_path / "train.parquet", images, [row % 3 for row in range(400)])
    repo = hub.add_repo("org/beasts", private=True)
    repo.put({"data/train.parquet": (tmp_path / "train.parquet").read_bytes()})
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _STOP_EARLY_ON_THE_HUB, "org/beasts"]
    for _ in range(20):
        ended = subprocess.run(command, env=env, timeout=60, check=False)
        assert ended.returncode == 3


_STOP_EARLY_ON_THE_HUB = """
import sys
from itertools import islice
from release.source import open_source
rows = open_source(sys.argv[1]).rows("train")
assert len(list(islice(rows, 6))) == 6
sys.exit(3)
"""
