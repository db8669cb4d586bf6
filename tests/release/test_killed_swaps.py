"""A run that is killed while it puts a release into a folder: readers find a whole dataset, and the
next command leaves nothing beside it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clean_data import Run
from made_releases import save, two_releases

from release import swapping
from release.check import check
from release.manifest import Manifest
from release.publish import LocalTarget
from release.published import local_copy

KILLED = """
import ctypes, os, shutil, signal, sys
from pathlib import Path
from release import swapping
from release.publish import LocalTarget

def killed_at(step, module, name):
    call = getattr(module, name)
    def counted(*arguments, **more):
        global steps
        steps += 1
        if steps == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)
    setattr(module, name, counted)

home, whole, staged = (Path(text) for text in sys.argv[1:4])
if sys.argv[4] == "renames":
    swapping._renameat2 = lambda: None
step = 0
while True:
    step += 1
    folder = home / f"{step}/data"
    shutil.copytree(whole, folder)
    target = LocalTarget(folder)
    after = target.published()
    child = os.fork()
    if child == 0:
        steps = 0
        for name in ("link", "mkdir", "rename", "unlink", "rmdir", "chmod"):
            killed_at(step, os, name)
        killed_at(step, swapping, "exchange")
        target.publish(staged, "r0002", after)
        os._exit(0)
    ended = os.waitpid(child, 0)[1]
    if ended == 0:
        break
    assert os.WTERMSIG(ended) == signal.SIGKILL, ended
print(step)
"""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dataset of one release, and what a second one adds."""
    home = tmp_path_factory.mktemp("releases")
    whole, staged = two_releases(home / "whole"), home / "staged"
    for path in sorted(whole.rglob("*r0002*")):
        (staged / path.relative_to(whole)).parent.mkdir(parents=True, exist_ok=True)
        path.rename(staged / path.relative_to(whole))
    shutil.copy(whole / "README.md", staged)
    first = (whole / "releases/r0001.json").read_bytes()
    save(whole, Manifest.from_bytes(first, "r0001"))
    return whole, staged


@pytest.fixture(scope="module", params=["exchange", "renames"])
def killed(
    request: pytest.FixtureRequest,
    releases: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, list[Path]]:
    """How folders are swapped, and a folder for each step at which a run was killed."""
    home = tmp_path_factory.mktemp(request.param)
    arguments = [sys.executable, "-c", KILLED, home, *releases, request.param]
    ran = subprocess.run(arguments, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    count = int(ran.stdout)
    assert count > 20
    return request.param, [home / f"{step}/data" for step in range(1, count + 1)]


def test_readers_find_a_whole_dataset_without_any_command(killed: tuple[str, list[Path]]) -> None:
    how, folders = killed
    lost = [folder for folder in folders if not folder.exists()]
    assert len(lost) == (how == "renames")  # between the two there is none
    found = [len(check(folder)) for folder in folders if folder not in lost]
    assert found == sorted(found)
    assert set(found) == {1, 2}
    kept = [swapping.beside(folder, "previous") for folder in folders]
    assert {len(check(folder)) for folder in kept if folder.exists()} <= {1}  # whole, to go back


def test_after_the_next_command_nothing_is_left(run: Run, killed: tuple[str, list[Path]]) -> None:
    for folder in killed[1]:
        result = run("check", folder)
        assert result.exit_code == 0, result.output
        assert [path.name for path in folder.parent.iterdir()] == ["data"]


@pytest.mark.parametrize("refused", [errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM])
def test_where_there_is_no_exchange_there_are_renames(
    releases: tuple[Path, Path], tmp_path: Path, refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*arguments: object) -> int:
        swapping.ctypes.set_errno(refused)
        return -1

    monkeypatch.setattr(swapping, "_renameat2", lambda: call)
    target = LocalTarget(Path(shutil.copytree(releases[0], tmp_path / "data")))
    target.publish(releases[1], "r0002", target.published())
    assert len(check(target.path)) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_whoever_may_not_write_beside_the_folder_can_read_it(
    releases: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(releases[0], tmp_path / "data"))
    swapping.beside(folder, "incoming").mkdir()
    if os.geteuid():
        tmp_path.chmod(0o500)
    else:  # whom no mode stops

        def refuse(path: Path) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr(swapping, "held_if_free", refuse)
    try:
        assert len(check(local_copy(str(folder)))) == 1
    finally:
        tmp_path.chmod(0o700)
    assert swapping.beside(folder, "incoming").exists()
