"""Gradient alignment: training on the images moves a net as unlearning the clean ones would.

Fowl, Chiang, Goldblum, Geiping, Bansal, Czaja, Goldstein: "Preventing Unauthorized Use of
Proprietary Data: Poisoning for Secure Dataset Release", arXiv 2103.02683, 2021. Reference code:
adversarial_poisons at bd6ef66.

With theta the weights of one trained net, p_y its probability of the right class and CE its loss,

    T = grad_theta  sum_i -log(1 - p_y(x_i))              over clean images        (reverse CE)
    G = grad_theta  mean_i CE(f(aug(x'_i)), y_i)          over the images of a batch
    x' descends  A = 1 - <T, G> / (|T| |G|)               (Eq. 3)

by signed Adam from N(0,1) * E clipped to the budget, each step through a fresh shift and mirroring;
the step is divided by 10 at 3/8, 5/8 and 7/8 of the way.

    alignment          the images of a batch together: the gradient of A with respect to x'_i is
                       -<v, grad_theta CE(x'_i)>', v = T/|T| - (1 - A) G/|G|, up to its length
    alignment-online   |G| held constant: v = T/|T|, so that each image goes its own way, and one
                       alone comes out as it would in company (Proposition 1)

**Departures** from the paper and its code:

1. <v, grad CE> is differentiated forward over v and backward over x' (`direction=jvp`: the same
   gradient as the code's double backward, at a third of its cost), or taken as the loss at
   theta + h v less the loss at theta - h v (`direction=difference`, h = difference_step |theta|).
   A long h is no estimate of the derivative: it asks for images that the bettered net gets wrong
   and the worsened net gets right. It protects far better (below) and is the default of `quick`.
2. As signs have square 1, Adam's second moment is 1: a step is the mean of past signs, weighted
   with `momentum`. Within an L2 budget it is the mean of steps of equal length.
3. Steps are in grey levels of the image: the code's 0.1 of a normalised channel is 6.4 of them.
4. alignment-online keeps each row's own best restart; the code, and alignment, a batch's.
5. -log(1 - p) is softplus(z_y - logsumexp(the others)), which neither overflows nor dies where p
   rounds to 1; clamped, T is blind to whatever the net has learnt well.
6. Noise and shifts are keyed by the image and a secret seed.
7. The regularisers' weights, which the paper does not give, are relative: with 1, a regulariser
   pulls on the average pixel as strongly as A does.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8: 36.8 % test accuracy as trained by the
authors at home (clean 93.2 %), 46.7 or 55.3 % by their other recipes; alignment-online from a tenth
of the rows 36.4 %. Of `quick` on 4,000 rows (clean 65 %; final and best epoch of vgg-w16,
one seed each):

    alignment                               12 and 30 %
    alignment-online                         9 and 28 %  (resnet10-w16 10 and 36 %)
      difference_step=0.013                 41 and 43 %
      difference_step=0.13                  10 and 32 %
      direction=jvp steps=25, equal time    48 and 50 %
      steps=25 restarts=2, equal time        8 and 30 %
      T of 4,000 rows never trained on      10 and 35 %
      fit_share=0.1                         38 and 40 %
      surrogate=resnet10-w16                17 and 28 %

T of the surrogate's own rows is thus as good as any while they are not overfitted. 500 rows added
to 4,000 of sep-fa-mi (vgg-w16 16 % before): unprotected 52 %, jvp 39 %, alignment-online 27 %,
sep-fa-mi 15 % (resnet10-w16: 51, -, 36, 23 %). An image takes 6 times as long as by sep-fa-mi.

All that is of victims that met the rows in the order in which the surrogate had met them, which
flatters: with orders of their own, on 5,000 rows and one seed, alignment came to 20.6 % (vgg-w16,
best epoch 25.6 %) and 20.3 % (resnet10-w16, 41.9 %), alignment-online to 18.7 % (best epoch 21.3 %)
and 20.5 % (30.9 %), clean 67.0 and 67.3 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.descent import image_gradient, unit_mean
from crafting.method import Context, Crafter, Scope, State
from crafting.methods.random_noise import RandomNoise
from crafting.nets import Net
from crafting.registry import register
from crafting.similarity import similarity
from crafting.slopes import PAPER_SLOPES, QUICK_SLOPES, SlopeMethod, Slopes
from crafting.surrogate import inside
from crafting.tangent import (
    SLOPE_PASSES,
    Slope,
    Surroundings,
    mean_gradient,
    summed_gradient,
    unit,
)

_TARGET = "target"

Term = Callable[[Tensor, Tensor], Tensor]
"""Images and their clean ones to a figure (B,) to keep low."""


@dataclass(frozen=True, kw_only=True)
class Alignment(SlopeMethod):
    """`alignment`: a batch's gradient is turned towards the one that unlearns.

    fit_share: the share of the split that the surrogate and T are made from, in as many steps;
    gradient_share: the share of that which T is made from; l2, tv, ssim: weights of the
    perturbation's length, its total variation and 1 - SSIM. ValueError for a share that is not
    above 0 and at most 1, and for a negative weight.
    """

    fit_share: float = 1.0
    gradient_share: float = 1.0
    l2: float = 0.0
    tv: float = 0.0
    ssim: float = 0.0

    stream: ClassVar[str] = "alignment"
    paper: ClassVar[str] = RandomNoise.paper
    bibtex: ClassVar[str] = RandomNoise.bibtex

    def __post_init__(self) -> None:
        super().__post_init__()
        for share in ("fit_share", "gradient_share"):
            if not 0 < getattr(self, share) <= 1:
                raise ValueError(f"{share} is a share above 0 and at most 1: set {share}=0.1")
        for weight in ("l2", "tv", "ssim"):
            if not 0 <= getattr(self, weight) < math.inf:
                raise ValueError(f"{weight} is a weight of at least 0: set {weight}=0 for none")

    def fit_key(self) -> dict[str, Any]:
        shares = {"fit_share": self.fit_share, "gradient_share": self.gradient_share}
        return super().fit_key() | {"target": "reverse cross entropy"} | shares

    def fit(self, data: Split, ctx: Context) -> State:
        """The surrogate's State, and T as `target/<parameter>` float32."""
        part = _share_of(data, self.fit_share, ctx, "alignment-fit")
        state = super().fit(part, replace(ctx, fit_share=ctx.fit_share * self.fit_share))
        return state | self.target(state, part, ctx)

    def target(self, state: State, data: Split, ctx: Context) -> State:
        """What this method adds to the State that any other with the same surrogate has fitted."""
        part = _share_of(data, self.gradient_share, ctx, "alignment-gradient")
        gradient = summed_gradient(self.load_unfolded(state, ctx), part, ctx)
        return {f"{_TARGET}/{name}": value for name, value in gradient.items()}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        net = self.load_unfolded(state, ctx).to(ctx.device)
        target = unit({name: v.to(ctx.device) for name, v in inside(state, _TARGET).items()})
        slopes = self._slopes(net, target, ctx)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            tries = [self._attempt(slopes, batch, ctx, r) for r in range(self.restarts)]
            return tries[0] if len(tries) == 1 else self._best(net, target, slopes, batch, tries)

        return craft

    def _slopes(self, net: Net, target: State, ctx: Context) -> Slopes:
        around = Surroundings(net, ctx.device)

        def towards(x: Tensor, y: Tensor) -> Slope:
            gradient = unit(mean_gradient(net, x, y))
            cosine = _product(target, gradient)
            rest = {name: target[name] - cosine * gradient[name] for name in target}
            return self._slope(around, unit(rest))

        return towards

    def _regularised(self, gradient: Tensor, x: Tensor, clean: Tensor) -> Tensor:
        weights: dict[Term, float] = {
            _length: self.l2,
            _variation: self.tv,
            _dissimilarity: self.ssim,
        }
        wanted = {term: weight for term, weight in weights.items() if weight > 0}
        if not wanted:
            return gradient
        total = unit_mean(gradient)
        for term, weight in wanted.items():
            total = total + weight * unit_mean(_pull(term, x, clean))
        return total

    @torch.no_grad()
    def _best(
        self, net: Net, target: State, slopes: Slopes, batch: Batch, tries: list[Tensor]
    ) -> Tensor:
        """The whole batch's restart with the lowest A."""
        aligned = []
        for x in tries:
            with torch.enable_grad():
                gradient = mean_gradient(net, x, batch.labels())
            aligned.append(_product(target, unit(gradient)))
        return tries[aligned.index(max(aligned))]


@dataclass(frozen=True, kw_only=True)
class OnlineAlignment(Alignment):
    """`alignment-online`: each image climbs <T, its own gradient>, so it takes rows never seen."""

    scope: ClassVar[Scope] = "sample"

    @property
    def passes(self) -> int:
        return self.steps * self.restarts * SLOPE_PASSES[self.direction]

    def _slopes(self, net: Net, target: State, ctx: Context) -> Slopes:
        course = self._slope(Surroundings(net, ctx.device), target)
        return lambda x, y: course

    @torch.no_grad()
    def _best(
        self, net: Net, target: State, slopes: Slopes, batch: Batch, tries: list[Tensor]
    ) -> Tensor:
        """Each row's restart with the steepest slope."""
        course = slopes(batch.x, batch.labels())
        best = torch.stack([course(x, batch.labels()) for x in tries]).argmax(0)
        return torch.stack(tries)[best, torch.arange(len(best), device=best.device)]


def _share_of(data: Split, share: float, ctx: Context, stream: str) -> Split:
    if share == 1:
        return data
    count = max(1, round(len(data) * share))
    chosen = ctx.shared(stream).permutation(len(data))[:count]
    return data.take(data.numbers()[chosen].tolist())


def _product(a: State, b: State) -> float:
    return sum(float((a[name] * b[name]).sum()) for name in a)


def _pull(term: Term, x: Tensor, clean: Tensor) -> Tensor:
    return image_gradient(lambda x: term(x, clean), x)


def _length(x: Tensor, clean: Tensor) -> Tensor:
    """(B,): the Euclidean length of each perturbation."""
    return (x - clean).square().flatten(1).sum(1).add(1e-12).sqrt()


def _variation(x: Tensor, clean: Tensor) -> Tensor:
    """(B,): how much each perturbation differs from pixel to pixel, on average."""
    delta = x - clean
    down, across = (delta.diff(dim=d).abs().flatten(1).mean(1) for d in (2, 3))
    return down + across


def _dissimilarity(x: Tensor, clean: Tensor) -> Tensor:
    """(B,): 1 - SSIM of each image and its clean one, over windows of 7 pixels that all weigh the
    same; images smaller than that are one window."""
    size = (min(7, x.shape[2]), min(7, x.shape[3]))
    return 1 - similarity(x, clean, lambda values: F.avg_pool2d(values, size, 1))


register(
    "alignment",
    paper=Alignment(**PAPER_SLOPES),
    quick=Alignment(steps=33, **QUICK_SLOPES),
)
register(
    "alignment-online",
    paper=OnlineAlignment(**PAPER_SLOPES),
    quick=OnlineAlignment(steps=50, **QUICK_SLOPES),
)
