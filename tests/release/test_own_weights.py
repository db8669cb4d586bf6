"""Victims that start from the owner's own file: what is published says which, not where it lies."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from clean_data import Run
from verifying import FAST, verify

from crafting.nets import build

pytestmark = pytest.mark.slow

CHEAP = (
    *("--method", "random-noise", "--rows", "32", "--victim", "vgg-w16", "--victim-epochs", "1"),
    *("--workers", "1", "--json"),
)


@dataclass(frozen=True)
class Finetuned:
    """A release that was verified with weights, the file of these, and how reports write it."""

    release: Path
    weights: Path
    public: str


@pytest.fixture(scope="module")
def finetuned(run: Run, small: Path, tmp_path_factory: pytest.TempPathFactory) -> Finetuned:
    home = tmp_path_factory.mktemp("finetuned")
    weights, release = home / "secret/w.pt", home / "release"
    weights.parent.mkdir()
    torch.save(build("vgg-w16", 4, 32).state_dict(), weights)
    tried = ("--countermeasure", "none", "--countermeasure", f"finetune:weights={weights}")
    # What they learn from random noise does not matter.
    asked = ("--to", release, *tried, "--max-accuracy", "1", "--workdir", home / "work")
    pushed = run("push", small, *asked, *CHEAP)
    assert pushed.exit_code == 0, pushed.output
    content = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
    return Finetuned(release, weights, f"finetune:weights=w.pt@{content}")


def test_no_published_file_says_where_weights_lie(finetuned: Finetuned) -> None:
    for path in finetuned.release.rglob("*"):
        if path.is_file():
            assert str(finetuned.weights.parent).encode() not in path.read_bytes(), path
    manifest = json.loads((finetuned.release / "releases/r0001.json").read_text())
    report = json.loads((finetuned.release / "reports/r0001/report.json").read_text())
    tried = ["none", finetuned.public]
    assert manifest["plan"]["countermeasures"] == tried
    assert report["release"]["countermeasures"] == tried
    assert [trial["countermeasure"] for trial in report["trials"]] == tried


def test_such_a_release_is_read_back(
    run: Run, small: Path, finetuned: Finetuned, tmp_path: Path
) -> None:
    for command in ("check", "status"):
        assert run(command, finetuned.release, "--json").exit_code == 0
    same = run("push", small, "--to", finetuned.release, "--workdir", tmp_path / "push", *CHEAP)
    assert json.loads(same.stdout) == {"changed": False}
    asked = ("--clean", small, "--countermeasure", "none")
    places = ("--workdir", tmp_path / "work", "--out", tmp_path / "out")
    verify(run, finetuned.release, *asked, *places, *FAST)
    facts = json.loads((tmp_path / "out/report.json").read_text())["release"]
    assert facts["countermeasures"] == ["none", finetuned.public]
