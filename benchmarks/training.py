"""Seconds per epoch: the one training loop beside a plain DataLoader loop.

Both train the small nets on 5,000 generated images of 32x32 in batches of 125, with crops and
flips. Plain is the usual way: a dataset that moves each image through torchvision's transforms, two
worker processes, float32, contiguous. Epochs of the two alternate in one process, so that whatever
else the machine does falls on both; each begins with one that is not counted.

    python -m benchmarks.training [--rounds 3] [--rows 5000] [--threads 2]

Prints a table and writes benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks import record
from crafting.batch import PixelSplit
from crafting.nets import Net, build, compute_dtype
from crafting.training import EpochStats, Recipe, train

NETS = ("vgg-w16", "resnet18-w16")
CLASSES, SIZE, BATCH, WORKERS = 10, 32, 125, 2
CPU = torch.device("cpu")
Epoch = Callable[[], tuple[float, float]]
"""Trains for one more epoch: seconds and mean loss."""


class Images(Dataset[tuple[Tensor, int]]):
    """Each image by its own, as tutorials write it."""

    def __init__(self, split: PixelSplit) -> None:
        assert split.targets is not None
        self.pixels = torch.from_numpy(split.pixels)
        self.targets = split.targets.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(SIZE, padding=SIZE // 8),
                transforms.RandomHorizontalFlip(),
                transforms.ConvertImageDtype(torch.float32),
                transforms.Normalize([0.5] * 3, [0.25] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self.transform(self.pixels[at]), self.targets[at]


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    split = _generated(options.rows)
    measured = {name: _measured(name, split, options.rounds) for name in NETS}
    settings = {"rows": options.rows, "batch": BATCH, "threads": options.threads}
    figures = {
        "what": f"seconds per epoch of {options.rows:,} images of {SIZE}x{SIZE}",
        "settings": settings | {"plain_workers": WORKERS, "ours_in": str(compute_dtype(CPU))},
        "nets": measured,
    }
    record.write("training", figures)
    _show(figures)


def _measured(name: str, split: PixelSplit, rounds: int) -> dict[str, Any]:
    """Seconds and losses of both, epoch after epoch in turns; the first of each is left out."""
    rivals = {"plain": _plain(name, split), "ours": _ours(name, split)}
    seconds: dict[str, list[float]] = {which: [] for which in rivals}
    losses: dict[str, float] = {}
    for _ in range(1 + rounds):
        for which, epoch in rivals.items():
            taken, losses[which] = epoch()
            seconds[which].append(taken)
    counted = {which: values[1:] for which, values in seconds.items()}
    best = {which: min(values) for which, values in counted.items()}
    medians = {which: statistics.median(values) for which, values in counted.items()}
    return {
        **{which: [round(value, 3) for value in values] for which, values in counted.items()},
        "images_per_second": {which: round(len(split) / value) for which, value in best.items()},
        "ratio": round(best["plain"] / best["ours"], 2),
        "ratio_of_medians": round(medians["plain"] / medians["ours"], 2),
        "last_loss": {which: round(value, 3) for which, value in losses.items()},
    }


def _ours(name: str, split: PixelSplit) -> Epoch:
    net, done = build(name, CLASSES, SIZE), 0
    recipe = Recipe(epochs=1, batch_size=BATCH, schedule="multistep")

    def epoch() -> tuple[float, float]:
        nonlocal done
        seen: list[EpochStats] = []
        began = time.perf_counter()
        train(
            net, split, recipe, device=CPU, seed=done, on_epoch=lambda n, stats: seen.append(stats)
        )
        done += 1
        return time.perf_counter() - began, seen[0].loss

    return epoch


def _plain(name: str, split: PixelSplit) -> Epoch:
    net = build(name, CLASSES, SIZE).to(memory_format=torch.contiguous_format)
    images = Images(split)
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=WORKERS, persistent_workers=True)
    recipe = Recipe(epochs=1)
    optimiser = recipe.optimiser_of(net)

    def epoch() -> tuple[float, float]:
        began, total = time.perf_counter(), 0.0
        net.train()
        for x, y in loader:
            loss = F.cross_entropy(_logits(net, x), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(x)
        return time.perf_counter() - began, total / len(images)

    return epoch


def _logits(net: Net, x: Tensor) -> Tensor:
    """Not net(x), which would make it channels_last."""
    body: nn.Module = net.body
    logits: Tensor = net.head(body(x))
    return logits


def _generated(rows: int) -> PixelSplit:
    """Noise whose brightness tells the class, more or less."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, CLASSES, rows)
    noise = rng.integers(0, 160, (rows, 3, SIZE, SIZE))
    pixels = (noise + 10 * targets[:, None, None, None]).astype(np.uint8)
    return PixelSplit(pixels, np.arange(rows), targets, CLASSES)


def _show(figures: dict[str, Any]) -> None:
    table = Table("net", "plain, s", "ours, s", "ratio of best", "of medians", "loss plain / ours")
    table.title = f"Training: {figures['what']}"
    for name, of in figures["nets"].items():
        loss = f"{of['last_loss']['plain']:.3f} / {of['last_loss']['ours']:.3f}"
        plain, ours = (f"{min(of[which]):.2f}" for which in ("plain", "ours"))
        table.add_row(name, plain, ours, str(of["ratio"]), str(of["ratio_of_medians"]), loss)
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The training loop beside a DataLoader's.")
    parser.add_argument("--rounds", type=int, default=3, help="epochs that are counted")
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
