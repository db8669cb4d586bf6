"""Rows at net size: the right pixels of the right rows, on disk, whole or not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_files import file_of, picture, png, write_parquet_file

from crafting.batch import PixelSplit
from crafting.nets.resize import resize
from release import cache
from release.errors import InputError, StorageError
from release.source import open_source
from release.survey import Survey, survey


def cached(folder: Path, rows: list[int], net_size: int = 8, **more: Any) -> PixelSplit:
    """The cache of these rows of a Parquet source in `folder`."""
    source = open_source(str(folder))
    found = survey(source, "train", folder.with_name("survey"))
    return cache.build(
        source,
        split="train",
        survey=found,
        rows=rows,
        net_size=net_size,
        folder=folder.with_name("cache"),
        num_classes=3,
        seed=7,
        **more,
    )


def test_rows_of_net_size_are_cached_pixel_for_pixel(parquet: Path) -> None:
    split = cached(parquet, [1, 5, 6, 9])
    assert split.rows.tolist() == [1, 5, 6, 9]
    assert split.targets is not None
    assert split.targets.tolist() == [1, 2, 0, 0]
    assert (split.num_classes, split.seed, len(split)) == (3, 7, 4)
    assert isinstance(split.pixels, np.memmap)
    for pixels, row in zip(split.pixels, (1, 5, 6, 9), strict=True):
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), np.asarray(picture(row)))


def test_other_sizes_are_resized_and_rounded(parquet: Path) -> None:
    split = cached(parquet, [3], net_size=5)
    image = torch.from_numpy(np.array(picture(3))).permute(2, 0, 1)[None].float()
    expected = resize(image, 5).round().clamp(0, 255).to(torch.uint8)[0]
    np.testing.assert_array_equal(split.pixels[0], expected.numpy())


@pytest.mark.parametrize(("modes", "channels"), [("LL", 1), ("RGB L", 3)])
def test_one_channel_only_where_every_image_has_one(
    tmp_path: Path, modes: str, channels: int
) -> None:
    both = modes.split() if " " in modes else list(modes)
    images: list[bytes | None] = [file_of(picture(at, mode)) for at, mode in enumerate(both)]
    write_parquet_file(tmp_path / "source/train.parquet", images, [0, 1])
    split = cached(tmp_path / "source", [0, 1])
    assert split.shape == (channels, 8, 8)
    np.testing.assert_array_equal(split.pixels[1][0], np.asarray(picture(1, "L")))
    np.testing.assert_array_equal(split.pixels[1][-1], np.asarray(picture(1, "L")))


def test_a_cache_is_loaded_as_it_was_built(parquet: Path) -> None:
    built = cached(parquet, [0, 2])
    loaded = PixelSplit.load(parquet.with_name("cache"))
    np.testing.assert_array_equal(loaded.pixels, built.pixels)
    np.testing.assert_array_equal(loaded.rows, built.rows)
    assert (loaded.num_classes, loaded.seed) == (3, 7)


def test_unlabelled_rows_have_no_targets(tmp_path: Path) -> None:
    write_parquet_file(tmp_path / "source/train.parquet", [png(0), png(1)], None)
    assert cached(tmp_path / "source", [0, 1]).targets is None


def test_a_stopped_build_leaves_no_cache(parquet: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(parquet, [0, 1], progress=stop)
    assert not parquet.with_name("cache").exists()
    assert len(cached(parquet, [0, 1])) == 2


def test_a_full_disk_says_what_to_do(parquet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StorageError, match=r"No space left.*--fit-rows"):
        cached(parquet, [0, 1])
    assert not parquet.with_name("cache").exists()


def test_a_row_that_changed_meanwhile_is_named(parquet: Path) -> None:
    source = open_source(str(parquet))
    found = survey(source, "train", parquet.with_name("survey"))
    write_parquet_file(parquet / "data/train-00000-of-00002.parquet", [b"junk"] * 6, [0] * 6)
    with pytest.raises(InputError, match="row 2 became unreadable"):
        cache.build(
            source,
            split="train",
            survey=found,
            rows=[2],
            net_size=8,
            folder=parquet.with_name("cache"),
            num_classes=3,
            seed=7,
        )


def surveyed(good: list[bool]) -> Survey:
    count = len(good)
    sizes, digests = np.zeros((count, 3), np.int32), np.zeros((count, 32), np.uint8)
    return Survey(np.zeros(count, np.int64), sizes, digests, digests, np.array(good), [])


def test_a_sample_is_drawn_from_good_rows_by_the_seed() -> None:
    found = surveyed([row % 4 != 0 for row in range(100)])
    drawn = cache.sample(found, 30, "ab" * 32)
    assert len(drawn) == len(set(drawn)) == 30
    assert drawn.tolist() == sorted(drawn)
    assert found.good[drawn].all()
    assert drawn.tolist() == cache.sample(found, 30, "ab" * 32).tolist()
    assert drawn.tolist() != cache.sample(found, 30, "cd" * 32).tolist()
    assert cache.sample(found, 200, "ab" * 32).tolist() == found.rows().tolist()


def test_images_of_many_sizes_become_one(tmp_path: Path) -> None:
    images: list[bytes | None] = [png(at, size=(8 + at, 30 - at)) for at in range(4)]
    write_parquet_file(tmp_path / "source/train.parquet", images, [0] * 4)
    split = cached(tmp_path / "source", [0, 1, 2, 3], net_size=6)
    small = Image.fromarray(split.pixels[2].transpose(1, 2, 0))
    assert small.size == (6, 6)
    reference = picture(2, size=(10, 28)).resize((6, 6), Image.Resampling.BILINEAR)
    assert np.abs(np.asarray(small, int) - np.asarray(reference, int)).max() <= 1
