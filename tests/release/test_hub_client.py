"""Whatever fails on the way to the Hub, a commit is made once or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import get_session

from release import hub_client
from release.errors import HubRefused, InputError
from release.hub import HubRepo, readable_without_token
from release.hub_client import Unavailable, patiently
from release.publish import HeadMoved
from tests.hub.server import Hub

NAME = "org/state"
PATIENCE = 1.0
LARGE = b"x" * 200_000


@pytest.fixture
def repo(hub: Hub) -> HubRepo:
    """A private repository that has one file."""
    repo = HubRepo(NAME, patience=PATIENCE, tell=lambda text: None)
    repo.create_private()
    repo.commit({"notes": b"old"}, [], "notes", repo.head())
    return repo


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, str, str]]]:
    """What happened under each fault, for people to read when all is done."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    print(f"\n{'fault':<14}{'route':<14}what happened")
    for fault, route, outcome in rows:
        print(f"{fault:<14}{route:<14}{outcome}")


def _titles(hub: Hub) -> list[str]:
    return [commit.title for commit in hub.repo(NAME).commits()]


WORKED_ON = ("lose", "half", "stall-answer")
"""Faults after which the Hub has done what it was asked, and the client does not know."""


FAULTS = [
    *(
        (fault, route)
        for fault in ("503", "500", "429", "reset", "lose", "half")
        for route in ("info", "preupload", "lfs-batch", "lfs-upload", "lfs-verify", "commit")
    ),
    *((fault, route) for fault in ("stall", "stall-answer") for route in ("lfs-upload", "commit")),
]


@pytest.mark.parametrize(("fault", "route"), FAULTS)
def test_under_any_fault_there_is_one_commit(
    hub: Hub,
    repo: HubRepo,
    tmp_path: Path,
    table: list[tuple[str, str, str]],
    fault: str,
    route: str,
) -> None:
    parent = repo.head()
    asked, sent = len(hub.requests("commit")), len(hub.requests("lfs-upload"))
    hub.faults.fail(route, fault)
    (tmp_path / "a.bin").write_bytes(LARGE)
    changes: dict[str, bytes | Path] = {"a.bin": tmp_path / "a.bin", "b.json": b"{}"}
    made = repo.commit(changes, ["notes"], "two files", repo.head())
    assert hub.faults.happened == [(route, fault)]
    assert _titles(hub) == ["two files", "notes", "initial commit"]
    assert made == repo.head() != parent
    assert [repo.read(path, made) for path in ("a.bin", "b.json")] == [LARGE, b"{}"]
    hub.faults.abandon()
    hub.settle()
    asked, sent = len(hub.requests("commit")) - asked, len(hub.requests("lfs-upload")) - sent
    found_out = route == "commit" and fault in WORKED_ON
    assert asked == (2 if route == "commit" and not found_out else 1)
    how = "the head has it already" if found_out else "asked again"
    table.append((fault, route, f"{how}; commits 1, commit requests {asked}, uploads {sent}"))


@pytest.mark.parametrize("fault", ["503", "lose", "reset"])
def test_somebody_quicker_wins_whatever_the_answer(hub: Hub, repo: HubRepo, fault: str) -> None:
    head = repo.head()
    hub.faults.fail("commit", fault)
    hub.faults.meanwhile("info", lambda: hub.repo(NAME).put({"theirs": b"1"}))
    titles = ["two files"] if fault == "lose" else []
    if fault == "lose":
        assert repo.commit({"b.json": b"{}"}, [], "two files", head)
    else:
        with pytest.raises(HeadMoved):
            repo.commit({"b.json": b"{}"}, [], "two files", head)
    assert _titles(hub) == ["By hand", *titles, "notes", "initial commit"]


def test_what_was_committed_is_known_under_later_commits(hub: Hub, repo: HubRepo) -> None:
    head = repo.head()
    hub.faults.fail("commit", "lose")
    hub.faults.meanwhile("info", lambda: hub.repo(NAME).put({"theirs": b"1"}))
    made = repo.commit({"b.json": b"{}"}, [], "two files", head)
    assert hub.repo(NAME).commit(made).title == "two files"


@pytest.mark.parametrize("status", ["409", "412"])
def test_a_conflict_that_is_none_passes(hub: Hub, repo: HubRepo, status: str) -> None:
    hub.faults.fail("commit", status)
    assert repo.commit({"b.json": b"{}"}, [], "again", repo.head())
    assert _titles(hub)[0] == "again"


def test_a_lost_race_changes_nothing(hub: Hub, repo: HubRepo) -> None:
    old = repo.head()
    repo.commit({"b.json": b"theirs"}, [], "theirs", old)
    for deletions, additions in ((["notes"], {}), ([], {"b.json": b"ours"})):
        with pytest.raises(HeadMoved):
            repo.commit(additions, deletions, "ours", old)
    assert _titles(hub)[0] == "theirs"


def test_deletions_alone_whose_answer_is_lost_are_not_done_twice(hub: Hub, repo: HubRepo) -> None:
    hub.faults.fail("commit", "lose")
    with pytest.raises(HeadMoved):  # nothing at the head tells them from another's
        repo.commit({}, ["notes"], "fewer", repo.head())
    assert _titles(hub)[0] == "fewer"


def test_a_repository_is_read_at_one_commit(hub: Hub, repo: HubRepo) -> None:
    old = repo.head()
    assert old is not None
    new = repo.commit({"a/b/c.bin": LARGE}, ["notes"], "moved", old)
    assert repo.list(old) == [".gitattributes", "notes"]
    assert repo.list(new) == [".gitattributes", "a/b/c.bin"]
    assert (repo.list(new, "a/b"), repo.list(new, "z")) == (["a/b/c.bin"], [])
    assert (repo.read("notes", old), repo.read("a/b/c.bin", new)) == (b"old", LARGE)
    assert [request.authorized for request in hub.requests("lfs-download")] == [False]
    with pytest.raises(HubRefused, match="notes does not exist"):
        repo.read("notes", new)


def test_a_repository_that_is_not_there(hub: Hub) -> None:
    repo = HubRepo(NAME, patience=PATIENCE)
    assert (repo.exists(), repo.head()) == (False, None)
    with pytest.raises(HubRefused, match=f"{NAME} is not on the Hub, or not for this account"):
        repo.is_private()
    repo.create_private()
    repo.create_private()
    assert (repo.exists(), repo.is_private()) == (True, True)
    repo.check_write()
    assert HubRepo(NAME, "no-branch", PATIENCE).head() is None


def test_one_that_exists_is_not_made_private(hub: Hub) -> None:
    hub.add_repo(NAME)
    repo = HubRepo(NAME, patience=PATIENCE)
    repo.create_private()
    assert not repo.is_private()


def test_anybody_can_read_what_is_public_and_open(hub: Hub) -> None:
    assert not readable_without_token(NAME, None, PATIENCE)
    found = hub.add_repo(NAME, private=True)
    assert not readable_without_token(NAME, None, PATIENCE)
    HubRepo(NAME, patience=PATIENCE).set_visibility("public")
    assert readable_without_token(NAME, "main", PATIENCE)
    assert not readable_without_token(NAME, "v9", PATIENCE)
    found.gated = "auto"
    assert not readable_without_token(NAME, None, PATIENCE)
    asked = [request.authorized for request in hub.log if request.method == "GET"]
    assert True in asked, "opening it asks with the token"
    assert not hub.log[-1].authorized


def test_a_gated_repository_of_others(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo(NAME).gated = "manual"
    head = hub.repo(NAME).branches["main"]
    hub.add_user("bob", "hf_bob")
    monkeypatch.setenv("HF_TOKEN", "hf_bob")
    with pytest.raises(HubRefused, match=r"is gated, .* ask for access at http"):
        HubRepo(NAME, patience=PATIENCE).read(".gitattributes", head)


def test_offline_is_a_setting_not_an_outage(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set: unset it"):
        HubRepo(NAME, patience=PATIENCE).exists()
    assert not hub.log


def _failing(times: int, problem: Exception) -> Callable[[], int]:
    """Raises the problem `times` times, then returns how often it was called."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise problem
        return calls

    return call


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them: a clock that only they move."""
    made: list[float] = []
    monkeypatch.setattr(hub_client.time, "sleep", made.append)
    monkeypatch.setattr(hub_client.time, "monotonic", lambda: sum(made))
    return made


def test_pauses_grow_and_are_told_of_once(pauses: list[float]) -> None:
    told: list[str] = []
    assert patiently(_failing(8, Unavailable("503 Service Unavailable")), 600, told.append) == 9
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert told == [
        "the Hub does not answer (503 Service Unavailable): waiting for it, up to 10 min 0 s"
    ]


def test_the_hub_says_when_to_come_back(pauses: list[float]) -> None:
    patiently(_failing(1, Unavailable("429", 37.0)), 600, lambda text: None)
    assert pauses == [37]


@pytest.mark.parametrize("problem", [Unavailable("503"), Unavailable("429", 61.0)])
def test_patience_has_an_end(pauses: list[float], problem: Unavailable) -> None:
    with pytest.raises(HubRefused, match=r"did not answer for 1 min 0 s .* run the same command"):
        patiently(_failing(1000, problem), 60, lambda text: None)
    assert sum(pauses) <= 60


def test_what_does_not_pass_is_not_waited_for(pauses: list[float]) -> None:
    with pytest.raises(FileNotFoundError):
        patiently(_failing(1, FileNotFoundError("mine")), 600)
    assert not pauses


def test_every_request_has_time_limits(hub: Hub) -> None:
    HubRepo(NAME, patience=600)
    limits = {"connect": 10.0, "read": 60.0, "write": 60.0, "pool": 60.0}
    for asked in ({}, {"timeout": None}):
        answer = get_session().get(f"{hub.url}/api/agent-harnesses", **asked)
        assert answer.request.extensions["timeout"] == limits
    answer = get_session().get(f"{hub.url}/api/agent-harnesses", timeout=3)
    assert answer.request.extensions["timeout"]["read"] == 3


def test_requests_of_other_programs_keep_their_own_retries(hub: Hub, repo: HubRepo) -> None:
    hub.faults.fail("agent-harnesses", "503", times=2)
    url, theirs = f"{hub.url}/api/agent-harnesses", {"user-agent": "datasets/5; hf_hub/2"}
    assert get_session().get(url, headers=theirs).status_code == 503
    with pytest.raises(Unavailable, match="503"):
        get_session().get(url)
    hub.down()
    try:
        with pytest.raises(httpx2.ConnectError):
            get_session().get(url, headers=theirs)
    finally:
        hub.up()
