"""No image of a folder is lost without a word: it is a row, is told, or the folder is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from clean_data import Run
from source_files import png
from typer.testing import Result

from release.errors import InputError
from release.plan import ReleasePlan
from release.source import open_source
from tests.hub.server import Hub


def _folder(path: Path, files: Sequence[str]) -> Path:
    """A folder with these files, each a picture of its own whatever it is called."""
    for seed, name in enumerate(files):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(png(seed))
    return path


def _names(*folders: str, each: int = 3) -> list[str]:
    return [f"{folder}/{number}.png" for folder in folders for number in range(each)]


PLAN = ("--no-verify", "--json")


def _plan(run: Run, folder: Path, tmp_path: Path, *more: object) -> Result:
    return run("plan", folder, "--to", tmp_path / "o", "--workdir", tmp_path / "w", *PLAN, *more)


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["bus", "car", "train"], "images of SPEC .*6, first bus/0.png.* into one called train"),
        (["train/a", "train/b", "more/c"], "3, first more/c/0.png.*beside train"),
        (["a", "b", "__unknown__"], "3, first .*nothing that is called __unknown__; rename"),
        (["a", "b", "c::d"], "3, first .*nothing that is called c::d; rename"),
        (
            ["train/a", "train/test"],
            "several of the splits train, test .3, first train/test/0.png",
        ),
    ],
)
def test_images_that_would_be_lost_are_named(tmp_path: Path, folders: list[str], says: str) -> None:
    folder = _folder(tmp_path / "images", _names(*folders))
    with pytest.raises(InputError, match=says.replace("SPEC", re.escape(str(folder)))):
        open_source(str(folder))


@pytest.mark.parametrize(
    ("folders", "rows"),
    [
        (["a", "b", "c"], 9),
        (["train/a", "train/b", "test/a", "test/b", "validation/a", "validation/b"], 6),
        (["train/deep/a", "train/deep/b"], 6),
        (["a", "b", ".cache", "a/.thumbs"], 6),
    ],
)
def test_ordinary_folders_are_whole(tmp_path: Path, folders: list[str], rows: int) -> None:
    folder = _folder(tmp_path, [*_names(*folders), ".hidden.png"])
    (folder / "README.md").write_text("# Pictures\n")
    source = open_source(str(folder))
    assert source.num_rows("train") == rows
    assert source.unread == []


def test_what_is_no_row_is_told(run: Run, tmp_path: Path) -> None:
    files = ["a/x.heic", "b/y.HEIC", "b/z", "LICENSE.txt"]
    folder = _folder(tmp_path / "images", [*_names("a", "b"), *files])
    told = _plan(run, folder, tmp_path)
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["not_published"] == {
        "files": [
            "2 .heic (first: a/x.heic)",
            "1 .txt (first: LICENSE.txt)",
            "1 without extension (first: b/z)",
        ]
    }
    assert "not published: files 2 .heic (first: a/x.heic), 1 .txt" in told.stderr


def test_what_the_card_leaves_out_is_told(tmp_path: Path) -> None:
    folder = _folder(tmp_path, [*_names("a", "b"), "drawings/plan.png"])
    chosen = "data_files: [{split: train, path: '[ab]/*'}]"
    card = f"---\nconfigs:\n- config_name: default\n  {chosen}\n---\n"
    (folder / "README.md").write_text(card)
    source = open_source(str(folder))
    assert source.num_rows("train") == 6
    assert source.unread == ["1 .png (first: drawings/plan.png)"]


def test_test_images_without_labels_take_none_from_the_others(run: Run, tmp_path: Path) -> None:
    files = [*_names("train/a", "train/b"), "test/0.png", "test/1.png"]
    folder = _folder(tmp_path / "images", files)
    told = _plan(run, folder, tmp_path)
    assert told.exit_code == 0, told.output
    plan = ReleasePlan.load(tmp_path / "w/plan.json")
    assert (plan.class_names, plan.num_rows, plan.test_split) == (["a", "b"], 6, None)
    assert "split test has no labels" in told.stderr
    told = _plan(run, folder, tmp_path, "--test-split", "test")
    assert told.exit_code == 2
    assert "split test has no labels to score victims by: name another" in told.stderr


def test_labelled_rows_are_scored_on_labelled_folders(run: Run, tmp_path: Path) -> None:
    folders = ("train/a", "train/b", "validation/a", "validation/c")
    folder = _folder(tmp_path / "images", [*_names(*folders), "test/0.png"])
    told = _plan(run, folder, tmp_path)
    assert told.exit_code == 2, told.output
    assert "class c of" in told.stderr, "a class of other splits is a class"
    told = _plan(run, folder, tmp_path, "--split", "validation")
    assert told.exit_code == 2, told.output
    assert "class b of" in told.stderr


def test_a_stray_picture_is_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path, [*_names("a", "b"), "cover.png"])
    with pytest.raises(InputError, match=r"class folders such as a.*1, first cover"):
        open_source(str(folder))


def test_loose_pictures_get_labels_by_folders(run: Run, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", ["0.png", "1.png", "2.png"])
    told = _plan(run, folder, tmp_path)
    assert told.exit_code == 2
    assert "method sep-fa-vr needs them: put the images of each class into a folder" in told.stderr
    assert "--label-column" not in told.stderr
    told = _plan(run, folder, tmp_path, "--method", "random-noise")
    assert told.exit_code == 0, told.output
    assert "the rows of split train have no labels" in told.stderr


def test_images_on_the_hub_are_not_lost_either(hub: Hub) -> None:
    repo = hub.add_repo("org/traffic", private=True)
    repo.put({name: png(seed) for seed, name in enumerate(_names("bus", "car", "train"))})
    with pytest.raises(InputError, match=r"images of org/traffic .*6, first bus/0\.png"):
        open_source("org/traffic")
    repo.put(dict.fromkeys(_names("train")) | {"a/x.heic": b"x"})
    source = open_source("org/traffic")
    assert source.num_rows("train") == 6
    assert source.unread == ["1 .heic (first: a/x.heic)"]
