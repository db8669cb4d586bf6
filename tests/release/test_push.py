"""The whole way through on real digits: what readers get, what stays secret, what is not redone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_data import Run
from PIL import Image


@dataclass(frozen=True)
class Pushed:
    """A release made by `push --json`, and how it was made."""

    arguments: tuple[object, ...]
    source: Path
    folder: Path
    workdir: Path
    told: dict[str, Any]
    stderr: str


@pytest.fixture(scope="module")
def pushed(
    run: Run, small: Path, quick: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Pushed:
    home = tmp_path_factory.mktemp("pushed")
    arguments = (
        *("push", small, "--to", home / "release", "--workdir", home / "work", *quick),
        *("--keep-column", "writer", "--format", "parquet,webdataset", "--victim-epochs", "1"),
        *("--max-accuracy", "1", "--license", "mit", "--seed", "3", "--json"),
    )
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    return Pushed(arguments, small, home / "release", home / "work", told, result.stderr)


@pytest.fixture(scope="module")
def clean(small: Path) -> list[dict[str, Any]]:
    """The rows of the clean train split as `datasets` reads them."""
    return _read(small / "data/train-0.parquet")


def _read(*paths: Path) -> list[dict[str, Any]]:
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=[str(path) for path in paths], split="train")
    return [row | {"image": np.asarray(row["image"])} for row in rows]


def test_push_says_what_came_of_it(pushed: Pushed) -> None:
    told = pushed.told
    first = pushed.stderr.splitlines()[0]
    assert first == f"clean {pushed.source} -> {pushed.folder} (new)"
    assert (told["changed"], told["release"]) == (True, "r0001")
    assert told["published"] == str(pushed.folder)
    assert (told["rows"], told["released"], told["quarantined"]) == (96, 96, 0)
    assert (told["method"], told["budget"], told["verdict"]) == ("sep-fa-mi", "linf:8", "holds")
    assert {"plan", "fit", "craft", "verify", "card", "publish"} <= set(told["seconds"])
    assert [trial["victim"] for trial in told["trials"]] == ["vgg-w16", "resnet10-w16"]
    assert [trial["held_out"] for trial in told["trials"]] == [False, True]
    for trial in told["trials"]:
        shares = [trial[name] for name in ("clean", "protected", "peak", "renamed")]
        assert all(0 <= share <= 1 for share in shares)
        assert trial["peak"] >= trial["protected"]


def test_the_stage_that_verifies_says_what_victims_came_to(run: Run, pushed: Pushed) -> None:
    result = run("verify", "--workdir", pushed.workdir)
    assert result.exit_code == 0, result.stderr
    assert "resnet10-w16" in result.stdout
    assert "flag: " in result.stdout
    assert f"report: {pushed.workdir}/report/report.html" in result.stdout
    told = json.loads(run("verify", "--workdir", pushed.workdir, "--json").stdout)
    assert (told["trials"], told["verdict"]) == (pushed.told["trials"], "holds")
    assert told["sentence"] in result.stdout
    assert "verify" in told["seconds"]
    report = json.loads(Path(told["report"], "report.json").read_text())
    assert [flag["id"] for flag in report["flags"]] == told["flags"]


def test_the_stage_that_verifies_refuses_what_it_would_ignore(run: Run, pushed: Pushed) -> None:
    """A looser gate, or a report that nobody finds, would be believed in."""
    asked = ("--countermeasure", "jpeg", "--seeds", "3", "--max-accuracy", ".2", "--publish")
    result = run("verify", "--workdir", pushed.workdir, *asked, "--out", pushed.workdir / "out")
    assert result.exit_code == 2
    named = "--countermeasure, --seeds, --max-accuracy, --publish, --out"
    assert f"{named} would change nothing: name a published RELEASE" in result.stderr


def test_every_row_is_there_once_within_budget(pushed: Pushed, clean: list[dict[str, Any]]) -> None:
    released = _read(*sorted(pushed.folder.glob("data/train/*.parquet")))
    assert len(released) == len(clean)
    moved = 0
    for before, after in zip(clean, released, strict=True):
        assert set(after) == {"image", "label", "writer"}
        assert (after["label"], after["writer"]) == (before["label"], before["writer"])
        distance = np.abs(after["image"].astype(int) - before["image"].astype(int)).max()
        assert distance <= 8
        moved += distance > 0
    assert moved == len(clean)


def test_readers_load_it_like_any_dataset(pushed: Pushed, clean: list[dict[str, Any]]) -> None:
    from datasets import load_dataset

    data = load_dataset(str(pushed.folder), split="train")
    stream = list(load_dataset(str(pushed.folder), split="train", streaming=True))
    assert data.features["label"].names == ["none", "one", "two", "3"]
    assert data["label"] == [row["label"] for row in clean] == [row["label"] for row in stream]
    assert np.array_equal(np.asarray(data[5]["image"]), np.asarray(stream[5]["image"]))


# webdataset leaves the last tar open for the collector to close.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same_rows(pushed: Pushed, clean: list[dict[str, Any]]) -> None:
    import webdataset

    tars = sorted(str(path) for path in pushed.folder.glob("webdataset/train/*.tar"))
    samples = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    released = _read(*sorted(pushed.folder.glob("data/train/*.parquet")))
    assert [sample["cls"] for sample in samples] == [row["label"] for row in clean]
    assert [sample["json"]["writer"] for sample in samples] == [row["writer"] for row in clean]
    for sample, row in zip(samples, released, strict=True):
        assert np.array_equal(sample["png"][..., 0], row["image"])


def test_the_release_is_whole_and_says_so(run: Run, pushed: Pushed) -> None:
    result = run("check", pushed.folder, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["rows"] == 96


def test_no_secret_leaves_the_workdir(pushed: Pushed, clean: list[dict[str, Any]]) -> None:
    plan = json.loads((pushed.workdir / "plan.json").read_text())
    secrets = [plan["seed"], plan["source"]["pin"], str(pushed.source), str(pushed.workdir)]
    digests = np.load(pushed.workdir / "survey/train/digests.npy")
    needles = [text.encode() for text in secrets] + [digests[0].tobytes()]
    needles += [digests[0].tobytes().hex().encode(), bytes(clean[0]["image"].tobytes())]
    published = [path for path in pushed.folder.rglob("*") if path.is_file()]
    assert len(published) > 10
    for path in published:
        content = path.read_bytes()
        assert not [needle for needle in needles if needle in content], path
    assert (pushed.workdir / "plan.json").stat().st_mode & 0o077 == 0
    assert pushed.workdir.stat().st_mode & 0o077 == 0


def test_published_pictures_show_no_clean_row(pushed: Pushed, clean: list[dict[str, Any]]) -> None:
    pictures = sorted(pushed.folder.rglob("*.png"))
    assert [path.name for path in pictures] == ["accuracy.png", "confusion.png", "images.png"]
    originals = {row["image"].tobytes() for row in clean}
    released = {
        row["image"].tobytes() for row in _read(*pushed.folder.glob("data/train/*.parquet"))
    }
    shown = {tile.tobytes() for tile in _tiles(pictures[-1], side=28)}
    assert shown & released, "the picture should show rows of the release"
    assert not shown & originals


def _tiles(path: Path, side: int) -> list[np.ndarray]:
    """Every window of a picture that may be an image of this side, scaled up by a whole number."""
    with Image.open(path) as opened:
        picture = np.asarray(opened.convert("L"))
    found = []
    for scale in range(1, 9):
        size = side * scale
        for top in range(0, picture.shape[0] - size + 1, 4):
            for left in range(0, picture.shape[1] - size + 1, 4):
                found.append(picture[top : top + size : scale, left : left + size : scale])
    return found


def test_the_same_command_again_does_nothing(run: Run, pushed: Pushed) -> None:
    before, release = _times(pushed.workdir), _bytes(pushed.folder)
    result = run(*pushed.arguments)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"changed": False}
    assert (_times(pushed.workdir), _bytes(pushed.folder)) == (before, release)


def _elsewhere(pushed: Pushed, target: Path) -> list[object]:
    """The same command in the same WORKDIR for another target."""
    return [target if argument == pushed.folder else argument for argument in pushed.arguments]


def test_another_target_reuses_every_stage(run: Run, pushed: Pushed, tmp_path: Path) -> None:
    before = _times(pushed.workdir)
    result = run(*_elsewhere(pushed, tmp_path / "twin"))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["trials"] == pushed.told["trials"]
    assert _times(pushed.workdir) == before


def _times(workdir: Path) -> dict[str, int]:
    """When each output that takes long was written."""
    folders = ("state", "shards", "trials", "cache", "protected")
    files = [path for name in folders for path in (workdir / name).rglob("*") if path.is_file()]
    return {str(path): path.stat().st_mtime_ns for path in files}


def test_a_new_gate_reuses_every_trial_and_publishes_nothing(
    run: Run, pushed: Pushed, tmp_path: Path
) -> None:
    before = _times(pushed.workdir)
    result = run(*_elsewhere(pushed, tmp_path / "twin"), "--max-accuracy", "0")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["verdict"], told["changed"], told["published"]) == ("missed", False, None)
    assert "more than the 0.0 % allowed" in result.stderr
    assert json.loads((pushed.workdir / "report/report.json").read_text())["verdict"]
    assert _times(pushed.workdir) == before
    assert not (tmp_path / "twin").exists()


def _bytes(folder: Path) -> dict[str, bytes]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_new_budget_reuses_the_surrogate(run: Run, pushed: Pushed, tmp_path: Path) -> None:
    states = sorted((pushed.workdir / "state").iterdir())
    changes = ("--budget", "linf:3", "--no-verify", "--protect-classes", "one,two")
    result = run(*_elsewhere(pushed, tmp_path / "other"), *changes)
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["verdict"], told["trials"]) == ("not verified", [])
    assert sorted((pushed.workdir / "state").iterdir()) == states
    assert "**Not verified.**" in (tmp_path / "other/README.md").read_text()
    _only_chosen_classes_moved(pushed, tmp_path / "other")


def _only_chosen_classes_moved(pushed: Pushed, folder: Path) -> None:
    before = _read(pushed.source / "data/train-0.parquet")
    after = _read(*sorted(folder.glob("data/train/*.parquet")))
    moved = [
        np.abs(a["image"].astype(int) - b["image"].astype(int)).max()
        for a, b in zip(after, before, strict=True)
    ]
    labels = [row["label"] for row in before]
    assert {label for label, levels in zip(labels, moved, strict=True) if levels} == {1, 2}
    assert max(moved) == 3
    unprotected = json.loads((folder / "releases/r0001.json").read_text())["unprotected"]
    assert unprotected == sum(label in (0, 3) for label in labels)


def test_a_damaged_release_is_found(run: Run, pushed: Pushed, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(pushed.folder, tmp_path / "copy")
    shard = min(copy.glob("data/train/*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    result = run("check", copy)
    assert result.exit_code == 6
    assert shard.name in result.stderr


def test_images_are_lossless_files_named_by_their_row(pushed: Pushed) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(min(pushed.folder.glob("data/train/*.parquet")))
    stored = table["image"].to_pylist()
    assert stored[3]["path"] == "train-00000003.png"
    assert Image.open(BytesIO(stored[3]["bytes"])).format == "PNG"
