"""How alike the gradients are that different nets give for the same image.

Chen et al.: "Self-Ensemble Protection", ICLR 2023, Figure 1: checkpoints of one training run are as
diverse as other architectures (mean |cos| near 0), which is why noise made against all of them at
once reveals the training and not one net. Here nets are trained anew, in the owner's own way of
training victims: nothing of a release's surrogate is read or told.

Departures: (1) the loss may also be the feature alignment that sep-fa and its kin descend (their
default here), with the class means of each net's own features; the figure of the paper is of cross
entropy; (2) the diagonal is 1 and left out of every mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import PixelSplit, Split
from crafting.descent import image_gradient
from crafting.method import Context
from crafting.nets import Net, for_crafting
from crafting.surrogate import class_centres
from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    demand_counts,
    measured,
    portion,
    register,
)
from evaluation.analyses.trainings import checkpoints, several
from evaluation.victims import victim

LossName = Literal["alignment", "cross-entropy"]
RowLoss = Callable[[Tensor, Tensor], Tensor]
"""Images (B,C,H,W) and the classes (B,) they are pulled towards, to one loss (B,) each."""
_BATCH = 100


@register
@dataclass(frozen=True)
class GradientCosine(Analysis):
    """Tells how alike the input gradients of checkpoints and of other nets are (0: orthogonal).

    The nets train on the clean images, or on the protected ones where there are no others. images:
    how many are looked at; checkpoints: of the first net's training; nets: the others are compared
    as they are at the end; loss: `alignment` to the mean features of a class half the
    classes further round, or `cross-entropy` to it.
    """

    name = "gradient-cosine"
    images: int = 1000
    checkpoints: int = 5
    nets: str = "vgg-w16+resnet10-w16"
    loss: LossName = "alignment"

    def __post_init__(self) -> None:
        demand_counts(self)
        several(self.nets)

    @property
    def cost(self) -> float:
        return sum(victim(name).cost for name in several(self.nets)) + 0.2

    def examine(self, material: Material, progress: Progress) -> Findings:
        split = material.protected if material.clean is None else material.clean
        learnt = "this release" if material.clean is None else "the clean images"
        names = several(self.nets)
        found = []
        for part, name in enumerate(names):
            told = portion(progress, part, len(names))
            count = self.checkpoints if part == 0 else 1
            found += checkpoints(material, name, split, count, told)
        nets = [for_crafting(each.net, material.device, torch.float32) for each in found]
        losses = [row_loss(net, self.loss, split, material) for net in nets]
        cosines = mean_cosines(losses, material.sample(split, self.images), material.device)
        kept = len(found) - len(names) + 1
        figures = {
            "checkpoints": _off_diagonal(cosines[:kept, :kept]),
            "architectures": _off_diagonal(cosines[kept - 1 :, kept - 1 :]),
        }
        return Findings(
            figures,
            _sentence(names, kept, figures, learnt),
            matrix=cosines.tolist(),
            labels=[str(each) for each in found],
        )


def row_loss(net: Net, kind: LossName, split: Split, material: Material) -> RowLoss:
    """The loss that pulls images to a class in this frozen net, one for each image."""
    if kind == "cross-entropy":
        return lambda x, wanted: F.cross_entropy(net(x), wanted, reduction="none")
    centres = class_centres([net], split, _context(material))[0]
    return lambda x, wanted: (net.features(x) - centres[wanted]).square().mean(1)


def mean_cosines(losses: list[RowLoss], split: PixelSplit, device: torch.device) -> Tensor:
    """(n,n) float64 on CPU: the mean over the images of |cos| between the gradients of each two
    losses with respect to the image, all its values as one vector; 0 where one has no gradient."""
    total = torch.zeros(len(losses), len(losses), dtype=torch.float64)
    for x, wanted in _pulled(split, device):
        gradients = torch.stack([_direction(loss, x, wanted) for loss in losses], 1)
        total += (gradients @ gradients.mT).abs().sum(0).cpu()
    return total / len(split)


def _pulled(split: PixelSplit, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    classes = split.num_classes
    for batch in split.batches(_BATCH):
        on = batch.to(device)
        yield on.x, (on.labels() + classes // 2) % classes


def _direction(loss: RowLoss, x: Tensor, wanted: Tensor) -> Tensor:
    """(B,D) float64: gradients as long as 1."""
    gradient = image_gradient(lambda images: loss(images, wanted), x)
    return F.normalize(gradient.flatten(1).double(), eps=1e-30)


def _off_diagonal(cosines: Tensor) -> float | None:
    """The mean over different nets; None of one net, and where one diverged."""
    others = ~torch.eye(len(cosines), dtype=torch.bool)
    return measured(float(cosines[others].mean())) if others.any() else None


def _context(material: Material) -> Context:
    """Enough of one to average features: nothing is drawn from it."""
    return Context(
        num_classes=material.protected.num_classes,
        shape=material.protected.shape,
        net_size=material.net_size,
        device=material.device,
        seed=b"",
        row_key=lambda row: b"",
    )


def _sentence(names: list[str], kept: int, figures: dict[str, float | None], learnt: str) -> str:
    parts = []
    if figures["checkpoints"] is not None:
        parts.append(f"{figures['checkpoints']:.2f} between {kept} checkpoints of one {names[0]}")
    if figures["architectures"] is not None:
        parts.append(f"{figures['architectures']:.2f} between {' and '.join(names)}")
    if not parts and (kept > 1 or len(names) > 1):
        return "A net that was to be looked at diverged, so that gradients could not be compared."
    if not parts:
        return "Only one net was looked at, so there is nothing to compare its gradients with."
    return (
        f"In nets that trained on {learnt} the gradients of the same image have a mean absolute "
        f"cosine of {', '.join(parts)}: the nearer to 0, the more each of them adds to noise that "
        "is made against all of them."
    )
