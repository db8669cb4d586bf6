"""The server that people start from the shell, and what it keeps."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.server import Hub, bind

ROOT = Path(__file__).parents[2]
BIG = b"\0" * 100_000


def _commit(api: HfApi, name: str, path: str = "a.parquet") -> str:
    made = api.create_commit(name, [Add(path, BIG)], commit_message="a", repo_type="dataset")
    return made.oid


def test_a_hub_goes_on_where_an_earlier_one_ended(tmp_path: Path) -> None:
    first = Hub(tmp_path)
    first.add_user("alice", "hf_alice")
    first.start()
    api = HfApi(endpoint=first.url, token="hf_alice")
    api.create_repo("alice/pets", repo_type="dataset", private=True)
    head = _commit(api, "alice/pets")
    api.create_tag("alice/pets", tag="r1", repo_type="dataset")
    api.create_pull_request("alice/pets", "Later", repo_type="dataset")
    first.stop()

    second = Hub(tmp_path)
    repo = second.repo("alice/pets")
    assert (repo.tags, repo.private, repo.pulls[1].title) == ({"r1": head}, True, "Later")
    assert repo.read("r1", "a.parquet") == BIG
    second.start()
    again = HfApi(endpoint=second.url, token="hf_alice")
    assert _commit(again, "alice/pets", "b.parquet") == repo.commits()[0].id
    assert not second.uploaded
    second.stop()


def test_a_stopped_hub_leaves_its_port(tmp_path: Path) -> None:
    hub = Hub(tmp_path)
    hub.start()
    assert httpx2.get(f"{hub.url}/api/agent-harnesses").status_code == 200
    hub.stop()
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{hub.url}/api/agent-harnesses")
    bind(int(hub.url.rpartition(":")[2])).close()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.hub", "--folder", str(tmp_path / "hub")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    yield process
    process.kill()
    process.communicate()


def test_the_shell_is_told_what_to_export(shell: subprocess.Popen[str]) -> None:
    assert shell.stdout is not None
    lines = [shell.stdout.readline().strip() for _ in range(3)]
    names = dict(line.removeprefix("export ").split("=") for line in lines)
    assert list(names) == ["HF_ENDPOINT", "HF_TOKEN", "HF_HUB_DISABLE_XET"]
    api = HfApi(endpoint=names["HF_ENDPOINT"], token=names["HF_TOKEN"])
    api.create_repo("org/pets", repo_type="dataset")
    fault = {"route": "commit", "kind": "503"}
    assert httpx2.post(f"{names['HF_ENDPOINT']}/admin/faults", json=fault).status_code == 200
    with pytest.raises(HfHubHTTPError, match="503"):
        _commit(api, "org/pets")
    assert _commit(api, "org/pets")
    shell.send_signal(signal.SIGINT)
    _, said = shell.communicate(timeout=20)
    assert shell.returncode == 0
    assert "503 POST /api/datasets/org/pets/commit/main" in said
