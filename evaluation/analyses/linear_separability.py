"""How well the noise alone tells the class to the simplest classifiers.

Yu, Zhang, Chen, Yin, Liu: "Availability Attacks Create Shortcuts", KDD 2022: all noise is
scaled to [0,1] by its least and greatest value and flattened, a linear classifier and one with a
hidden layer of 30 tanh units are fitted to it by full-batch LBFGS (rate 0.5, 50 outer steps of at
most 20 inner ones), and their training accuracy is reported: 49.9 / 70.1 % for clean CIFAR-10
images, 100 / 100 % for error-minimising noise, 91.5 / 99.9 % for TAP.

Departures: (1) a seeded sample of `rows` rows, a fifth of which is not fitted: with fewer rows than
pixels a linear classifier learns any labels by heart, which its accuracy on rows that it never saw
shows; (2) fitting ends where every fitted row is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    demand_counts,
    portion,
    register,
)
from evaluation.analyses.pairs import aligned
from evaluation.scoring import percent

_HIDDEN, _RATE = 30, 0.5
_MOST_VALUES = 1 << 28
"""Of all vectors together, 1 GiB: larger images are read from fewer rows."""
_UNSEEN = 5
"""One row in so many is not fitted."""


@register
@dataclass(frozen=True)
class LinearSeparability(Analysis):
    """Tells how often a linear and a two-layer classifier read the class from the noise alone.

    outer: steps of LBFGS; rows: at most so many are looked at.
    """

    name = "linear-separability"
    needs_clean = True
    outer: int = 50
    rows: int = 5000

    def __post_init__(self) -> None:
        demand_counts(self)

    @property
    def cost(self) -> float:
        return 1.3

    def examine(self, material: Material, progress: Progress) -> Findings:
        noise, images, labels = _vectors(material, self.rows)
        unseen = _every_fifth(len(labels), material.seed, material.device)
        figures: dict[str, float | None] = {}
        plan = [(kind, x) for x in ("noise", "clean") for kind in _CLASSIFIERS]
        for part, (kind, what) in enumerate(plan):
            x = _scaled(noise if what == "noise" else images)
            told = portion(progress, part, len(plan))
            net = _classifier(kind, x.shape[1], material)
            fit(net, x[~unseen], labels[~unseen], self.outer, told)
            figures[f"{what} {kind}"] = _score(net, x[~unseen], labels[~unseen])
            figures[f"{what} {kind} unseen"] = _score(net, x[unseen], labels[unseen])
        return Findings(figures, _sentence(figures))


def fit(net: nn.Module, x: Tensor, y: Tensor, outer: int, progress: Progress) -> None:
    """The net learns all rows at once by LBFGS, until every one is right or for `outer` steps."""
    optimiser = torch.optim.LBFGS(net.parameters(), lr=_RATE)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(net(x), y)
        torch.autograd.backward(value)
        return value

    for step in range(outer):
        optimiser.step(loss)  # type: ignore[no-untyped-call]
        progress((step + 1) / outer)
        if _score(net, x, y) == 1:
            return


_CLASSIFIERS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "two-layer": lambda width, classes: nn.Sequential(
        nn.Linear(width, _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, classes)
    ),
}


def _classifier(kind: str, width: int, material: Material) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.seed)
        return _CLASSIFIERS[kind](width, material.protected.num_classes).to(material.device)


def _vectors(material: Material, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise and clean images (N,D) in grey levels and labels (N,) of a sample, on the device."""
    most = min(most, max(2, _MOST_VALUES // (2 * int(np.prod(material.protected.shape)))))
    clean, protected = (
        material.sample(split, most) for split in (material.originals, material.protected)
    )
    found = list(aligned(clean, protected))
    noise = torch.cat([pair.noise for pair in found]).to(material.device)
    images = torch.cat([pair.clean.flatten(1) for pair in found]).to(material.device)
    labels = torch.cat([pair.labels for pair in found if pair.labels is not None])
    return noise, images, labels.to(material.device)


def _every_fifth(count: int, seed: int, device: torch.device) -> Tensor:
    """(N,) bool: which rows are not fitted, a fifth of them, drawn."""
    order = np.random.default_rng((seed, count)).permutation(count)
    return torch.from_numpy(order % _UNSEEN == _UNSEEN - 1).to(device)


def _scaled(x: Tensor) -> Tensor:
    low, high = x.min(), x.max()
    return (x - low) / (high - low).clamp_min(1)


@torch.inference_mode()
def _score(net: nn.Module, x: Tensor, y: Tensor) -> float | None:
    """The share that it gets right; None of no rows."""
    return float((net(x).argmax(1) == y).float().mean()) if len(y) else None


def _sentence(figures: dict[str, float | None]) -> str:
    def shown(what: str) -> str:
        fitted, unseen = figures[what], figures[f"{what} unseen"]
        assert fitted is not None
        return percent(fitted) + ("" if unseen is None else f" ({percent(unseen)})")

    return (
        f"A linear classifier told the class of {shown('noise linear')} of the rows that it was "
        "fitted to from the noise alone (in brackets: of rows that it was not fitted to), a "
        f"two-layer one of {shown('noise two-layer')}; from the clean images they told that of "
        f"{shown('clean linear')} and {shown('clean two-layer')}."
    )
