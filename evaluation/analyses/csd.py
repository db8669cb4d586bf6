"""How separable the noise is by class: the class-wise separability discriminant.

Ren, Xu, Wan, Ma, Sun, Tang: "Transferable Unlearnable Examples", ICLR 2023. With c_i the mean noise
of class i and s_i the mean distance of its noises to it (L2 of the flattened images),

    CSD = mean over i != j of (s_i + s_j) / |c_i - c_j|

Departures: (1) classes without rows are left out; (2) beside it stand the same of the clean images
and of the noise under shuffled labels: a finite sample has finite distances between means whatever
its labels are, and the figure alone does not say how near to that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.analyses.base import Analysis, Findings, Material, Progress, register
from evaluation.analyses.pairs import Pair, pairs

Labelled = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Batches of vectors (B,D) and labels (B,); may be read again."""


@register
@dataclass(frozen=True)
class ClassSeparability(Analysis):
    """Tells how far apart the noise of different classes lies, for its spread within a class."""

    name = "csd"
    needs_clean = True

    @property
    def cost(self) -> float:
        return 0.05

    def examine(self, material: Material, progress: Progress) -> Findings:
        num_classes = material.protected.num_classes
        labels = material.protected.numbered()[1]
        assert labels is not None
        shuffled = np.random.default_rng(material.seed).permutation(labels)
        of_noise = _read(material, lambda pair: pair.noise)
        of_images = _read(material, lambda pair: pair.clean.flatten(1))
        noise = discriminant(of_noise, num_classes)
        progress(1 / 3)
        clean = discriminant(of_images, num_classes)
        progress(2 / 3)
        chance = discriminant(_relabelled(of_noise, shuffled), num_classes)
        figures = {"noise": noise, "clean": clean, "noise with shuffled labels": chance}
        return Findings(figures, _sentence(noise, clean, chance))


def discriminant(read: Labelled, num_classes: int) -> float | None:
    """CSD of labelled vectors; None with fewer than 2 classes, or where two have the same mean."""
    centres, counts = _centres(read, num_classes)
    known = counts > 0
    spread = (_distances(read, centres) / counts.clamp_min(1))[known]
    centres = centres[known]
    between = torch.cdist(centres, centres, compute_mode="donot_use_mm_for_euclid_dist")
    others = ~torch.eye(len(centres), dtype=torch.bool)
    if not others.any() or not between[others].all():
        return None
    return float(((spread[:, None] + spread) / between)[others].mean())


def _centres(read: Labelled, num_classes: int) -> tuple[Tensor, Tensor]:
    """(K,D) float64 class means, zero where a class has no rows, and (K,) counts."""
    counts = torch.zeros(num_classes, dtype=torch.float64)
    sums = torch.zeros(0)
    for x, y in read():
        if not len(sums):
            sums = torch.zeros(num_classes, x.shape[1], dtype=torch.float64)
        sums.index_add_(0, y, x.double())
        counts += torch.bincount(y, minlength=num_classes)
    return sums / counts.clamp_min(1)[:, None], counts


def _distances(read: Labelled, centres: Tensor) -> Tensor:
    """(K,): each class's summed distance to its centre."""
    totals = torch.zeros(len(centres), dtype=torch.float64)
    for x, y in read():
        totals.index_add_(0, y, (x - centres[y]).norm(dim=1))
    return totals


def _read(material: Material, vectors: Callable[[Pair], Tensor]) -> Labelled:
    def read() -> Iterator[tuple[Tensor, Tensor]]:
        for pair in pairs(material):
            assert pair.labels is not None
            yield vectors(pair), pair.labels

    return read


def _relabelled(read: Labelled, labels: np.ndarray) -> Labelled:
    def again() -> Iterator[tuple[Tensor, Tensor]]:
        at = 0
        for x, y in read():
            yield x, torch.from_numpy(labels[at : at + len(y)])
            at += len(y)

    return again


def _sentence(noise: float | None, clean: float | None, chance: float | None) -> str:
    if noise is None:
        return "The noise of at least two classes has the same mean, so it has no discriminant."
    return (
        f"The noise has a class-wise separability discriminant of {noise:.2f} (lower is easier to "
        f"tell apart by class; clean images: {_shown(clean)}, the same noise under shuffled "
        f"labels: {_shown(chance)})."
    )


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f}"
