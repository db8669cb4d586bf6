"""The action with the real tool, on a Hub that trusts the job: a dataset grows overnight."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from github_job import Job
from huggingface_hub import HfApi

from tests.hub.server import Hub

SOURCE, TARGET, STATE = "org/digits", "org/digits-protected", "org/digits-protected-state"
KEY = "a key of the state, 32 letters"
SETTINGS = ("--victim-epochs", "1", "--max-accuracy", "1", "--victim", "vgg-w16")

pytestmark = pytest.mark.slow


def _add(folder: Path, digits: tuple[np.ndarray, np.ndarray], name: str, rows: slice) -> None:
    """The rows are one more file of the clean dataset on the Hub."""
    pixels, labels = (values[digits[1] < 4][rows] for values in digits)
    write_split(folder / name, pixels, labels)
    HfApi().upload_file(
        path_or_fileobj=folder / name,
        path_in_repo=f"data/{name}",
        repo_id=SOURCE,
        repo_type="dataset",
    )


@pytest.fixture
def first(
    hub: Hub,
    run: Run,
    quick: tuple[str, ...],
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A private clean dataset whose first release was pushed by hand; the folder of its files."""
    folder = tmp_path / "clean"
    HfApi().create_repo(SOURCE, repo_type="dataset", private=True)
    _add(folder, digits, "train-0.parquet", slice(64))
    _add(folder, digits, "test-0.parquet", slice(400, 440))
    monkeypatch.setenv("PROTECT_RELEASE_KEY", KEY)
    by_hand = ("push", SOURCE, "--to", TARGET, "--state", STATE, "--workdir", tmp_path / "by-hand")
    result = run(*by_hand, *quick, *SETTINGS, "--license", "mit")
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def job(job: Job, hub: Hub) -> Job:
    """A job of org/code, which the target trusts; it has one token for the source and another for
    the state."""
    hub.add_job("job-1", "org/code")
    hub.trust(f"datasets/{TARGET}", "org/code")
    hub.add_token("alice", "hf_source", "read", only=f"datasets/{SOURCE}")
    hub.add_token("alice", "hf_state", "write", only=f"datasets/{STATE}")
    kept = {name: text for name, text in os.environ.items() if name.startswith("HF_")}
    job.env |= kept | {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{hub.url}/oidc/token",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "job-1",
        "HF_HOME": str(job.folder / "huggingface"),
        "NO_PROXY": os.environ["NO_PROXY"],
        "OMP_NUM_THREADS": "1",
    }
    del job.env["HF_TOKEN"]
    (job.programs / "protect-release").symlink_to(Path(sys.executable).with_name("protect-release"))
    return job


def _scheduled(job: Job, **more: str) -> Job:
    """The job ran as a schedule starts it."""
    arguments = "\n".join(f"{n}={v}" for n, v in zip(SETTINGS[::2], SETTINGS[1::2], strict=True))
    inputs = {"source": SOURCE, "target": TARGET, "workers": "1", "arguments": arguments}
    tokens = {"source_token": "hf_source", "state_token": "hf_state", "key": KEY}
    return job.run(**inputs | tokens | {"incremental_method": "sep-fa-mi"} | more)


def test_a_scheduled_job_adds_what_is_new_where_it_holds(
    first: Path, hub: Hub, job: Job, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    """One story, since each of its steps costs a run of the tool."""
    before = hub.repo(TARGET).commits()
    _nothing_is_new(job)
    _add(first, digits, "train-1.parquet", slice(64, 88))
    _who_is_not_trusted_is_told_so(job, hub)
    _what_does_not_hold_is_not_published(job)
    assert hub.repo(TARGET).commits() == before
    _new_rows_are_published_by_the_job(job, hub)
    _nothing_is_new(job)


def _nothing_is_new(job: Job) -> None:
    _scheduled(job)
    assert job.code == 0, job.said
    assert job.outputs == {"changed": "false", "release": "", "url": ""}
    assert "nothing new" in job.summary


def _who_is_not_trusted_is_told_so(job: Job, hub: Hub) -> None:
    trusted, hub.accounts.publishers = hub.accounts.publishers, {}
    _scheduled(job)
    hub.accounts.publishers = trusted
    assert job.code == 2, job.said
    assert "trusted publisher" in job.summary
    assert not job.artifacts


def _what_does_not_hold_is_not_published(job: Job) -> None:
    _scheduled(job, max_accuracy="0", arguments="--victim-epochs=1\n--victim=vgg-w16")
    assert job.code == 3, job.said
    assert "does not hold" in job.summary
    assert job.outputs == {"changed": "false", "release": "", "url": ""}
    assert len(job.artifacts) == 1


def _new_rows_are_published_by_the_job(job: Job, hub: Hub) -> None:
    _scheduled(job)
    assert job.code == 0, job.said
    commit = hub.repo(TARGET).commits()[0]
    assert commit.author == "org/code"
    url = f"{hub.url}/datasets/{TARGET}/commit/{commit.id}"
    assert job.outputs == {"changed": "true", "release": "r0002", "url": url}
    manifest = json.loads(hub.repo(TARGET).read("main", "releases/r0002.json"))
    assert manifest["release"] == "r0002"
    assert "| vgg-w16" in job.summary
    [artifact] = job.artifacts
    assert (Path(artifact["path"]) / "report.json").is_file()
    assert not [secret for secret in (KEY, "hf_s", "hf_jwt") if secret in job.said + job.summary]
