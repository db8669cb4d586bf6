"""Circumstances that are no answer to protection: partly clean rows, moved noise, other labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from crafting.batch import DeviceSplit, PixelSplit, read_on
from crafting.training import Recipe
from evaluation.countermeasures import COUNTERMEASURES, Setting, parse
from evaluation.countermeasures.base import Data
from evaluation.trial import TrialSpec
from evaluation.verify import Splits, run

CLASSES, SIZE = 5, 16
CPU = torch.device("cpu")


def clean_rows(count: int = 50, classes: int = CLASSES) -> PixelSplit:
    """Mid-tones, so that noise is never clipped; numbered 0, 2, 4 ..., classes of unequal size."""
    rng = np.random.default_rng(0)
    labels = np.minimum(rng.integers(0, classes + 2, count), classes - 1)
    labels[:classes] = np.arange(classes)
    pixels = rng.integers(60, 180, (count, 3, SIZE, SIZE), dtype=np.uint8)
    return PixelSplit(pixels, 2 * np.arange(count), labels, classes)


def protected_rows(clean: PixelSplit) -> PixelSplit:
    """Each row's noise is one number of its own, 1 to its count, on all pixels."""
    noise = 1 + np.arange(len(clean)).astype(np.uint8)[:, None, None, None]
    return replace(clean, pixels=clean.pixels + noise)


CLEAN = clean_rows()
PROTECTED = protected_rows(CLEAN)
LABELS = CLEAN.targets if CLEAN.targets is not None else np.empty(0)


def made(
    text: str,
    split: PixelSplit = PROTECTED,
    data: Data = "protected",
    seed: int = 0,
    twin: PixelSplit | None = CLEAN,
) -> PixelSplit:
    """What the victim trains on."""
    setting = Setting(split.num_classes, data, Recipe(epochs=1), CPU, seed, twin)
    result = parse(text).hooks(setting).data(split)
    assert isinstance(result, PixelSplit)
    return result


def noise_of(split: PixelSplit) -> np.ndarray:
    """The noise of every row (N,), which is the same on all of its pixels."""
    delta = split.pixels.astype(int) - CLEAN.pixels
    assert (delta == delta[:, :1, :1, :1]).all()
    return delta[:, 0, 0, 0]


def test_settings_say_that_they_are() -> None:
    settings = ["class-wise", "mix-percent", "noise-swap", "relabel"]
    assert all(COUNTERMEASURES[name].is_setting for name in settings)
    twins = [name for name in settings if COUNTERMEASURES[name].needs_twin]
    assert twins == settings[:3]


@pytest.mark.parametrize(("share", "count"), [(80.0, 40), (20.0, 10), (50.0, 25), (96.0, 48)])
def test_mix_percent_protects_exactly_the_share(share: float, count: int) -> None:
    mixed = made(f"mix-percent:share={share}")
    noise = noise_of(mixed)
    kept = noise > 0
    assert kept.sum() == count
    assert np.array_equal(noise[kept], noise_of(PROTECTED)[kept])
    assert np.array_equal(mixed.rows, CLEAN.rows)
    for k in range(CLASSES):
        assert abs(kept[k == LABELS].mean() - share / 100) <= 1 / (k == LABELS).sum()


def test_mix_percent_draws_its_rows_from_the_seed() -> None:
    first, again, other = (noise_of(made("mix-percent", seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first > 0, other > 0)


def test_the_twin_of_mix_percent_trains_on_the_clean_remainder_alone() -> None:
    """On each of these rows 5 times an epoch, so that it takes as many steps."""
    remainder = made("mix-percent", CLEAN, data="clean")
    rows, labels = remainder.numbered()
    untouched = noise_of(made("mix-percent")) == 0
    assert np.array_equal(rows, np.repeat(CLEAN.rows[untouched], 5))
    assert labels is not None
    assert np.array_equal(labels, np.repeat(LABELS[untouched], 5))
    (batch,) = remainder.batches(100)
    images = np.repeat(CLEAN.pixels[untouched], 5, axis=0)
    assert np.array_equal((batch.x * 255).round().numpy(), images)
    on_device = read_on(CPU, remainder, most_held=1 << 30)
    assert isinstance(on_device, DeviceSplit)
    for held, read in zip(on_device.batches(20, 1), remainder.batches(20, 1), strict=True):
        assert torch.equal(held.x, read.x)


@pytest.mark.parametrize("data", ["clean", "protected"])
def test_mix_percent_leaves_clean_rows_to_learn_from(data: Data) -> None:
    message = "mix-percent:share=97.0 leaves 1 of 40 rows clean, .* give a smaller share"
    with pytest.raises(ValueError, match=message):
        made("mix-percent:share=97", CLEAN.take(CLEAN.rows[:40].tolist()), data=data)


def test_the_twin_of_mix_percent_has_as_many_rows_an_epoch() -> None:
    """Where they do not go round evenly, some come once more."""
    remainder = made("mix-percent:share=70", CLEAN, data="clean")
    times = np.bincount(remainder.numbered()[0])
    assert len(remainder) == len(CLEAN) == 50
    assert sorted(times[times > 0]) == [3] * 10 + [4] * 5


def test_what_was_kept_of_mix_percent_before_is_trained_again() -> None:
    """And of nothing else: these keys are those of files that owners have."""
    keys = {
        text: TrialSpec(
            victim="vgg-w16", countermeasure=text, seed=0, data="clean", preset="quick"
        ).key("rows")
        for text in ("none", "class-wise", "mix-percent")
    }
    assert keys["none"] == "b91c877c099fcc75e073ec6f"
    assert keys["class-wise"] == "ae0b925f0fb5b78ef8a01332"
    assert keys["mix-percent"] != "9799a54f89bba8095829815b"


def test_settings_work_on_a_sample_of_the_rows() -> None:
    sample = PROTECTED.take(CLEAN.rows[10:20].tolist())
    mixed = made("mix-percent:share=50", sample)
    noise = mixed.pixels.astype(int) - CLEAN.pixels[10:20]
    assert ((noise == 0).all((1, 2, 3))).sum() == 5
    swapped = made("noise-swap", sample).pixels.astype(int) - CLEAN.pixels[10:20]
    assert sorted(swapped[:, 0, 0, 0]) == list(range(11, 21))


def test_clean_images_are_found_by_row_number_or_missed_by_name() -> None:
    more = replace(
        CLEAN,
        pixels=np.concatenate([CLEAN.pixels[:3] // 2, CLEAN.pixels]),
        rows=np.concatenate([[-3, -2, -1], CLEAN.rows]),
        targets=np.concatenate([[0, 0, 0], LABELS]),
    )
    assert np.array_equal(made("mix-percent", twin=more).pixels, made("mix-percent").pixels)
    fewer = replace(CLEAN, pixels=CLEAN.pixels[:40], rows=CLEAN.rows[:40], targets=LABELS[:40])
    with pytest.raises(ValueError, match="10 rows, such as row 82, have no clean images"):
        made("noise-swap", twin=fewer)


@pytest.mark.parametrize(
    ("classes", "protected"), [("half", [2, 3, 4]), ("1", [1]), ("4.0.4", [0, 4])]
)
def test_class_wise_protects_only_its_classes(classes: str, protected: list[int]) -> None:
    text = f"class-wise:classes={classes}"
    noise = noise_of(made(text))
    inside = np.isin(LABELS, protected)
    assert (noise[~inside] == 0).all()
    assert np.array_equal(noise[inside], noise_of(PROTECTED)[inside])
    scored = parse(text).scored(CLEAN)
    _, labels = scored.numbered()
    assert labels is not None
    assert sorted(set(labels)) == protected
    assert len(labels) == inside.sum()
    assert scored.num_classes == CLASSES
    assert made(text, CLEAN, data="clean") is CLEAN


@pytest.mark.parametrize(("classes", "message"), [("5", "has class 5, but the classes are 0 to 4")])
def test_class_wise_refuses_classes_that_are_not_there(classes: str, message: str) -> None:
    tried = parse(f"class-wise:classes={classes}")
    with pytest.raises(ValueError, match=message):
        tried.scored(CLEAN)
    with pytest.raises(ValueError, match=message):
        made(str(tried))
    with pytest.raises(ValueError, match="leaves no rows to score"):
        parse("class-wise:classes=4").scored(CLEAN.take(CLEAN.rows[LABELS < 4].tolist()))


def test_noise_swap_moves_noise_within_each_class() -> None:
    noise = noise_of(made("noise-swap"))
    givers = noise - 1
    assert sorted(givers) == list(range(50))
    assert np.array_equal(LABELS[givers], LABELS)
    assert (givers != np.arange(50)).all()
    assert np.array_equal(noise, noise_of(made("noise-swap")))
    assert not np.array_equal(noise, noise_of(made("noise-swap", seed=1)))


def test_noise_swap_moves_noise_between_classes() -> None:
    text = "noise-swap:between=other-class"
    givers = noise_of(made(text)) - 1
    assert (LABELS[givers] != LABELS).all()
    assert set(LABELS[givers]) == set(range(CLASSES))
    assert len(set(givers)) > 25
    assert not np.array_equal(givers, noise_of(made(text, seed=1)) - 1)


def test_noise_that_leaves_the_range_is_clipped() -> None:
    levels = np.where(np.arange(50) % 2, 100, 200)[:, None, None, None]
    clean = np.broadcast_to(levels, CLEAN.pixels.shape)
    twin = replace(CLEAN, pixels=clean.astype(np.uint8))
    added = replace(CLEAN, pixels=np.minimum(clean + 100, 255).astype(np.uint8))
    swapped = made("noise-swap", added, twin=twin).pixels
    assert set(np.unique(swapped)) == {155, 200, 255}
    assert (swapped[levels.ravel() == 200] == 255).all()


def test_noise_swap_changes_nothing_on_clean_rows_and_needs_another_class() -> None:
    assert made("noise-swap", CLEAN, data="clean") is CLEAN
    one = replace(PROTECTED, targets=np.zeros(50, dtype=np.int64))
    with pytest.raises(ValueError, match="needs rows of two classes"):
        made("noise-swap:between=other-class", one)


def test_a_row_alone_in_its_class_keeps_its_noise() -> None:
    alone = replace(PROTECTED, targets=np.arange(50))
    assert np.array_equal(made("noise-swap", alone).pixels, PROTECTED.pixels)


def test_relabel_merges_neighbouring_classes() -> None:
    tried = parse("relabel")
    for split in (made("relabel"), tried.scored(PROTECTED)):
        assert split.num_classes == 3
        assert split.targets is not None
        assert np.array_equal(split.targets, LABELS // 2)
        assert split.pixels is PROTECTED.pixels
    assert tried.outputs(CLASSES) == 3
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(tried.folded(logits), logits)


def test_relabel_splits_classes_and_folds_them_back() -> None:
    tried, split = parse("relabel:merge=2,parts=3"), made("relabel:merge=2,parts=3")
    assert split.num_classes == tried.outputs(CLASSES) == 9
    assert split.targets is not None
    assert np.array_equal(split.targets // 3, LABELS // 2)
    assert set(split.targets % 3) == {0, 1, 2}
    logits = torch.full((9, 9), -1.0).fill_diagonal_(1.0)
    assert tried.folded(logits).argmax(1).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    one_sure_part = torch.tensor([[3.0, -9.0, -9.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]])
    assert tried.folded(one_sure_part).tolist() == [[3.0, 1.0, 0.0]]
    assert tried.scored(CLEAN).num_classes == 3


def test_a_rows_part_depends_on_the_seed_and_its_number_alone() -> None:
    text = "relabel:merge=1,parts=4"
    whole = made(text).targets
    few = made(text, PROTECTED.take(PROTECTED.rows[5:25].tolist()))
    _, parts = few.numbered()
    assert whole is not None
    assert parts is not None
    assert np.array_equal(parts, whole[5:25])
    files = replace(
        PROTECTED, pixels=PROTECTED.pixels[9:], rows=PROTECTED.rows[9:], targets=LABELS[9:]
    )
    later = made(text, files).targets
    assert later is not None
    assert np.array_equal(later, whole[9:])
    other = made(text, seed=1).targets
    assert other is not None
    assert not np.array_equal(other, whole)
    clean = made(text, CLEAN, data="clean").targets
    assert clean is not None
    assert np.array_equal(clean, whole)


def test_relabel_refuses_to_leave_one_class() -> None:
    tried = parse("relabel:merge=5")
    for ask in (tried.outputs, lambda classes: tried.scored(CLEAN)):
        with pytest.raises(ValueError, match="relabel:merge=5 leaves one class of 5"):
            ask(CLASSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mix-percent:share=0", "share is above 0 and below 100"),
        ("mix-percent:share=100", "share is above 0 and below 100"),
        ("class-wise:classes=1.x", "classes are half, or numbers"),
        ("class-wise:classes=", "classes are half, or numbers"),
        ("noise-swap:between=any", "one of same-class, other-class"),
        ("relabel:merge=0", "merge is a count of at least 1"),
        ("relabel:parts=0", "parts is a count of at least 1"),
    ],
)
def test_parameters_out_of_range_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])


def coloured(count: int, seed: int) -> PixelSplit:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    pixels = COLOURS[labels][:, :, None, None] + rng.normal(0, 30, (count, 3, SIZE, SIZE))
    return PixelSplit(np.clip(pixels, 0, 255).astype(np.uint8), np.arange(count), labels, 4)


def score(text: str, data: Data = "protected", epochs: int = 5) -> tuple[float, int]:
    """The accuracy of a victim whose protected images are those of the next class, and the number
    of classes it was scored on."""
    clean, test = coloured(300, 1), coloured(60, 2)
    swapped = replace(clean, pixels=coloured(301, 3).pixels[1:])
    spec = TrialSpec(
        victim="vgg-w16", countermeasure=text, seed=0, data=data, preset="quick", epochs=epochs
    )
    splits = Splits(swapped if data == "protected" else clean, test, clean)
    outcome = run(replace(spec, net_size=SIZE), splits, device=CPU, progress=lambda share: None)
    return outcome.final, outcome.num_classes


def test_victims_of_settings_are_scored_on_what_the_setting_says() -> None:
    """Colours of one class are those of the next in the protected images."""
    assert score("class-wise:classes=0")[0] < 0.2  # images like class 1's mean 0 and 1
    assert score("class-wise:classes=0", "clean")[0] > 0.8
    assert score("mix-percent:share=30")[0] > 0.6
    assert score("mix-percent:share=95")[0] < 0.4
    accuracy, classes = score("relabel:merge=2,parts=2")
    assert classes == 2
    assert 0.25 < accuracy < 0.75  # two of the four colours stay within their pair
    assert score("relabel:merge=2,parts=2", "clean", epochs=8)[0] > 0.9


def refused(text: str, splits: Splits, match: str) -> None:
    """It is told before anything is trained."""
    told: list[float] = []
    spec = TrialSpec(
        victim="vgg-w16", countermeasure=text, seed=0, data="protected", preset="quick"
    )
    with pytest.raises(ValueError, match=match):
        run(replace(spec, epochs=1, net_size=SIZE), splits, device=CPU, progress=told.append)
    assert told == []


@pytest.mark.parametrize("lacking", ["train", "test"])
def test_class_wise_refuses_rows_without_a_protected_class_before_it_trains(lacking: str) -> None:
    rows = {"train": coloured(40, 1), "test": coloured(40, 2)}
    rows[lacking] = rows[lacking].take([row for row in range(40) if row % 4 != 3])
    splits = Splits(rows["train"], rows["test"], rows["train"])
    refused("class-wise:classes=3", splits, "none of these 30 is of a protected class")


@pytest.mark.parametrize("name", ["mix-percent", "class-wise", "noise-swap"])
def test_clean_images_of_another_kind_are_refused(name: str) -> None:
    clean = coloured(40, 1)
    grey = replace(clean, pixels=clean.pixels[:, :1])
    message = f"{name} mixes .* these are 3 x 16 x 16 .channels, .* and those 1 x 16 x 16: give"
    refused(name, Splits(grey, coloured(40, 2), clean), message)
