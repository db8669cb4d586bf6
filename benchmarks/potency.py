"""How well every method protects: what victims still learn, what it costs, what can be seen.

    python -m benchmarks.potency SOURCE --workdir WORKDIR [--scale quick|paper] [--methods a,b+c]
        [--set steps=60 ...] [--budget linf:4] [--rows 5000] [--seeds 1] [--victims a,b]
        [--countermeasure x ...] [--minutes 8] [--results FOLDER]

SOURCE is a clean dataset, or an .npz file that `benchmarks.image_arrays` made of one, for a machine
that has nothing but torch, torchvision, timm, numpy, scipy, safetensors and scikit-learn. `quick`
protects 5,000 rows by the quick presets and trains the two small victims for 20 epochs; `paper` all
rows by the papers' figures against ResNet-18, VGG-16 and DenseNet-121 for 120 epochs. A seed is one
of surrogate, noise and victims alike. The eight main methods are tried against three
countermeasures as well, with the first victim, unless others are named, such as `none`. Each method
works within linf:8 where its own budget is a bound on every pixel, else within its own.

Everything that is finished lies in WORKDIR and is not done again by the same torch on the same kind
of device; a training goes on from its last epoch. `--minutes` ends a slice: nothing new is begun,
and what runs stops where it can; fits that cannot stop (`tue`, `uc`, `ntga`) begin in the first
third only. Each method's figures are written to FOLDER/SCALE-DATASET-METHOD-BUDGET.json as soon as
its victims are trained, with `--set`, or with other rows or epochs than the scale's own, under a
name that says so. Figures there of the same machine that are not measured again stay.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks import image_arrays, record
from benchmarks.potency_work import (
    Craft,
    Fit,
    OutOfTime,
    Protection,
    Training,
    Variant,
    Work,
    device,
    net_size,
    protocol,
    usual_budget,
)
from benchmarks.published import PUBLISHED
from crafting.batch import PixelSplit
from crafting.budget import parse
from crafting.registry import Preset, lookup, methods
from evaluation.countermeasures import parse as parse_countermeasure
from evaluation.trial import TrialSpec
from evaluation.victims import VICTIMS, default_victims

MAIN = (
    *("sep-both-mi", "sep-fa-mi", "sep-fa-vr", "tap", "em", "rem", "ar", "lsp"),
    "sep-fa-mi+ops",
)
COLUMNS = ("jpeg", "at-linf:steps=3", "cutmix")
QUICK_ROWS = 5000
_OF_MACHINE = ("at_once", "measured_on")
_ALIKE = ("rows", "epochs", "protocol")
Results = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is measured on the rows in `data`. rows, epochs: how many where it is not as many as the
    scale has for the data set, which has `source_rows`, and for each victim."""

    place: Path
    data: Path
    dataset: str
    scale: Preset
    seeds: int
    victims: tuple[str, ...]
    epochs: int | None = None
    countermeasures: tuple[str, ...] | None = None
    rows: int | None = None
    source_rows: int | None = None

    def protections(self, variant: Variant) -> list[Protection]:
        return [Protection(self.data, variant, self.scale, seed) for seed in range(self.seeds)]

    def trainings(self, variant: Variant) -> list[tuple[str, str]]:
        """Victims with what is done against the protection, plain training first."""
        found = [(victim, "none") for victim in self.victims]
        if self.countermeasures is None:
            tried = COLUMNS if variant.name in MAIN and not variant.settings else ()
            return found + [(self.victims[0], column) for column in tried]
        named = [(victim, tried) for tried in self.countermeasures for victim in self.victims]
        return list(dict.fromkeys(found + named))

    def training(
        self, victim: str, countermeasure: str, seed: int, of: Protection | None
    ) -> Training:
        spec = TrialSpec(
            victim=victim,
            countermeasure=countermeasure,
            seed=seed,
            data="clean" if of is None else "protected",
            preset=self.scale,
            epochs=self.epochs,
            net_size=net_size(PixelSplit.load(self.data / "train")),
        )
        return Training(self.place, self.data, spec, of)

    def work(self, variant: Variant) -> list[Work]:
        """All that one method's figures need, clean twins included."""
        found: list[Work] = []
        for of in self.protections(variant):
            found += [Fit(self.place, of), Craft(self.place, of)]
            for victim, countermeasure in self.trainings(variant):
                for learnt in (None, of):
                    found.append(self.training(victim, countermeasure, of.seed, learnt))
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The figures of every method that is finished are written; 1 where some work failed."""
    options = options_parser().parse_args(arguments)
    return measure(options, asked(options))


def measure(options: argparse.Namespace, variants: Iterable[Variant]) -> int:
    """The same for these, whatever methods the options name."""
    began = time.time()
    setting = _setting(options, *image_arrays.read(options.source))
    work = {variant: {p.result: p for p in setting.work(variant)} for variant in variants}
    pieces = {result: piece for found in work.values() for result, piece in found.items()}

    def write(ended: Path) -> None:
        for variant, found in work.items():
            if ended in found and all(result.exists() for result in found):
                _write(setting, variant, options)

    failed = _run(list(pieces.values()), began, options, write)
    for variant in work:
        _write(setting, variant, options)
    left = sum(not result.exists() for result in pieces)
    print(f"{len(pieces) - left} of {len(pieces)} pieces are finished, {failed} failed")
    return 1 if failed else 0


def _write(setting: Setting, variant: Variant, options: argparse.Namespace) -> None:
    """What there is of one method, if it is enough; a file that says so already stays as it is,
    with the machine that it is of."""
    if figures := _figures(setting, variant, options.workers):
        path = options.results / f"{_file_name(setting, variant)}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        merged = _merged(figures, before, record.here())
        if before == merged | {name: before.get(name) for name in _OF_MACHINE}:
            return
        print(record.write(path.stem, merged, options.results))


def _file_name(setting: Setting, variant: Variant) -> str:
    asked = {**dict(variant.settings), "rows": setting.rows, "epochs": setting.epochs}
    settings = [f"{name}={value}" for name, value in asked.items() if value is not None]
    parts = [setting.scale, setting.dataset, variant.name, variant.budget, *settings]
    return re.sub(r"[^\w.+=-]", "-", "-".join(parts))


def _setting(options: argparse.Namespace, dataset: str, arrays: image_arrays.Arrays) -> Setting:
    """What the options ask for; its rows are in their WORKDIR."""
    total = len(arrays["y_train"])
    usual = min(QUICK_ROWS, total) if options.scale == "quick" else total
    rows = min(options.rows or usual, total)
    named = options.victims.split(",") if options.victims else default_victims(options.scale)
    tried = options.countermeasure
    return Setting(
        place=options.workdir,
        data=image_arrays.keep(arrays, rows, options.workdir),
        dataset=dataset,
        scale=options.scale,
        seeds=options.seeds,
        victims=tuple(lookup("victim", name, VICTIMS).name for name in named),
        epochs=options.epochs,
        countermeasures=None
        if tried is None
        else tuple(str(parse_countermeasure(t)) for t in tried),
        rows=None if rows == usual else rows,
        source_rows=total,
    )


def asked(options: argparse.Namespace) -> Iterable[Variant]:
    """The methods that the options name, within the budgets and with the settings that they are
    measured with; told is who is left out."""
    everyone = [*methods(), *(name for name in MAIN if "+" in name and _is_known(name))]
    settings = [setting_of(text) for text in options.set or ()]
    for name in options.methods.split(",") if options.methods else everyone:
        try:
            yield variant(name, options, *settings)
        except ValueError as problem:
            print(f"left out: {problem}")


def setting_of(text: str) -> tuple[str, str]:
    """`steps=60` as ("steps", "60")."""
    name, _, value = text.partition("=")
    return name, value


def variant(name: str, options: argparse.Namespace, *settings: tuple[str, str]) -> Variant:
    """ValueError where there is no such method, or it cannot do what is asked of it."""
    usual = usual_budget(name, options.scale)
    budget = str(parse(options.budget)) if options.budget else usual
    found = Variant(name, budget, settings)
    return replace(found, budget=str(found.method(options.scale).budget))


def _is_known(mixture: str) -> bool:
    return all(name in methods() for name in mixture.split("+"))


def _run(
    pieces: list[Work],
    began: float,
    options: argparse.Namespace,
    ended: Callable[[Path], None],
) -> int:
    """What can be finished in time is, and `ended` is told the result of each; returned is how many
    pieces failed."""
    slice_seconds = float("inf") if options.minutes is None else 60 * options.minutes
    deadline, last_fit = began + slice_seconds, began + slice_seconds / 3
    waiting = [piece for piece in pieces if not piece.result.exists()]
    running: dict[Future[None], tuple[Work, float]] = {}
    failed = 0
    with ProcessPoolExecutor(
        options.workers, multiprocessing.get_context("spawn"), _begin, (os.getpid(),)
    ) as pool:
        while True:
            for piece in waiting[:]:
                now = time.time()
                if len(running) == options.workers or now > deadline:
                    break
                can_start = all(path.exists() for path in piece.needs)
                if can_start and (now < last_fit or not _must_end(piece)):
                    waiting.remove(piece)
                    running[pool.submit(piece.run, deadline)] = piece, now
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                piece, started = running.pop(future)
                failed += _told(future, piece, started)
                ended(piece.result)


def _must_end(piece: Work) -> bool:
    """Whether it does not stop at the end of a slice."""
    return isinstance(piece, Fit) and not piece.of.method().resumes


def _told(future: Future[None], piece: Work, started: float) -> bool:
    """Told is how it ended; returned whether it failed."""
    problem = future.exception()
    told = f"{time.time() - started:.1f} s"
    if isinstance(problem, OutOfTime):
        told = "goes on in the next slice"
    elif problem is not None:
        told = f"failed: {problem!r}"
        traceback.print_exception(problem)
    print(f"{piece}: {told}", flush=True)
    return problem is not None and not isinstance(problem, OutOfTime)


def _begin(parent: int) -> None:
    """A process of the pool: one thread where several share the cores, the same sums every time
    on a GPU, as in a release, and no longer alive than the one that started it."""
    torch.backends.cudnn.deterministic = True
    if device().type == "cpu":
        torch.set_num_threads(1)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _figures(setting: Setting, variant: Variant, at_once: int) -> Results | None:
    """The claim and what was measured of it; None before all plain trainings are finished.
    at_once: how many pieces shared the machine, and so the seconds."""
    measured = []
    for of in setting.protections(variant):
        trials = [_trial(setting, of, *pair) for pair in setting.trainings(variant)]
        if None in trials[: len(setting.victims)]:
            return None
        done = [trial for trial in trials if trial is not None]
        cost = json.loads(Craft(setting.place, of).result.read_text())
        passes = {"fit_passes": of.method().fit_passes}
        measured.append({"seed": of.seed, "key": of.key, **passes, **cost, "trials": done})
    published = None if variant.settings else PUBLISHED.get(variant.name)
    train = PixelSplit.load(setting.data / "train")
    within = f"{variant} within {variant.budget}"
    return {
        "claim": f"what victims learn from {setting.dataset} protected by {within}",
        "method": variant.name,
        "settings": dict(variant.settings),
        "budget": variant.budget,
        "scale": setting.scale,
        "dataset": setting.dataset,
        "rows": len(train),
        "source_rows": setting.source_rows,
        "epochs": setting.epochs,
        "protocol": protocol(variant.name),
        "classes": train.num_classes,
        "at_once": at_once,
        "reported": None if published is None else asdict(published),
        "measured": measured,
    }


def _merged(figures: Results, before: Results, here: Results) -> Results:
    """The figures with those that an earlier run in the same way, on the machine that is `here`,
    measured from other seeds, and of other victims and countermeasures on the very same protected
    rows; alone where it was another machine, or another way."""
    alike = all(before.get(name) == figures[name] for name in _ALIKE)
    if not alike or _machine(before.get("measured_on", {})) != _machine(here):
        return figures
    earlier = {seed["seed"]: seed for seed in before["measured"]}
    for seed in figures["measured"]:
        same = earlier.pop(seed["seed"], seed)
        if same["key"] == seed["key"]:
            there = {(trial["victim"], trial["countermeasure"]) for trial in seed["trials"]}
            others = [t for t in same["trials"] if (t["victim"], t["countermeasure"]) not in there]
            seed["trials"] = [*seed["trials"], *others]
    options = figures["measured"][0]["options"]
    kept = [seed for seed in earlier.values() if seed["options"] == options]
    return figures | {"measured": sorted(figures["measured"] + kept, key=lambda of: of["seed"])}


def _machine(on: Results) -> tuple[Any, ...]:
    """What figures may depend on, of where they were measured."""
    return sorted(set(on.get("gpus", []))), on.get("processor"), on.get("versions", {}).get("torch")


def _trial(setting: Setting, of: Protection, victim: str, countermeasure: str) -> Results | None:
    """A victim beside its clean twin; None where either is not trained yet."""
    pair = [setting.training(victim, countermeasure, of.seed, learnt) for learnt in (None, of)]
    if not all(training.result.exists() for training in pair):
        return None
    clean, protected = (training.outcome() for training in pair)
    return {
        "victim": victim,
        "countermeasure": countermeasure,
        "epochs": protected.recipe.epochs,
        "clean": clean.final,
        "protected": protected.final,
        "peak": protected.peak,
        "renamed": protected.renamed,
        "train": protected.train_accuracy,
        "seconds": round(protected.seconds, 1),
    }


def options_parser() -> argparse.ArgumentParser:
    """What can be asked of a measurement."""
    parser = argparse.ArgumentParser(description="How well every method protects.")
    parser.add_argument("source", help="an .npz file of images and labels, or a clean dataset")
    parser.add_argument("--workdir", type=Path, required=True, help="keeps what is finished")
    parser.add_argument("--scale", choices=("quick", "paper"), default="quick")
    parser.add_argument("--methods", help="only these, written a,b+c")
    parser.add_argument("--set", action="append", help="an option of these methods, as NAME=VALUE")
    parser.add_argument("--budget", help="for every method that can work within it")
    parser.add_argument("--rows", type=int, help="training rows (quick: 5000, paper: all)")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--victims", help="instead of the scale's own, written a,b")
    parser.add_argument("--countermeasure", action="append", help="tried with all victims; repeat")
    parser.add_argument("--epochs", type=int, help="of victims, instead of their recipes' own")
    parser.add_argument("--minutes", type=float, help="length of a slice")
    parser.add_argument("--results", type=Path, default=record.RESULTS / "potency")
    workers = torch.cuda.device_count() or min(2, os.cpu_count() or 1)
    parser.add_argument("--workers", type=int, default=workers, help="processes at a time")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
