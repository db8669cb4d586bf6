"""A release that is fitted and has no shards yet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clean_data import Run
from stage_process import planned


@pytest.fixture(scope="session")
def fitted(run: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WORKDIR with a State and no shards; crafting takes a few seconds, over 24 shards."""
    workdir = tmp_path_factory.mktemp("fitted")
    made = run(*planned(small, workdir, workers=2))
    assert made.exit_code == 0, made.stderr
    assert run("fit", "--workdir", workdir).exit_code == 0
    return workdir


@pytest.fixture
def workdir(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "w"))
