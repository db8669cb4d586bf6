"""The potency benchmark, whole, on images whose class is their colour."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
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
    assert set(found) == {
        "quick-colours-random-noise-linf-8-rows=100-epochs=1",
        "quick-colours-tap-linf-8-rows=100-epochs=1",
    }
    tap = found["quick-colours-tap-linf-8-rows=100-epochs=1"]
    assert (tap["rows"], tap["classes"], tap["reported"]["accuracy"]) == (100, 4, 0.0625)
    (measured,) = tap["measured"]
    assert measured["passes"] == 50
    assert measured["options"]["steps"] == 50
    assert 30 < measured["psnr"] < 40
    tried = [(trial["victim"], trial["countermeasure"]) for trial in measured["trials"]]
    columns = [("vgg-w16", name) for name in potency.COLUMNS]
    assert tried == [("vgg-w16", "none"), ("resnet10-w16", "none"), *columns]
    noise = found["quick-colours-random-noise-linf-8-rows=100-epochs=1"]["measured"][0]
    assert [trial["countermeasure"] for trial in noise["trials"]] == ["none", "none"]
    assert [t["clean"] for t in noise["trials"]] == [t["clean"] for t in measured["trials"][:2]]
    assert tap["measured_on"]["versions"]["torch"]
    assert not list((source.parent / "work").rglob("*.interrupted"))

    file = source.parent / "results/quick-colours-tap-linf-8-rows=100-epochs=1.json"
    elsewhere = json.loads(file.read_text()) | {"measured_on": {"gpus": ["another"]}}
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
    assert name == "quick-colours-tap-linf-8-restarts=1-steps=3-rows=100-epochs=1"
    assert tap["settings"] == {"restarts": "1", "steps": "3"}
    assert tap["measured"][0]["options"]["steps"] == 3
    assert [t["countermeasure"] for t in tap["measured"][0]["trials"]] == ["none"]
    assert tap["reported"] is None
    assert load(source.parent / "results") == []
    assert [claim.settings for claim in load_all(source.parent / "results")] == [tap["settings"]]


HERE = {"gpus": [], "processor": "a processor", "versions": {"torch": "2"}}


def _seed(seed: int, victim: str, protected: float, **changes: Any) -> dict[str, Any]:
    trial = {"victim": victim, "countermeasure": "none", "protected": protected}
    return {"seed": seed, "key": f"k{seed}", "options": {}, "trials": [trial]} | changes


def _figures(*seeds: dict[str, Any], **changes: Any) -> dict[str, Any]:
    shape = {"rows": 100, "epochs": None, "protocol": 2, "measured_on": HERE}
    return shape | {"measured": list(seeds)} | changes


def _told(figures: dict[str, Any]) -> list[tuple[int, list[tuple[str, float]]]]:
    return [
        (seed["seed"], [(trial["victim"], trial["protected"]) for trial in seed["trials"]])
        for seed in figures["measured"]
    ]


def test_figures_of_other_victims_on_the_same_rows_are_kept() -> None:
    assert _told(potency._merged(_figures(_seed(0, "a", 0.1)), {}, HERE)) == [(0, [("a", 0.1)])]
    before = _figures(_seed(0, "b", 0.2))
    found = potency._merged(_figures(_seed(0, "a", 0.1)), before, HERE)
    assert _told(found) == [(0, [("a", 0.1), ("b", 0.2)])]
    found = potency._merged(_figures(_seed(0, "b", 0.1)), before, HERE)
    assert _told(found) == [(0, [("b", 0.1)])]
    found = potency._merged(_figures(_seed(0, "a", 0.1, key="other")), before, HERE)
    assert _told(found) == [(0, [("a", 0.1)])]


def test_seeds_that_are_not_measured_again_are_kept() -> None:
    before = _figures(*(_seed(n, "a", n / 10) for n in range(3)))
    again = potency._merged(_figures(_seed(1, "a", 0.5)), before, HERE)
    assert _told(again) == [(0, [("a", 0.0)]), (1, [("a", 0.5)]), (2, [("a", 0.2)])]
    other = potency._merged(_figures(_seed(1, "a", 0.5, options={"steps": 9})), before, HERE)
    assert _told(other) == [(1, [("a", 0.5)])]


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": 50},
        {"epochs": 1},
        {"protocol": 1},
        {"measured_on": HERE | {"gpus": ["a GPU"]}},
        {"measured_on": HERE | {"versions": {"torch": "3"}}},
    ],
)
def test_figures_that_were_measured_otherwise_are_not_mixed(changes: dict[str, Any]) -> None:
    before = _figures(_seed(0, "b", 0.2), _seed(1, "a", 0.2), **changes)
    found = potency._merged(_figures(_seed(0, "a", 0.1)), before, HERE)
    assert _told(found) == [(0, [("a", 0.1)])]


def test_other_rows_and_epochs_than_the_scale_has_are_in_the_name(source: Path) -> None:
    def named(*options: str) -> str:
        given = (str(source), "--workdir", str(source.parent / "work"), *options)
        asked = potency.options_parser().parse_args(given)
        dataset, arrays = image_arrays.read(str(source))
        setting = potency._setting(asked, dataset, arrays)
        assert setting.source_rows == 120
        return potency._file_name(setting, potency_work.Variant("tap", "linf:8"))

    assert (
        named() == named("--rows", "5000") == named("--rows", "120") == "quick-colours-tap-linf-8"
    )
    assert named("--rows", "100") == "quick-colours-tap-linf-8-rows=100"
    assert named("--scale", "paper", "--epochs", "1") == "paper-colours-tap-linf-8-epochs=1"


def _setting(source: Path) -> potency.Setting:
    dataset, arrays = image_arrays.read(str(source))
    place = source.parent / "work"
    data = image_arrays.keep(arrays, 100, place)
    return potency.Setting(place, data, dataset, "quick", 1, ("vgg-w16",), epochs=1)


def test_work_of_another_protocol_torch_or_device_is_not_taken_for_this(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = _setting(source)
    (of,) = setting.protections(potency_work.Variant("tap", "linf:8"))

    def results() -> set[Path]:
        trainings = [setting.training("vgg-w16", "none", 0, learnt) for learnt in (None, of)]
        return {work.result for work in (potency_work.Fit(setting.place, of), *trainings)}

    seen = results()
    for change in (("PROTOCOL", 0), ("torch.__version__", "0"), ("record.processor", lambda: "X")):
        with monkeypatch.context() as patched:
            patched.setattr(f"benchmarks.potency_work.{change[0]}", change[1])
            assert not seen & results()
    assert seen == results()


def test_work_on_a_method_that_changed_is_not_taken_for_this(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = _setting(source)
    budgets = {"tap": "linf:8", "sep": "linf:8", "tap+ops": "linf:8+l0:1"}
    made = [setting.protections(potency_work.Variant(*of))[0] for of in budgets.items()]
    before = [of.fit_key for of in made]
    monkeypatch.setitem(potency_work.CHANGED, "tap", potency_work.PROTOCOL + 7)
    assert [of.fit_key in before for of in made] == [False, True, False]


def test_each_training_meets_the_rows_in_an_order_of_its_own(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a release: twins in the same one, and neither in that of the surrogate."""
    setting, seeds = replace(_setting(source), seeds=2), []
    first, second = setting.protections(potency_work.Variant("random-noise", "linf:8"))

    def stop(*given: Any, **options: Any) -> Any:
        (splits,) = (each for each in given if isinstance(each, potency_work.Splits))
        seeds.append(splits.train.seed)
        raise potency_work.OutOfTime

    def fit(method: Any, data: PixelSplit, ctx: Any) -> dict[str, torch.Tensor]:
        seeds.append(data.seed)
        return {}

    monkeypatch.setattr(potency_work, "run", stop)
    monkeypatch.setattr(type(first.method()), "fit", fit)
    for of in (first, second):
        potency_work.Fit(setting.place, of).run(math.inf)
        potency_work.Craft(setting.place, of).run(math.inf)
        for learnt in (None, of):
            with pytest.raises(potency_work.OutOfTime):
                setting.training("vgg-w16", "none", of.seed, learnt).run(math.inf)
    fitted, *learnt = seeds[:3]
    assert (learnt, seeds[4:]) == ([0, 0], [1, 1])
    assert len({0, 1, fitted, seeds[3]}) == 4


def test_the_seconds_of_a_fit_that_is_killed_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "seconds"
    potency_work._Clock(path, math.inf).tell(1, 2)
    kept = float(path.read_text())
    assert potency_work._Clock(path, math.inf).seconds() > kept > 0
    with pytest.raises(potency_work.OutOfTime):
        potency_work._Clock(path, 0.0).tell(1, 2)
    assert float(path.read_text()) > kept
    potency_work._Clock(path, 0.0).tell(2, 2)
    potency_work._Clock().tell(1, 2)


def _interrupted_pieces(source: Path) -> potency_work.Training:
    """A crafting and a training that stopped on their way, the latter after 1,000 seconds."""
    setting = _setting(source)
    place = setting.place
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
    setting = _setting(source)
    place = setting.place
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


def test_what_a_gpu_makes_it_makes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: None)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    potency._begin(os.getppid())
    assert torch.backends.cudnn.deterministic


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
