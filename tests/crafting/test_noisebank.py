from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.noisebank import NoiseBank, NoiseWriter

SHAPES = [(3, 4, 5), (1, 2, 2), (3, 7, 3)]


def digest(row: int) -> bytes:
    return hashlib.sha256(b"%d" % row).digest()


def levels(row: int, shape: tuple[int, ...]) -> Tensor:
    drawn = torch.randint(-127, 128, shape, generator=torch.Generator().manual_seed(row))
    return drawn.float()


@pytest.fixture
def bank(tmp_path: Path) -> NoiseBank:
    """Two rows of each shape: 0 and 1, 2 and 3, 4 and 5."""
    with NoiseWriter(tmp_path) as writer:
        for k, shape in enumerate(SHAPES):
            rows = [2 * k, 2 * k + 1]
            noise = torch.stack([levels(row, shape) for row in rows])
            writer.add([digest(row) for row in rows], noise)
    return NoiseBank.open(tmp_path)


def test_noises_of_mixed_sizes_come_back_in_any_order(bank: NoiseBank) -> None:
    assert len(bank) == 6
    for k, shape in enumerate(SHAPES):
        rows = [2 * k + 1, 2 * k]
        noise, known = bank.noise([digest(row) for row in rows], shape)
        assert known.all()
        for got, row in zip(noise, rows, strict=True):
            assert torch.equal(got.mul(255).round(), levels(row, shape))
            assert torch.equal(got, levels(row, shape) / 255)


def test_it_is_one_file_of_one_byte_a_number(bank: NoiseBank, tmp_path: Path) -> None:
    size = (tmp_path / "noise.int8").stat().st_size
    assert size == 2 * sum(torch.Size(shape).numel() for shape in SHAPES)


def test_strangers_are_not_known(bank: NoiseBank) -> None:
    noise, known = bank.noise([digest(0), digest(99)], SHAPES[0])
    assert known.tolist() == [True, False]
    assert not noise[1].any()


def test_a_noise_is_fitted_to_an_image_of_another_size_or_channels(bank: NoiseBank) -> None:
    """Rows 4 and 0 have 7x3 and 4x5 pixels in three channels, row 2 has 2x2 in one."""
    wide, known = bank.noise([digest(4), digest(0)], (3, 14, 6))
    assert known.all()
    there = levels(4, SHAPES[2]) / 255
    expected = F.interpolate(there[None], (14, 6), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(wide[0], expected)
    grey, _ = bank.noise([digest(0)], (1, 4, 5))
    assert torch.allclose(grey[0, 0], levels(0, SHAPES[0]).mean(0) / 255)
    colour, _ = bank.noise([digest(2)], (3, 2, 2))
    assert all(torch.equal(channel, levels(2, SHAPES[1])[0] / 255) for channel in colour[0])


def test_equal_rows_share_the_first_noise(tmp_path: Path) -> None:
    with NoiseWriter(tmp_path) as writer:
        for value in range(1, 60):
            writer.add([digest(7), digest(value)], torch.full((2, 1, 2, 2), value))
    noise, _ = NoiseBank.open(tmp_path).noise([digest(7)], (1, 2, 2))
    assert (noise * 255 == 1).all()


def test_a_bank_that_was_not_finished_has_no_noises(tmp_path: Path) -> None:
    def half() -> None:
        with NoiseWriter(tmp_path) as writer:
            writer.add([digest(0)], torch.ones(1, 1, 2, 2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert len(NoiseBank.open(tmp_path)) == 0
    _, known = NoiseBank.open(tmp_path).noise([digest(0)], (1, 2, 2))
    assert not known.any()


def test_what_8_bits_cannot_hold_is_not_written(tmp_path: Path) -> None:
    with NoiseWriter(tmp_path) as writer, pytest.raises(AssertionError, match="8 bits"):
        writer.add([digest(0)], torch.full((1, 1, 2, 2), 128))
