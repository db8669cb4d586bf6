"""No image of a folder is lost without a word: it is a row, is told, or the folder is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from clean_data import Run
from source_files import png

from release.errors import InputError
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


@pytest.mark.parametrize(
    ("folders", "says"),
    [
        (["bus", "car", "train"], "6 images of SPEC .*first: bus/0.png.* into one called train"),
        (["train/a", "train/b", "more/c"], "3 images .*first: more/c/0.png.*beside train"),
        (["a", "b", "__unknown__"], "3 images .*nothing that is called __unknown__; rename"),
        (["a", "b", "c::d"], "3 images .*nothing that is called c::d; rename"),
        (
            ["train/a", "train/test"],
            "3 files .*several of the splits train, test.*train/test/0.png",
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
    asked = ("--to", tmp_path / "out", "--workdir", tmp_path / "work", "--no-verify")
    told = run("plan", folder, *asked, "--method", "random-noise", "--json")
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


def test_images_on_the_hub_are_not_lost_either(hub: Hub) -> None:
    repo = hub.add_repo("org/traffic", private=True)
    repo.put({name: png(seed) for seed, name in enumerate(_names("bus", "car", "train"))})
    with pytest.raises(InputError, match=r"6 images of org/traffic .*first: bus/0\.png"):
        open_source("org/traffic")
    repo.put(dict.fromkeys(_names("train")) | {"a/x.heic": b"x"})
    source = open_source("org/traffic")
    assert source.num_rows("train") == 6
    assert source.unread == ["1 .heic (first: a/x.heic)"]
