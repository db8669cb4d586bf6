"""What a release will cost, from its plan and some seconds of its real work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from itertools import islice
from statistics import harmonic_mean, mean
from typing import TYPE_CHECKING, Any

from rich.table import Table

from release.encode import encode_all
from release.images import decode
from release.processes import run_ranks
from release.rank import Order, Rank
from release.source import Source
from release.survey import Survey
from release.terminal import duration
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    import numpy as np
    import torch

    from evaluation.trial import Rows
    from release.plan import ReleasePlan

_SAMPLE_ROWS = 64
_FEW_ROWS, _SLOW_SECONDS = 16, 0.5
_CALIBRATION_SECONDS = 2.0
_STAGES = ("fit", "craft", "verify")


def forecast(plan: ReleasePlan, workdir: Workdir, *, fitted: bool = False) -> dict[str, Any]:
    """Rows, bytes of the release and of WORKDIR with it, gradient passes an image, and seconds by
    stage; fitted: the State is there.

    Rates are those of a few seconds of training and crafting with the plan's nets on this machine,
    in a rank of its own; bytes those of the first rows under random noise of the whole budget.
    """
    workdir.clear_progress()
    order = Order("calibrate", str(workdir.path), 1, plan.device, plan.hub_patience)
    run_ranks(order, ranks=1, max_restarts=0)
    rates = json.loads(_rates_path(workdir).read_text())
    released = round(_bytes_per_row(plan, workdir) * plan.num_rows * len(plan.formats))
    return {
        "rows": plan.num_rows,
        "test_rows": plan.test_rows,
        "bytes": released,
        "workdir_bytes": released + _cached_bytes(plan),
        "passes": round(_passes(plan) / max(1, plan.num_rows)),
        "seconds": _seconds(plan, rates, fitted=fitted),
    }


def forecast_table(expected: dict[str, Any]) -> Table:
    """The forecast for people."""
    table = Table("", "expected")
    table.add_row("rows", f"{expected['rows']:,}")
    table.add_row("gradient passes a row", f"{expected['passes']:,}")
    table.add_row("size", f"{expected['bytes'] / 1e6:,.1f} MB")
    table.add_row("WORKDIR", f"{expected['workdir_bytes'] / 1e6:,.1f} MB")
    for stage, seconds in expected["seconds"].items():
        table.add_row(stage, duration(seconds))
    table.add_row("all", duration(sum(expected["seconds"].values())))
    return table


def calibrate(rank: Rank) -> None:
    """Images a second of every net that the plan trains, and of crafting, are on disk."""
    plan, method = rank.plan, rank.plan.configured()
    nets = {victim_net(name) for name in plan.victims}
    rates: dict[str, Any] = {}
    size = plan.net_size
    if method.surrogates:
        nets.update(method.surrogates)
        rates["craft"] = harmonic_mean(
            _gradient_rate(net, size, rank.device) for net in method.surrogates
        )
    rates["train"] = {net: images_per_second(net, size, rank.device) for net in sorted(nets)}
    write_private(_rates_path(rank.workdir), json.dumps(rates))


def victim_net(name: str) -> str:
    from evaluation.victims import victim

    return victim(name).net


def images_per_second(net: str, net_size: int = 32, device: torch.device | None = None) -> float:
    """How many images of net_size x net_size this net is trained on in a second, measured."""
    import torch

    from crafting.nets import build
    from crafting.training import Recipe, train

    where = device or torch.device("cpu")
    made, data = build(net, 10, net_size), _random_split(net_size)
    recipe = Recipe(epochs=1, batch_size=_SAMPLE_ROWS, lr=0.0)
    few, began = data.take(range(_FEW_ROWS)), time.perf_counter()
    train(made, few, recipe, device=where, seed=0)
    if time.perf_counter() - began > _SLOW_SECONDS:
        data = few  # the largest nets take seconds for all of them
    began, seen = time.perf_counter(), 0
    while time.perf_counter() - began < _CALIBRATION_SECONDS / 2:
        train(made, data, recipe, device=where, seed=0)
        seen += len(data)
    return seen / (time.perf_counter() - began)


def _gradient_rate(net: str, net_size: int, device: torch.device) -> float:
    from crafting.descent import image_gradient
    from crafting.nets import build, for_crafting

    made = for_crafting(build(net, 10, net_size), device)
    (batch,) = _random_split(net_size).batches(_SAMPLE_ROWS)
    x = batch.x.to(device)
    return _rate(lambda: image_gradient(lambda x: made.features(x).square().mean(1), x).cpu())


def _random_split(net_size: int) -> Any:
    import numpy as np

    from crafting.batch import PixelSplit

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (_SAMPLE_ROWS, 3, net_size, net_size), dtype=np.uint8)
    rows = np.arange(_SAMPLE_ROWS)
    return PixelSplit(pixels, rows, rows % 10, num_classes=10)


def _rate(work: Callable[[], object]) -> float:
    """Images a second of work that handles the sample once, after a first run to warm up."""
    work()
    began, runs = time.perf_counter(), 0
    while time.perf_counter() - began < _CALIBRATION_SECONDS:
        work()
        runs += 1
    return runs * _SAMPLE_ROWS / (time.perf_counter() - began)


def _seconds(plan: ReleasePlan, rates: dict[str, Any], *, fitted: bool) -> dict[str, float]:
    method = plan.configured()
    seconds = dict.fromkeys(_STAGES, 0.0)
    if method.surrogates:
        speed = harmonic_mean(rates["train"][net] for net in method.surrogates)
        # A GPU is no faster for the threads that feed it.
        speed *= plan.fit_workers * (plan.fit_threads if plan.device == "cpu" else 1)
        if not fitted:
            # On a share of the rows a net takes as many steps as it would on all of them.
            seconds["fit"] = method.fit_epochs * plan.fit_rows / plan.fit_share / speed
        seconds["craft"] = _passes(plan) / (rates["craft"] * plan.workers)
    if plan.verify:
        seconds["verify"] = _verify_seconds(plan, rates["train"])
    return {stage: round(value, 1) for stage, value in seconds.items()}


def _passes(plan: ReleasePlan) -> int:
    """Gradient passes over all rows that are crafted; those of an increment are new to the fit, as
    are all beyond the ones that it saw."""
    method = plan.configured()
    seen = 0 if plan.is_increment else min(plan.fit_rows, plan.num_rows)
    return seen * method.passes + (plan.num_rows - seen) * method.passes_of_new_rows


def _verify_seconds(plan: ReleasePlan, rates: dict[str, float]) -> float:
    """All trainings spread over the workers, each as much slower as its countermeasure makes it;
    scoring an image costs a third of training on it."""
    from evaluation.countermeasures import parse
    from evaluation.verify import curve_rows
    from evaluation.victims import victim

    work = 0.0
    for spec in plan.trials():
        slower, rows = parse(spec.countermeasure).cost, _training_rows(plan, spec.rows)
        scored = curve_rows(rows, plan.test_rows)
        images = spec.recipe.epochs * (slower * rows + scored / 3) + plan.test_rows / 3
        work += images / rates[victim(spec.victim).net]
    return work / min(plan.workers, max(1, len(plan.trials())))


def _training_rows(plan: ReleasePlan, rows: Rows) -> int:
    """How many rows a victim trains on: of a first release those that fit does too, of an increment
    the new ones, alone or with those published before."""
    if not plan.is_increment:
        return plan.fit_rows
    return plan.num_rows if rows == "new" else plan.old_rows + plan.num_rows


def _bytes_per_row(plan: ReleasePlan, workdir: Workdir) -> float:
    images = list(islice(_images(plan, workdir), _SAMPLE_ROWS))
    noisy = [_noisy(image) for image in images]
    return mean(len(data) for data in encode_all(noisy, plan.encoding))


def _cached_bytes(plan: ReleasePlan) -> int:
    """Of decoded rows at net size: those that nets train on, clean and protected, and test rows."""
    protected = _training_rows(plan, "release") if plan.verify else 0
    return 3 * plan.net_size**2 * (plan.fit_rows + protected + plan.test_rows)


def _images(plan: ReleasePlan, workdir: Workdir) -> Iterator[np.ndarray]:
    survey = Survey.load(workdir.survey(plan.survey))
    for row in Source.from_json(plan.source).rows(plan.split, 0, plan.num_rows):
        if survey.good[row.number]:
            yield decode(row.image).pixels


def _noisy(pixels: np.ndarray) -> np.ndarray:
    """Pixels with noise of 8 levels: protected images are as hard to compress as this."""
    import numpy as np

    noise = np.random.default_rng(0).choice([-8, 8], pixels.shape)
    noisy: np.ndarray = (pixels.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)
    return noisy


def _rates_path(workdir: Workdir) -> Any:
    return workdir.path / "rates.json"
