"""A job that runs this repository's action."""

from __future__ import annotations

from pathlib import Path

import pytest
from github_job import ROOT, Job


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(ROOT / ".github/actions/protect-release/action.yml", tmp_path)
