"""Images x gradients per second: the crafting engine beside a plain implementation.

Both take the gradient of the feature distance of CIFAR ResNet-18 with respect to batches of 125
images of 32x32. Plain is the usual way: float32, contiguous, BatchNorm not folded, weights read
from disk for every pass. Rounds of the two alternate in one process, so that whatever else the
machine does falls on both.

    python benchmarks/engine.py [--rounds 15] [--passes 2] [--threads 2] [--batch 125]

Prints a table and writes benchmarks/results/engine.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from rich.table import Table
from torch import Tensor

from crafting.descent import image_gradient
from crafting.nets import Net, build, compute_dtype, for_crafting
from release.machine import processor

RESULT = Path(__file__).parent / "results" / "engine.json"
CPU = torch.device("cpu")
Gradient = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rates:
    """Images x gradients per second, one figure a round."""

    plain: list[float]
    engine: list[float]

    @property
    def ratio(self) -> float:
        """Of the best rounds, the ones that other processes disturbed least."""
        return max(self.engine) / max(self.plain)

    @property
    def ratio_of_medians(self) -> float:
        return statistics.median(self.engine) / statistics.median(self.plain)


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        plain, engine = _rivals(Path(folder) / "weights.pt")
        x = torch.rand(options.batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        agreement = _agreement(plain(x), engine(x))
        rates = measure(plain, engine, x, options.rounds, options.passes)
    record = _record(rates, agreement, options)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n")
    _show(record)


def measure(plain: Gradient, engine: Gradient, x: Tensor, rounds: int, passes: int) -> Rates:
    """Rates of both, in alternating rounds of `passes` gradients each."""
    rates = Rates([], [])
    for _ in range(rounds):
        rates.plain.append(_rate(plain, x, passes))
        rates.engine.append(_rate(engine, x, passes))
    return rates


def _rivals(weights: Path) -> tuple[Gradient, Gradient]:
    net = _with_statistics(build("resnet18", 10, net_size=32))
    torch.save(net.state_dict(), weights)
    wanted = torch.rand(net.head.in_features, generator=torch.Generator().manual_seed(1))
    return partial(_plain, _contiguous(net), weights, wanted), partial(
        _engine, for_crafting(net, CPU), wanted
    )


def _plain(net: Net, weights: Path, wanted: Tensor, x: Tensor) -> Tensor:
    net.load_state_dict(torch.load(weights))
    x = x.clone().requires_grad_()
    features = net.body((x - 0.5) / 0.25)  # not net.features, which would make it channels_last
    (gradient,) = torch.autograd.grad((features - wanted).square().mean(1).sum(), x)
    return gradient.cpu().clone()


def _engine(net: Net, wanted: Tensor, x: Tensor) -> Tensor:
    return image_gradient(lambda at: (net.features(at) - wanted).square().mean(1), x)


def _contiguous(net: Net) -> Net:
    plain = build("resnet18", 10, net_size=32).to(memory_format=torch.contiguous_format)
    plain.load_state_dict(net.state_dict())
    return plain.eval()


def _with_statistics(net: Net) -> Net:
    with torch.no_grad():
        net.train()(torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(2)))
    return net.eval()


def _rate(gradient: Gradient, x: Tensor, passes: int) -> float:
    began = time.perf_counter()
    for _ in range(passes):
        gradient(x)
    return len(x) * passes / (time.perf_counter() - began)


def _agreement(first: Tensor, second: Tensor) -> float:
    """The share of equal signs among the larger half of the gradient's values."""
    large = first.abs() > first.abs().median()
    return float((first.sign() == second.sign())[large].float().mean())


def _record(rates: Rates, agreement: float, options: argparse.Namespace) -> dict[str, object]:
    return {
        "what": "input gradients of CIFAR ResNet-18 (width 64), images x gradients per second",
        "plain": [round(rate, 1) for rate in rates.plain],
        "engine": [round(rate, 1) for rate in rates.engine],
        "ratio": round(rates.ratio, 2),
        "ratio_of_medians": round(rates.ratio_of_medians, 2),
        "equal_signs_larger_half": round(agreement, 4),
        "engine_precision": str(compute_dtype(CPU)),
        "batch": options.batch,
        "threads": options.threads,
        "processor": processor(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "python": platform.python_version(),
    }


def _show(record: dict[str, object]) -> None:
    table = Table(title="Crafting engine")
    for heading in ("", "value"):
        table.add_column(heading)
    for name, value in record.items():
        table.add_row(name, str(value))
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Crafting engine beside a plain implementation.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--passes", type=int, default=2, help="gradients in a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=125)
    return parser.parse_args()


if __name__ == "__main__":
    main()
