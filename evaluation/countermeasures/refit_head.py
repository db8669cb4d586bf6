"""Re-fitting the last layer on a few clean images (Kirichenko et al., "Last Layer Re-Training is
Sufficient for Robustness to Spurious Correlations", ICLR 2023).

A net that learnt shortcuts beside real features may have only its last layer to blame: then a few
labelled clean images are enough to make it useful.

Departures:
1. One logistic regression with an L2 penalty of scikit-learn's strength (C = 1) instead of ten with
   an L1 penalty that is tuned on a further clean set: with 100 images there is none to spare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import LBFGS

from crafting.batch import PixelSplit, Split
from crafting.nets import Net, compute_dtype
from crafting.training import Hooks, Predictor, Train
from evaluation.countermeasures.base import Countermeasure, Setting, register

_CHUNK = 500
_SMALLEST_SPREAD = 1e-5
"""Below this a feature is taken for constant, such as that of a dead unit."""


@dataclass(frozen=True)
class CleanImages(Countermeasure):
    """What an appropriator does who owns labelled clean images; images: how many of them, at most
    half of the test rows, from which they are taken."""

    images: int = 100

    def __post_init__(self) -> None:
        if self.images < 1:
            raise ValueError(f"{self.name} images is a count of at least 1, not {self.images}")

    @property
    def clean_images(self) -> int:
        return self.images


@register
@dataclass(frozen=True)
class RefitHead(CleanImages):
    """Re-fits the last layer of the trained net on a few labelled clean images.

    images: how many of them, at most half of the test rows, which give them. After clean training
    it changes little, and with few images costs some accuracy.
    """

    name = "refit-head"

    def hooks(self, setting: Setting) -> Hooks:
        owned = owned_by(setting, self)

        def finish(net: Net, split: Split, train: Train) -> Predictor:
            self._fit(net, *features_of(net, owned, setting.device))
            return net

        return Hooks(finish=finish)

    def _fit(self, net: Net, features: Tensor, labels: Tensor) -> None:
        fit_head(net, features, labels)


def owned_by(setting: Setting, tried: Countermeasure) -> PixelSplit:
    """The labelled clean images that the appropriator has; ValueError if there are none."""
    if setting.owned is None or not len(setting.owned):
        raise ValueError(
            f"{tried.public} learns from labelled clean images and was given none: "
            "give a larger labelled test split"
        )
    return setting.owned


def features_of(net: Net, split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    """Penultimate features (N,D) float32 of un-augmented images, by the net in eval mode and in the
    precision of training, and labels (N,) int64 or -1, both on `device`, in the split's order. The
    net is left as it was."""
    is_half, training = compute_dtype(device) == torch.bfloat16, net.training
    features, labels = [], []
    net.eval()
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, is_half):
        for batch in split.batches(_CHUNK):
            features.append(net.features(batch.x.to(device)))
            labels.append(torch.full_like(batch.rows, -1) if batch.y is None else batch.y)
    net.train(training)
    return torch.cat(features), torch.cat(labels).to(device)


def fit_head(
    net: Net,
    features: Tensor,
    labels: Tensor,
    *,
    penalty: float = 1.0,
    rounds: int = 1,
    iterations: int = 200,
    lr: float = 1.0,
    search: Literal["strong_wolfe"] | None = "strong_wolfe",
) -> None:
    """Puts into `net.head` the logistic regression of labels (N,) on standardised features (N,D),
    fitted from zero by `rounds` of L-BFGS of at most so many iterations.

    The loss is the mean cross-entropy and penalty / 2N times the squared weights (bias excepted),
    scikit-learn's with C = 1 / penalty. It depends on the arguments alone. To features that are not
    finite, as those of a net that diverged, nothing can be fitted: the head stays as it is.
    """
    mean, spread = features.mean(0), features.std(0, correction=0)
    spread = torch.where(spread < _SMALLEST_SPREAD, torch.ones_like(spread), spread)
    x = (features - mean) / spread
    if not x.isfinite().all():
        return
    weight = torch.zeros_like(net.head.weight, requires_grad=True)
    bias = torch.zeros_like(net.head.bias, requires_grad=True)
    optimiser = LBFGS([weight, bias], lr, max_iter=iterations, line_search_fn=search)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels)
        loss = loss + penalty / (2 * len(x)) * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    for _ in range(rounds):
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        net.head.weight.copy_(weight / spread)
        net.head.bias.copy_(bias - (weight / spread) @ mean)
