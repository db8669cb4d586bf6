"""Sources as they really are: images of any kind and size, damaged ones among them, and tars."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from PIL import Image

from release.images import decode
from release.source import open_source

ALONE = ("--workers", "1")
NOISE = ("--method", "random-noise", "--no-verify", *ALONE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """Thirty images in two class folders, of five modes, three formats and three sizes; one is
    truncated."""
    source = tmp_path_factory.mktemp("mixed")
    for number in range(30):
        path = source / ("even" if number % 2 else "odd") / f"{number:02d}"
        path.parent.mkdir(exist_ok=True)
        _save(Image.fromarray(digits[0][number]), number, path)
    damaged = source / "odd/00.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    return source


def _save(image: Image.Image, number: int, path: Path) -> None:
    mode = ("L", "RGB", "P", "RGBA", "I;16")[number % 5]
    side = (28, 20, 37)[number % 3]
    image = image.resize((side, side + number % 2 * 5))
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    else:
        image = image.convert(mode)
    kind = "png" if mode in ("P", "I;16") or number == 0 else ("png", "webp")[number % 2]
    if mode == "RGB" and number % 4 == 0:
        kind = "jpeg"
    image.save(path.with_suffix(f".{kind}"))


def test_any_mix_of_images_is_protected_at_its_own_size(
    run: Run, folder: Path, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    options = ("--no-verify", "--max-bad", "5%", "--encoding", "webp", "--net-size", "16", *ALONE)
    result = run(
        "push",
        folder,
        "--to",
        tmp_path / "out",
        "--workdir",
        tmp_path / "w",
        *quick,
        *options,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["rows"], told["released"], told["quarantined"]) == (30, 29, 1)
    clean = {row.number: row for row in open_source(str(folder)).rows("train")}
    released = _released(tmp_path / "out")
    assert len(released) == 29
    for number, (pixels, label) in released.items():
        before = decode(clean[number].image).pixels
        assert pixels.shape[:2] == before.shape[:2]
        assert 0 < np.abs(pixels.astype(int) - before.astype(int)).max() <= 8
        assert label == clean[number].label
    manifest = json.loads((tmp_path / "out/releases/r0001.json").read_text())
    [[lost, reason]] = manifest["quarantined"]
    assert lost not in released
    assert "unreadable" in reason
    card = (tmp_path / "out/README.md").read_text()
    assert "16-bit" in card
    assert "palette" in card


def _released(folder: Path) -> dict[int, tuple[np.ndarray, int]]:
    """Pixels and label of each row of a release, by its number, read with `datasets`."""
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    rows = load_dataset(str(folder), split="train").cast_column("image", ImageFeature(decode=False))
    return {
        int(row["image"]["path"].split("-")[1][:8]): (
            decode(row["image"]["bytes"]).pixels,
            row["label"],
        )
        for row in rows
    }


@pytest.mark.slow
def test_tars_are_a_source_and_a_share_can_be_protected(
    run: Run, small: Path, tmp_path: Path, quick: tuple[str, ...]
) -> None:
    first = ("--to", tmp_path / "tars", "--workdir", tmp_path / "w1", "--format", "webdataset")
    made = run("push", small, *first, *NOISE)
    assert made.exit_code == 0, made.stderr
    # The release is refused as a source, so its tars are taken elsewhere, as anyone's might be.
    (tmp_path / "plain").mkdir()
    for tar in (tmp_path / "tars").rglob("*.tar"):
        tar.rename(tmp_path / "plain" / tar.name)
    second = ("--to", tmp_path / "out", "--workdir", tmp_path / "w2", "--protect-share", "0.5")
    again = run("push", tmp_path / "plain", *second, *quick, *ALONE, "--no-verify", "--json")
    assert again.exit_code == 0, again.stderr
    before = {
        row.number: decode(row.image).pixels
        for row in open_source(str(tmp_path / "plain")).rows("train")
    }
    released = _released(tmp_path / "out")
    moved = [np.any(pixels != before[row]) for row, (pixels, _) in released.items()]
    assert len(moved) == 96
    assert 30 <= sum(moved) <= 66
    manifest = json.loads((tmp_path / "out/releases/r0001.json").read_text())
    assert manifest["unprotected"] == 96 - sum(moved)


def test_a_release_is_no_source(run: Run, small: Path, tmp_path: Path) -> None:
    options = (*NOISE, "--workdir", tmp_path / "w")
    assert run("push", small, "--to", tmp_path / "out", *options).exit_code == 0
    refused = run("push", tmp_path / "out", "--to", tmp_path / "again", *options)
    assert refused.exit_code == 2
    assert "is itself a release" in refused.stderr
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_chosen_rows_may_be_shown_clean(run: Run, small: Path, tmp_path: Path) -> None:
    options = (*NOISE, "--workdir", tmp_path / "w")
    shown = run("push", small, "--to", tmp_path / "out", *options, "--show-rows", "5,2")
    assert shown.exit_code == 0, shown.stderr
    assert (tmp_path / "out/reports/r0001/shown.png").is_file()
    assert "rows 5, 2" in (tmp_path / "out/README.md").read_text()


@pytest.mark.slow
def test_the_same_command_shows_no_clean_image_of_the_rows_that_are_new(
    run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    """Rows are numbered as in the dataset, so that what was said for the first release says
    nothing of those that follow."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    options = (*NOISE, "--incremental-method", "random-noise")
    pushed = ("push", tmp_path / "clean", "--to", tmp_path / "out", "--workdir", tmp_path / "w")

    def push(rows: slice, chosen: str) -> str:
        path = tmp_path / f"clean/data/train-{rows.start}.parquet"
        write_split(path, pixels[rows], labels[rows])
        result = run(*pushed, *options, "--show-rows", chosen)
        assert result.exit_code == 0, result.stderr
        return str(result.stderr)

    assert "without effect" not in push(slice(0, 24), "10")
    assert "without effect here: --show-rows 10 for rows of earlier" in push(slice(24, 40), "10")
    push(slice(40, 45), "10,43")
    told = [path.parent.name for path in sorted((tmp_path / "out/reports").glob("*/shown.png"))]
    assert told == ["r0001", "r0003"]
    assert json.loads((tmp_path / "w/plan.json").read_text())["show_rows"] == [3]
    assert "the original of rows 43 beside" in (tmp_path / "out/README.md").read_text()
