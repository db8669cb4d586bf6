"""What was asked to go wrong does, as the real client sees it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitInfo, HfApi, get_session
from huggingface_hub import CommitOperationAdd as Add
from huggingface_hub.errors import HfHubHTTPError

from tests.hub.server import Hub

ID = "org/pets"
Committing = Callable[..., CommitInfo]


@pytest.mark.parametrize("kind", ["429", "500", "503"])
def test_a_commit_fails_with_a_status(hub: Hub, commit: Committing, kind: str) -> None:
    hub.faults.fail("commit", kind=kind, nth=2)
    commit(Add("a.txt", b"1"))
    with pytest.raises(HfHubHTTPError) as refused:
        commit(Add("a.txt", b"2"))
    assert refused.value.response.status_code == int(kind)
    assert refused.value.response.headers.get("Retry-After") == ("0" if kind == "429" else None)
    commit(Add("a.txt", b"3"))
    assert len(hub.repo(ID).commits()) == 3
    assert hub.faults.happened == [("commit", kind)]


@pytest.mark.parametrize(("kind", "commits"), [("reset", 1), ("lose", 2)])
def test_a_connection_is_reset_before_or_after_the_commit(
    hub: Hub, commit: Committing, kind: str, commits: int
) -> None:
    hub.faults.fail("commit", kind=kind)
    with pytest.raises(httpx2.NetworkError):
        commit(Add("a.txt", b"1"))
    assert len(hub.repo(ID).commits()) == commits
    assert hub.requests("commit")[0].status == 0


def test_an_upload_that_failed_is_sent_again(hub: Hub, commit: Committing) -> None:
    hub.faults.fail("lfs-upload", kind="reset")
    commit(Add("a.parquet", b"\0" * 1000))
    assert hub.repo(ID).read("main", "a.parquet") == b"\0" * 1000
    assert [request.status for request in hub.requests("lfs-upload")] == [0, 200]
    assert hub.uploaded.total() == 1000


def test_a_file_sent_by_half_is_noticed(hub: Hub, api: HfApi, tmp_path: Path) -> None:
    hub.repo(ID).put({"a.txt": b"whole"})
    hub.faults.fail("resolve", kind="half", nth=2)  # the first asks for its size
    url = f"{hub.url}/datasets/{ID}/resolve/main/a.txt"
    assert get_session().head(url).headers["Content-Length"] == "5"
    with pytest.raises(httpx2.RemoteProtocolError):
        get_session().get(url)
    assert get_session().get(url).content == b"whole"


@pytest.mark.parametrize("kind", ["stall", "stall-answer"])
def test_an_answer_comes_when_it_is_released(hub: Hub, commit: Committing, kind: str) -> None:
    hub.faults.fail("commit", kind=kind)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(commit, Add("a.txt", b"1"))
        assert hub.faults.wait_stalled()
        assert len(hub.repo(ID).commits()) == (1 if kind == "stall" else 2)
        hub.faults.release()
        assert made.result().oid == hub.repo(ID).commits()[0].id


def test_a_client_that_gave_up_gets_nothing_done(hub: Hub, api: HfApi) -> None:
    hub.faults.fail("create", kind="stall")
    ask = {"type": "dataset", "name": "late"}
    headers = {"Authorization": "Bearer hf_alice"}
    with httpx2.Client(timeout=0.05) as client, pytest.raises(httpx2.ReadTimeout):
        client.post(f"{hub.url}/api/repos/create", json=ask, headers=headers)
    hub.faults.release()
    assert not api.repo_exists("alice/late", repo_type="dataset")


def test_a_hub_that_is_down_refuses_and_comes_back(hub: Hub, commit: Committing) -> None:
    hub.faults.fail("commit", kind="stall")
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(commit, Add("a.txt", b"1"))
        assert hub.faults.wait_stalled()
        assert get_session().get(f"{hub.url}/api/agent-harnesses").status_code == 200
        hub.down()  # the connection of this last answer breaks too
        assert isinstance(made.exception(), httpx2.TransportError)
    with pytest.raises(httpx2.ConnectError):
        get_session().get(hub.url)
    hub.up()
    assert len(hub.repo(ID).commits()) == 1
    commit(Add("a.txt", b"1"))


def test_an_unknown_fault_is_refused(hub: Hub) -> None:
    with pytest.raises(ValueError, match="no such fault"):
        hub.faults.fail("commit", kind="explode")
