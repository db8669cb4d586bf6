"""The potency benchmark, whole, on images whose class is their colour."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import image_arrays, potency, potency_work
from benchmarks.potency_results import load, load_all
from crafting import surrogate
from crafting.batch import PixelSplit

ROOT = Path(__file__).parents[2]


def _arrays(rows: int = 120) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", rows), ("test", 40)):
        y = np.arange(count) % 4
        x = generator.integers(0, 120, (count, 16, 16, 3))
        x[np.arange(count), :, :, y % 3] += 60 + 60 * (y == 3)[:, None, None]
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y}
    return arrays


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "colours.npz"
    np.savez(path, **_arrays())
    return path


def _run(source: Path, *options: str) -> int:
    place = source.parent
    return potency.main(
        [
            *(str(source), "--workdir", str(place / "work"), "--results", str(place / "results")),
            *("--rows", "100", "--epochs", "1", "--workers", "1", *options),
        ]
    )


def _results(source: Path) -> dict[str, Any]:
    files = sorted((source.parent / "results").glob("*.json"))
    return {path.stem: json.loads(path.read_text()) for path in files}


def test_a_run_that_was_interrupted_goes_on_and_writes_a_claim_for_each_method(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = ("--methods", "random-noise,tap")
    assert _run(source, *methods, "--minutes", "0") == 0
    assert "0 of " in capsys.readouterr().out
    assert not _results(source)

    twin = _interrupted_pieces(source)
    assert _run(source, *methods) == 0
    assert twin.outcome().seconds > 1000
    told = capsys.readouterr().out
    assert told.index("quick-colours-random-noise") < told.index("crafting by tap")
    found = _results(source)
    assert set(found) == {"quick-colours-random-noise-linf-8", "quick-colours-tap-linf-8"}
    tap = found["quick-colours-tap-linf-8"]
    assert (tap["rows"], tap["classes"], tap["reported"]["accuracy"]) == (100, 4, 0.0625)
    (measured,) = tap["measured"]
    assert measured["passes"] == 50
    assert measured["options"]["steps"] == 50
    assert 30 < measured["psnr"] < 40
    tried = [(trial["victim"], trial["countermeasure"]) for trial in measured["trials"]]
    columns = [("vgg-w16", name) for name in potency.COLUMNS]
    assert tried == [("vgg-w16", "none"), ("resnet10-w16", "none"), *columns]
    noise = found["quick-colours-random-noise-linf-8"]["measured"][0]
    assert [trial["countermeasure"] for trial in noise["trials"]] == ["none", "none"]
    assert [t["clean"] for t in noise["trials"]] == [t["clean"] for t in measured["trials"][:2]]
    assert tap["measured_on"]["versions"]["torch"]
    assert not list((source.parent / "work").rglob("*.interrupted"))

    file = source.parent / "results/quick-colours-tap-linf-8.json"
    elsewhere = json.loads(file.read_text()) | {"measured_on": "another machine"}
    file.write_text(json.dumps(elsewhere))
    assert _run(source, *methods) == 0
    assert json.loads(file.read_text()) == elsewhere
    told = capsys.readouterr().out
    assert "16 of 16 pieces are finished" in told
    assert "crafting" not in told


def test_an_option_can_be_set_and_is_in_the_name_of_the_result(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = ("--methods", "random-noise,tap", "--victims", "vgg-w16", "--set", "restarts=1")
    assert _run(source, *tried, "--set", "steps=3") == 0
    assert "left out: method random-noise has no option" in capsys.readouterr().out
    ((name, tap),) = _results(source).items()
    assert name == "quick-colours-tap-linf-8-restarts=1-steps=3"
    assert tap["settings"] == {"restarts": "1", "steps": "3"}
    assert tap["measured"][0]["options"]["steps"] == 3
    assert [t["countermeasure"] for t in tap["measured"][0]["trials"]] == ["none"]
    assert tap["reported"] is None
    assert load(source.parent / "results") == []
    assert [claim.settings for claim in load_all(source.parent / "results")] == [tap["settings"]]


def test_figures_of_other_victims_on_the_same_rows_are_kept() -> None:
    def figures(key: str, victim: str, protected: float) -> dict[str, Any]:
        trial = {"victim": victim, "countermeasure": "none", "protected": protected}
        return {"measured": [{"key": key, "trials": [trial]}]}

    assert potency._merged(figures("k", "a", 0.1), {}) == figures("k", "a", 0.1)
    before = figures("k", "b", 0.2)
    found = potency._merged(figures("k", "a", 0.1), before)["measured"][0]["trials"]
    assert [(t["victim"], t["protected"]) for t in found] == [("a", 0.1), ("b", 0.2)]
    assert potency._merged(figures("k", "b", 0.1), before) == figures("k", "b", 0.1)
    assert potency._merged(figures("other", "a", 0.1), before) == figures("other", "a", 0.1)


def _interrupted_pieces(source: Path) -> potency_work.Training:
    """A crafting and a training that stopped on their way, the latter after 1,000 seconds."""
    dataset, arrays = image_arrays.read(str(source))
    place = source.parent / "work"
    data = image_arrays.keep(arrays, 100, place)
    setting = potency.Setting(place, data, dataset, "quick", 1, ("vgg-w16",), epochs=1)
    (of,) = setting.protections(potency_work.Variant("random-noise", "linf:8"))
    potency_work.Fit(place, of).run(time.time())
    with pytest.raises(potency_work.OutOfTime):
        potency_work.Craft(place, of).run(deadline=0)
    twin = setting.training("vgg-w16", "none", 0, None)
    with pytest.raises(potency_work.OutOfTime):
        twin.run(deadline=0)
    interrupted = twin.result.with_suffix(".interrupted")
    torch.save(torch.load(interrupted) | {"seconds": 1000.0}, interrupted)
    return twin


def test_crafting_goes_on_with_the_part_that_is_missing(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(potency_work, "PART_ROWS", 64)
    place = source.parent / "work"
    data = image_arrays.keep(image_arrays.read(str(source))[1], None, place)
    of = potency_work.Protection(data, potency_work.Variant("random-noise", "linf:8"), "quick", 0)
    craft = potency_work.Craft(place, of)
    potency_work.Fit(place, of).run(0)
    craft.run(time.time() + 60)
    whole = PixelSplit.load(craft.folder).pixels.copy()
    craft.result.unlink()
    first = craft.folder / "part-00000000.npz"
    np.savez(first, pixels=whole[:64], seconds=1000.0)
    craft.run(time.time() + 60)
    assert np.array_equal(PixelSplit.load(craft.folder).pixels, whole)
    assert json.loads(craft.result.read_text())["craft_seconds"] >= 1000


def test_a_fit_goes_on_in_the_next_slice(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogate, "_SAVED_EVERY", 0.0)
    dataset, arrays = image_arrays.read(str(source))
    place = source.parent / "work"
    data = image_arrays.keep(arrays, 100, place)
    setting = potency.Setting(place, data, dataset, "quick", 1, ("vgg-w16",), epochs=1)
    (of,) = setting.protections(potency_work.Variant("tap", "linf:8"))
    fit, scratch = potency_work.Fit(place, of), of.scratch(place)
    for epochs in (1, 2):
        with pytest.raises(potency_work.OutOfTime):
            fit.run(deadline=0)
        (snapshot,) = scratch.rglob("snapshot.pt")
        assert torch.load(snapshot)["epochs"] == epochs
    before = float((scratch / "seconds").read_text())
    fit.run(deadline=math.inf)
    assert potency_work._read_state(fit.result)[1] > before > 0
    assert not scratch.exists()


def test_rows_are_drawn_evenly_and_kept_once(tmp_path: Path) -> None:
    arrays = _arrays()
    np.savez(tmp_path / "a.npz", **arrays)
    _, read = image_arrays.read(str(tmp_path / "a.npz"))
    assert np.array_equal(read["x_train"], arrays["x_train"].transpose(0, 3, 1, 2))
    folder = image_arrays.keep(read, 40, tmp_path)
    train = PixelSplit.load(folder / "train")
    assert np.bincount(train.targets).tolist() == [10] * 4  # type: ignore[arg-type]
    assert len(PixelSplit.load(folder / "test")) == 40
    assert image_arrays.keep(read, 40, tmp_path) == folder
    assert image_arrays.keep(read, None, tmp_path) != folder


def test_a_file_without_its_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3))
    with pytest.raises(ValueError, match="has no array x_test, y_test, y_train"):
        image_arrays.read(str(tmp_path / "a.npz"))


def test_psnr_is_that_of_the_images_that_changed() -> None:
    clean = np.zeros((3, 3, 4, 4), np.uint8)
    protected = clean.copy()
    protected[1] += 8
    assert potency_work.psnr(clean, protected) == round(20 * np.log10(255 / 8), 2)
    assert potency_work.psnr(clean, clean) is None


def test_it_needs_nothing_that_only_a_release_needs() -> None:
    script = (
        "import sys, benchmarks.potency, crafting.registry as r; r.methods()\n"
        "roots = {name.split('.')[0] for name in sys.modules}\n"
        "assert not roots & {'release', 'datasets', 'pyarrow', 'typer', 'rich', 'torchmetrics'}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    ("classes", "side"), [(100, 32), pytest.param(3, 224, marks=pytest.mark.slow)]
)
def test_many_classes_and_large_images_are_inputs_like_any_other(
    classes: int, side: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    arrays = {"y_train": np.arange(200) % classes, "y_test": np.arange(100) % classes}
    for part, labels in (("train", arrays["y_train"]), ("test", arrays["y_test"])):
        shape = (len(labels), side, side, 3)
        arrays[f"x_{part}"] = generator.integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "other.npz", **arrays)
    few = ("--set", "surrogate_epochs=1", "--set", "checkpoints=1", "--set", "steps=2")
    asked = ("--methods", "sep-fa-mi", "--victims", "vgg-w16", *few)
    assert _run(tmp_path / "other.npz", *asked) == 0
    (found,) = _results(tmp_path / "other.npz").values()
    assert found["classes"] == classes
    (trial,) = found["measured"][0]["trials"]
    assert trial["epochs"] == 1
