"""Two runs that publish to one folder at the same moment: one does, the other is told, and nothing
is lost."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from release import swapping
from release.publish import HeadMoved, LocalTarget

RENAMED = ("target", ".target.incoming", ".target.previous")
"""What is renamed to swap a target of this name, in this order, where there is no one step."""
POINTS = ("exchange", *RENAMED)


def _release(folder: Path, name: str, by: str) -> Path:
    """The files that a release adds, as this run makes them."""
    (folder / "data").mkdir(parents=True)
    (folder / "releases").mkdir()
    manifest = {"made_by": "protect-release", "by": by}
    (folder / f"releases/{name}.json").write_text(json.dumps(manifest))
    (folder / f"data/{name}-{by}.parquet").write_text(by)
    (folder / "README.md").write_text(f"card of {name} by {by}")
    return folder


def _report(folder: Path) -> Path:
    """The files that a verification adds."""
    (folder / "reports").mkdir(parents=True)
    (folder / "reports/verified.json").write_text("holds")
    (folder / "README.md").write_text("card with a verification")
    return folder


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FIRST = ["README.md", "data/r0001-me.parquet", "releases/r0001.json"]
BOTH = [*FIRST[:2], "data/r0002-me.parquet", *FIRST[2:], "releases/r0002.json"]


@pytest.fixture
def target(tmp_path: Path) -> LocalTarget:
    """A folder that holds a first release."""
    return LocalTarget(_release(tmp_path / "target", "r0001", "me"))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return _release(tmp_path / "mine", "r0002", "me")


@contextmanager
def _beside(point: str, other: Callable[[], object]) -> Iterator[list[Future[object]]]:
    """When the target is about to be exchanged, or a folder of this name to be renamed, `other`
    begins, and that is done once `other` has ended or asks for a lock; at the end of it all `other`
    has ended."""
    rename, flock, goes_on = Path.rename, fcntl.flock, threading.Event()
    exchange = swapping.exchange
    begun: list[bool] = []
    ended: list[Future[object]] = []

    def let_begin(at: str) -> None:
        if at == point and not begun:
            begun.append(True)
            ended.append(pool.submit(other))
            ended[0].add_done_callback(lambda _: goes_on.set())
            assert goes_on.wait(60)

    def rename_later(self: Path, to: Path) -> Path:
        let_begin(self.name)
        return rename(self, to)

    def exchange_later(one: Path, two: Path) -> bool:
        let_begin("exchange")
        return point not in RENAMED and exchange(one, two)

    def told_of(file: int, operation: int) -> None:
        if begun:
            goes_on.set()
        flock(file, operation)

    with pytest.MonkeyPatch.context() as patched, ThreadPoolExecutor() as pool:
        patched.setattr(Path, "rename", rename_later)
        patched.setattr(swapping, "exchange", exchange_later)
        patched.setattr(fcntl, "flock", told_of)
        yield ended


@pytest.mark.parametrize("point", POINTS)
def test_of_two_releases_one_is_published(
    target: LocalTarget, mine: Path, tmp_path: Path, point: str
) -> None:
    theirs, after = _release(tmp_path / "theirs", "r0002", "somebody"), target.published()
    with _beside(point, lambda: target.publish(theirs, "r0002", after)) as other:
        target.publish(mine, "r0002", after)
    assert isinstance(other[0].exception(), HeadMoved)
    assert _files(target.path) == BOTH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "target", "theirs"]


@pytest.mark.parametrize("point", POINTS)
def test_a_verification_waits_for_a_release(
    target: LocalTarget, mine: Path, tmp_path: Path, point: str
) -> None:
    report, after = _report(tmp_path / "report"), target.published()
    with _beside(point, lambda: target.add(report, "verified", after)) as other:
        target.publish(mine, "r0002", after)
    assert isinstance(other[0].exception(), HeadMoved)
    assert target.published().readme == "card of r0002 by me"
    target.add(report, "verified", target.published())
    assert _files(target.path) == sorted([*BOTH, "reports/verified.json"])


def test_a_line_that_was_added_to_the_card_meanwhile_is_not_written_over(
    target: LocalTarget, mine: Path, tmp_path: Path
) -> None:
    after = target.published()
    target.add(_report(tmp_path / "report"), "verified", after)
    with pytest.raises(HeadMoved):
        target.publish(mine, "r0002", after)
    assert target.published().readme == "card with a verification"


def test_a_swap_that_is_under_way_is_not_undone(target: LocalTarget, mine: Path) -> None:
    """As a look at the folder does with one that was killed at this point."""
    with _beside(".target.incoming", target.published) as other:
        target.publish(mine, "r0002", target.published())
    assert other[0].result() == target.published()
    assert _files(target.path) == BOTH


def test_a_reader_neither_waits_for_a_run_nor_disturbs_it(
    target: LocalTarget,
) -> None:
    (made := target.path.with_name(".target.incoming")).mkdir()
    with open(lock := target.path.with_name(".target.lock"), "a") as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        assert list(target.published().releases) == ["r0001"]
        assert made.exists()
        assert lock.exists()
    assert list(target.published().releases) == ["r0001"]
    assert not made.exists()
    assert not lock.exists()


def test_of_two_first_releases_one_is_published(tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "target")
    after = target.published()
    mine, theirs = (_release(tmp_path / by, "r0001", by) for by in ("me", "somebody"))
    with _beside(".target.incoming", lambda: target.publish(theirs, "r0001", after)) as other:
        target.publish(mine, "r0001", after)
    assert isinstance(other[0].exception(), HeadMoved)
    assert _files(target.path) == FIRST
