"""How well every method protects: what victims still learn, what it costs, what can be seen.

    python -m benchmarks.potency SOURCE --workdir WORKDIR [--scale quick|paper] [--methods a,b+c]
        [--budget linf:4] [--rows 5000] [--seeds 1] [--victims a,b] [--countermeasure x ...]
        [--minutes 8] [--results FOLDER]

SOURCE is a clean dataset, or an .npz file that `benchmarks.image_arrays` made of one, for a machine
that has nothing but torch, torchvision, timm, numpy, scipy, safetensors and scikit-learn. `quick`
protects 5,000 rows by the quick presets and trains the two small victims for 20 epochs; `paper` all
rows by the papers' figures against ResNet-18, VGG-16 and DenseNet-121 for 120 epochs. A seed is one
of surrogate, noise and victims alike. The eight main methods are tried against three
countermeasures as well, with the first victim, unless others are named. Each method works within
linf:8 where its own budget is a bound on every pixel, else within its own.

Everything that is finished lies in WORKDIR and is not done again; a training goes on from its last
epoch. `--minutes` ends a slice: nothing new is begun, and what runs stops where it can; fits, which
cannot stop, begin in the first third only. Each method's figures are written to
FOLDER/SCALE-DATASET-METHOD-BUDGET.json as soon as its victims are trained.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
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
    Work,
    device,
    net_size,
)
from benchmarks.published import PUBLISHED
from crafting.batch import PixelSplit
from crafting.budget import Budget, Linf, parse
from crafting.registry import Preset, configure, lookup, methods, registration
from evaluation.countermeasures import parse as parse_countermeasure
from evaluation.trial import TrialSpec
from evaluation.victims import VICTIMS, default_victims

MAIN = ("sep-fa-mi", "sep-fa-vr", "tap", "em", "rem", "ar", "lsp", "sep-fa-mi+ops")
COLUMNS = ("jpeg", "at-linf:steps=3", "cutmix")
QUICK_ROWS = 5000
Results = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What is measured on the rows in `data`."""

    place: Path
    data: Path
    dataset: str
    scale: Preset
    seeds: int
    victims: tuple[str, ...]
    epochs: int | None = None
    countermeasures: tuple[str, ...] | None = None

    def protections(self, name: str, budget: str) -> list[Protection]:
        return [Protection(self.data, name, self.scale, budget, s) for s in range(self.seeds)]

    def trainings(self, name: str) -> list[tuple[str, str]]:
        """Victims with what is done against the protection, plain training first."""
        found = [(victim, "none") for victim in self.victims]
        if self.countermeasures is None:
            return found + [(self.victims[0], column) for column in COLUMNS if name in MAIN]
        return found + [
            (victim, tried) for tried in self.countermeasures for victim in self.victims
        ]

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

    def work(self, name: str, budget: str) -> list[Work]:
        """All that one method's figures need, clean twins included."""
        found: list[Work] = []
        for of in self.protections(name, budget):
            found += [Fit(self.place, of), Craft(self.place, of)]
            for victim, countermeasure in self.trainings(name):
                for learnt in (None, of):
                    found.append(self.training(victim, countermeasure, of.seed, learnt))
        return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The figures of every method that is finished are written; 1 where some work failed."""
    options = _options(arguments)
    began = time.time()
    dataset, arrays = image_arrays.read(options.source)
    rows = options.rows or (QUICK_ROWS if options.scale == "quick" else None)
    data = image_arrays.keep(arrays, rows, options.workdir)
    setting = _setting(options, data, dataset)
    asked = dict(_asked(options.methods, options.scale, options.budget))
    pieces = {piece.result: piece for name, b in asked.items() for piece in setting.work(name, b)}
    failed = _run(list(pieces.values()), began, options)
    for name, budget in asked.items():
        if figures := _figures(setting, name, budget):
            file = f"{setting.scale}-{dataset}-{name}-{budget}".replace(":", "-")
            print(
                record.write(
                    file, _merged(figures, options.results / f"{file}.json"), options.results
                )
            )
    left = sum(not path.exists() for path in pieces)
    print(f"{len(pieces) - left} of {len(pieces)} pieces are finished, {failed} failed")
    return 1 if failed else 0


def _setting(options: argparse.Namespace, data: Path, dataset: str) -> Setting:
    named = options.victims.split(",") if options.victims else default_victims(options.scale)
    tried = options.countermeasure
    return Setting(
        place=options.workdir,
        data=data,
        dataset=dataset,
        scale=options.scale,
        seeds=options.seeds,
        victims=tuple(lookup("victim", name, VICTIMS).name for name in named),
        epochs=options.epochs,
        countermeasures=None
        if tried is None
        else tuple(str(parse_countermeasure(t)) for t in tried),
    )


def _asked(names: str | None, scale: Preset, budget: str | None) -> Iterable[tuple[str, str]]:
    """Methods with the budgets that they are measured within; told is who is left out."""
    everyone = [*methods(), *(name for name in MAIN if "+" in name and _is_known(name))]
    for name in names.split(",") if names else everyone:
        own = registration(name).preset(scale).budget
        try:
            method = configure(name, scale, parse(budget) if budget else _usual(own))
        except ValueError as problem:
            print(f"left out: {problem}")
        else:
            yield name, str(method.budget)


def _is_known(mixture: str) -> bool:
    return all(name in methods() for name in mixture.split("+"))


def _usual(own: Budget) -> Budget:
    return Linf(8) if isinstance(own, Linf) else own


def _run(pieces: list[Work], began: float, options: argparse.Namespace) -> int:
    """What can be finished in time is; returned is how many pieces failed."""
    slice_seconds = float("inf") if options.minutes is None else 60 * options.minutes
    deadline, last_fit = began + slice_seconds, began + slice_seconds / 3
    waiting = sorted((p for p in pieces if not p.result.exists()), key=lambda piece: piece.order)
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
                if can_start and (now < last_fit or not isinstance(piece, Fit)):
                    waiting.remove(piece)
                    running[pool.submit(piece.run, deadline)] = piece, now
            if not running:
                return failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                failed += _ended(future, *running.pop(future))


def _ended(future: Future[None], piece: Work, started: float) -> bool:
    """Told is how it ended; returned whether it failed."""
    problem = future.exception()
    told = f"{time.time() - started:.1f} s"
    if isinstance(problem, OutOfTime):
        told = "goes on in the next slice"
    elif problem is not None:
        told = f"failed: {problem!r}"
    print(f"{piece}: {told}", flush=True)
    return problem is not None and not isinstance(problem, OutOfTime)


def _begin(parent: int) -> None:
    """A process of the pool: one thread where several share the cores, and no longer alive than the
    one that started it."""
    if device().type == "cpu":
        torch.set_num_threads(1)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _figures(setting: Setting, name: str, budget: str) -> Results | None:
    """The claim and what was measured of it; None before all plain trainings are finished."""
    measured = []
    for of in setting.protections(name, budget):
        trials = [_trial(setting, of, *pair) for pair in setting.trainings(name)]
        if None in trials[: len(setting.victims)]:
            return None
        done = [trial for trial in trials if trial is not None]
        cost = json.loads(Craft(setting.place, of).result.read_text())
        measured.append({"seed": of.seed, "key": of.key, **cost, "trials": done})
    published = PUBLISHED.get(name)
    train = PixelSplit.load(setting.data / "train")
    return {
        "claim": f"what victims learn from {setting.dataset} protected by {name} within {budget}",
        "method": name,
        "budget": budget,
        "scale": setting.scale,
        "dataset": setting.dataset,
        "rows": len(train),
        "classes": train.num_classes,
        "reported": None if published is None else asdict(published),
        "measured": measured,
    }


def _merged(figures: Results, path: Path) -> Results:
    """The figures with those that an earlier run measured of other victims and countermeasures on
    the very same protected rows."""
    if not path.exists():
        return figures
    before = {seed["key"]: seed["trials"] for seed in json.loads(path.read_text())["measured"]}
    for seed in figures["measured"]:
        there = {(trial["victim"], trial["countermeasure"]) for trial in seed["trials"]}
        others = [
            trial
            for trial in before.get(seed["key"], [])
            if (trial["victim"], trial["countermeasure"]) not in there
        ]
        seed["trials"] = [*seed["trials"], *others]
    return figures


def _trial(setting: Setting, of: Protection, victim: str, countermeasure: str) -> Results | None:
    """A victim beside its clean twin; None where either is not trained yet."""
    pair = [setting.training(victim, countermeasure, of.seed, learnt) for learnt in (None, of)]
    if not all(training.result.exists() for training in pair):
        return None
    clean, protected = (training.outcome() for training in pair)
    return {
        "victim": victim,
        "countermeasure": countermeasure,
        "epochs": len(protected.curve),
        "clean": clean.final,
        "protected": protected.final,
        "peak": protected.peak,
        "renamed": protected.renamed,
        "train": protected.train_accuracy,
        "seconds": round(protected.seconds, 1),
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How well every method protects.")
    parser.add_argument("source", help="an .npz file of images and labels, or a clean dataset")
    parser.add_argument("--workdir", type=Path, required=True, help="keeps what is finished")
    parser.add_argument("--scale", choices=("quick", "paper"), default="quick")
    parser.add_argument("--methods", help="only these, written a,b+c")
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
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
