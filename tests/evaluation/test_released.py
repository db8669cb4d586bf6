"""Shards as `datasets` reads them, brought to net size."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from crafting.batch import PixelSplit
from crafting.nets.resize import resize
from evaluation.released import read_release

ROWS = [0, 1, 2, 4, 7, 9]
LABELS = [0, 1, 2, 2, 1, 1]


def picture(row: int, side: int = 12, channels: int = 3) -> np.ndarray:
    generator = np.random.default_rng(row)
    return generator.integers(0, 256, (side, side, channels), dtype=np.uint8)


def png(pixels: np.ndarray, encoding: str = "png") -> bytes:
    file = BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(file, format=encoding, lossless=True)
    return file.getvalue()


def parquet(folder: Path, pixels: list[np.ndarray], rows: list[int], name: str = "a") -> Path:
    features = datasets.Features(
        {"img": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b", "c"])}
    )
    images = [
        {"bytes": png(image), "path": f"train-{row:08d}.png"}
        for row, image in zip(rows, pixels, strict=True)
    ]
    labels = [LABELS[ROWS.index(row)] for row in rows]
    data = datasets.Dataset.from_dict({"img": images, "kind": labels}, features=features)
    path = folder / f"{name}.parquet"
    data.to_parquet(path)
    return path


def tar(folder: Path, pixels: list[np.ndarray], encoding: str = "png") -> Path:
    path = folder / "a.tar"
    with webdataset.TarWriter(str(path), encoder=False) as writer:
        for row, label, image in zip(ROWS, LABELS, pixels, strict=True):
            sample: dict[str, Any] = {"__key__": f"train-{row:08d}", "cls": str(label).encode()}
            writer.write(sample | {encoding: png(image, encoding)})
    return path


def read(
    files: list[Path], folder: Path, format: Any = "parquet", net_size: int = 12
) -> PixelSplit:
    return read_release(
        files,
        format,
        image_column="img",
        label_column="kind",
        num_classes=3,
        net_size=net_size,
        folder=folder,
        seed=5,
    )


@pytest.mark.parametrize("format", ["parquet", "webdataset"])
def test_shards_are_read_from_a_folder_of_any_name(tmp_path: Path, format: str) -> None:
    pixels = [picture(row) for row in ROWS]
    folder = tmp_path / "w [1]?*"
    folder.mkdir()
    file = tar(folder, pixels) if format == "webdataset" else parquet(folder, pixels, ROWS)
    assert len(read([file], folder / "read", format)) == len(ROWS)


def test_parquet_shards_come_back_exactly_and_in_row_order(tmp_path: Path) -> None:
    pixels = [picture(row) for row in ROWS]
    late = parquet(tmp_path, pixels[3:], ROWS[3:], "late")
    early = parquet(tmp_path, pixels[:3], ROWS[:3], "early")
    split = read([late, early], tmp_path / "read")
    assert split.rows.tolist() == ROWS
    assert np.array_equal(split.pixels, np.stack(pixels).transpose(0, 3, 1, 2))
    assert split.targets is not None
    assert split.targets.tolist() == LABELS
    assert (split.num_classes, split.seed) == (3, 5)


@pytest.mark.parametrize("encoding", ["png", "webp"])
def test_tars_come_back_exactly(tmp_path: Path, encoding: str) -> None:
    pixels = [picture(row) for row in ROWS]
    split = read([tar(tmp_path, pixels, encoding)], tmp_path / "read", "webdataset")
    assert split.rows.tolist() == ROWS
    assert np.array_equal(split.pixels, np.stack(pixels).transpose(0, 3, 1, 2))
    assert split.targets is not None
    assert split.targets.tolist() == LABELS


def test_pixels_are_mapped_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = parquet(tmp_path, [picture(row) for row in ROWS], ROWS)
    folder = tmp_path / "deep" / "read"
    assert isinstance(read([path], folder).pixels, np.memmap)
    assert {file.name for file in folder.iterdir()} == {
        "pixels.npy",
        "rows.npy",
        "targets.npy",
        "split.json",
    }
    assert [file.name for file in folder.parent.iterdir()] == ["read"]
    assert np.array_equal(PixelSplit.load(folder).pixels, read([path], tmp_path / "again").pixels)


def test_images_of_any_size_are_resized_as_nets_resize_them(tmp_path: Path) -> None:
    pixels = [picture(row, side=8 + 4 * (row % 2)) for row in ROWS]
    split = read([parquet(tmp_path, pixels, ROWS)], tmp_path / "read", net_size=10)
    assert split.shape == (3, 10, 10)
    for image, small in zip(pixels, split.pixels, strict=True):
        exact = resize(torch.from_numpy(image).permute(2, 0, 1)[None].float(), 10)[0]
        assert np.abs(small - exact.clamp(0, 255).numpy()).max() <= 0.5001


def test_grey_images_keep_one_channel_unless_one_has_colour(tmp_path: Path) -> None:
    grey = [picture(row, channels=1) for row in ROWS]
    path = parquet(tmp_path, grey, ROWS, "grey")
    assert read([path], tmp_path / "one").shape == (1, 12, 12)
    mixed = parquet(tmp_path, [*grey[:5], picture(9)], ROWS, "mixed")
    split = read([mixed], tmp_path / "three")
    assert split.shape == (3, 12, 12)
    assert np.array_equal(split.pixels[0], grey[0].transpose(2, 0, 1).repeat(3, axis=0))


def test_a_row_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path, [picture(row) for row in ROWS], ROWS)
    with pytest.raises(ValueError, match="row 0 is there twice"):
        read([path, path], tmp_path / "read")
    assert not (tmp_path / "read").exists()


def test_an_image_without_a_number_is_refused(tmp_path: Path) -> None:
    images = [{"bytes": png(picture(0)), "path": "cat.png"}]
    features = datasets.Features({"img": datasets.Image()})
    data = datasets.Dataset.from_dict({"img": images}, features=features)
    data.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"'cat\.png', which ends in no row number"):
        read_release(
            [tmp_path / "a.parquet"],
            "parquet",
            image_column="img",
            label_column=None,
            num_classes=1,
            net_size=12,
            folder=tmp_path / "read",
        )


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    path = parquet(tmp_path, [picture(row) for row in ROWS], ROWS)
    (tmp_path / ".read.part").mkdir()
    (tmp_path / ".read.part" / "pixels.npy").write_text("half")
    assert len(read([path], tmp_path / "read")) == len(ROWS)
