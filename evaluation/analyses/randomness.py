"""How far from random guessing a victim's answers to clean images are.

Fang, Li, Wu, Ding, Yi, Ma: "Re-thinking Data Availability Attacks Against Deep Neural Networks",
CVPR 2024. With p(x) a victim's softmax and P_k the shares of its answers to images of class k, and
L(p) = 1/K sum_j (p_j - 1/K)^2 (their Equation 7),

    DAR = mean over images of L(p(x))            (Definition 2)
    R_p = mean over images of L(P_y)             (Definition 1, which has no gradient)

Both are 0 for uniform answers and (K-1)/K^2 for certain ones. A victim that is certain and wrong
has a high DAR: the figure tells apart victims that guess from victims that were misled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crafting.batch import PixelSplit
from crafting.nets import Net
from evaluation.analyses.base import (
    Analysis,
    Findings,
    Material,
    Progress,
    measured,
    portion,
    register,
)
from evaluation.analyses.trainings import trained
from evaluation.scoring import a_or_an, confusion
from evaluation.victims import victim

_BATCH = 500


@register
@dataclass(frozen=True)
class Randomness(Analysis):
    """Tells whether a victim guesses on clean images, or is misled and sure of itself.

    net: the victim that learns.
    """

    name = "randomness"
    net: str = "vgg-w16"

    def __post_init__(self) -> None:
        victim(self.net)

    @property
    def cost(self) -> float:
        return 2 * victim(self.net).cost

    def examine(self, material: Material, progress: Progress) -> Findings:
        learnt = {"protected": material.protected}
        if material.clean is not None:
            learnt["clean"] = material.clean
        figures: dict[str, float | None] = {}
        for part, (data, split) in enumerate(learnt.items()):
            net = trained(material, self.net, split, portion(progress, part, len(learnt)))
            answers, labels = probabilities(net, material.test, material.device)
            figures |= {f"{data} {name}": value for name, value in _read(answers, labels).items()}
        classes = material.test.num_classes
        figures["of certain answers"] = (classes - 1) / classes**2
        return Findings(figures, _sentence(self.net, figures))


def _read(answers: Tensor, labels: Tensor) -> dict[str, float | None]:
    """Both figures, None where the net diverged: its answers name no class."""
    dar = measured(average_randomness(answers))
    if dar is None:
        return {"dar": None, "r_p": None}
    return {"dar": dar, "r_p": prediction_randomness(answers.argmax(1), labels, answers.shape[1])}


def from_uniform(shares: Tensor) -> Tensor:
    """(B,): the mean squared distance of each row (B,K) of shares from 1/K."""
    return (shares - 1 / shares.shape[1]).square().mean(1)


def average_randomness(answers: Tensor) -> float:
    """DAR of probabilities (N,K)."""
    return float(from_uniform(answers).mean())


def prediction_randomness(predicted: Tensor, labels: Tensor, num_classes: int) -> float:
    """R_p of predicted classes (N,) and labels (N,)."""
    counts = torch.from_numpy(confusion(predicted.numpy(), labels.numpy(), num_classes))
    rows = counts.sum(1)
    shares = counts / rows.clamp_min(1)[:, None]
    return float((from_uniform(shares.double()) * rows).sum() / rows.sum())


@torch.inference_mode()
def probabilities(net: Net, split: PixelSplit, device: torch.device) -> tuple[Tensor, Tensor]:
    """Softmax (N,K) float64 and labels (N,), on CPU; the net is in eval mode."""
    found, labels = [], []
    for batch in split.batches(_BATCH):
        found.append(net(batch.x.to(device)).double().softmax(1).cpu())
        labels.append(batch.labels())
    return torch.cat(found), torch.cat(labels)


def _sentence(net: str, figures: dict[str, float | None]) -> str:
    protected, clean = figures["protected dar"], ""
    if protected is None:
        return (
            f"The training of {a_or_an(net)} on this release diverged, so that how far its answers "
            "lie from even guessing could not be measured."
        )
    if "clean dar" in figures:
        clean = f" (after training on the clean images: {_shown(figures['clean dar'])})"
    return (
        f"The answers of {a_or_an(net)} trained on this release to clean images lie "
        f"{protected:.4f} from even guessing{clean}, on a scale (DAR) on which 0 is "
        f"guessing and {figures['of certain answers']:.4f} is being certain, rightly or wrongly."
    )


def _shown(dar: float | None) -> str:
    return "not measured, since it diverged" if dar is None else f"{dar:.4f}"
