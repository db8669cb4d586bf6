"""Entangled features: images pushed away from their class, or pulled to the nearest other one.

Wen, Zhao, Liu, Backes, Wang, Zhang: "Is Adversarial Training Really a Silver Bullet for Mitigating
Data Poisoning?", ICLR 2023 (openreview zKvm1ETDOq; no arXiv version known). Reference code: EntF at
f2230b5.

With h the penultimate features of a net that was trained adversarially on the clean images and
mu_k their mean over class k (Eq. 4),

    entf-push   x' climbs    MSE(h(aug(x')), mu_y)                                    (Eq. 2)
    entf-pull   x' descends  MSE(h(aug(x')), mu_c),                                   (Eq. 3)
                c the nearest class but y, argmin_k MSE(h(aug(x')), mu_k)

from noise N(0,1) * E clipped to the budget, by signed steps of 0.05 E, each through a fresh shift
and mirroring; c is chosen anew at every step. The net is the one at the end of PGD-10 training
within 4 levels, in steps of 2. It is aimed at victims that are themselves trained adversarially.

**Departures** from the reference code:

1. entf-pull leaves out an image's own class whatever the distances are; the code sets its distance
   to 1, which picks the own class wherever all others are further away than 1.
2. There are as many centres as classes that have rows; the code's are always 10.
3. Noise and shifts are keyed by the image and a secret seed.
4. Steps are in grey levels (0.4 of 255 is 0.05 of linf:8), also where the budget is another.
5. Within an L2 budget the start is random on its sphere (the paper has no such budget).
6. `quick` trains a small net against 3 steps of 2 levels, and crafts by 50 steps of one level.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8 against adversarial training within 8
levels: 71.6 % test accuracy for entf-push, 73.0 for entf-pull (clean 84.9, tap 83.1). Others find
no effect on plain training (94.7 %) nor on adversarial training within 4 levels (89.5 %). `quick`
on 5,000 rows, one seed, plain training: entf-push vgg-w16 59.0 %, resnet10-w16 57.9 %, entf-pull
62.3 and 60.4 % (clean 67.0 and 67.3 %).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from crafting.batch import Batch
from crafting.budget import L2, Budget, Linf
from crafting.descent import Walk, demand_reach, scattered
from crafting.method import Context, Crafter, State
from crafting.moves import along_moves
from crafting.registry import register
from crafting.surrogate import CENTRES, QUICK_SURROGATE, RobustSurrogateMethod

_COINCIDE = 1e-6
"""Below this share of the largest feature two centres differ by rounding alone."""


@dataclass(frozen=True, kw_only=True)
class Pushed(RobustSurrogateMethod):
    """`entf-push`: steps is how many, of step_levels (of 255) each."""

    steps: int = 300
    step_levels: float = 0.4

    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)
    paper: ClassVar[str] = (
        "Is Adversarial Training Really a Silver Bullet for Mitigating Data Poisoning?, ICLR 2023"
    )
    bibtex: ClassVar[str] = """@inproceedings{wen2023adversarial,
  title = {Is Adversarial Training Really a Silver Bullet for Mitigating Data Poisoning?},
  author = {Wen, Rui and Zhao, Zhengyu and Liu, Zhuoran and Backes, Michael and
            Wang, Tianhao and Zhang, Yang},
  booktitle = {International Conference on Learning Representations},
  year = {2023}
}"""

    def __post_init__(self) -> None:
        super().__post_init__()
        demand_reach(self.budget, self.steps, self.step_levels)

    @property
    def passes(self) -> int:
        return self.steps

    def crafter(self, state: State, ctx: Context) -> Crafter:
        net, centres = self.load_last(state, ctx), self._goals(state[CENTRES][-1]).to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            loss = partial(self._loss, net.features, centres, batch.labels())
            noise = ctx.noise(batch.rows, "entf-start", tuple(batch.x.shape[1:]))
            moves = ctx.noise(batch.rows, "entf-moves", (self.steps, 3), "uniform")
            walk = Walk(batch.x, self.budget, self.step_levels)
            return walk.descend(scattered(walk, noise), along_moves(loss, moves), self.steps)

        return craft

    def _goals(self, centres: Tensor) -> Tensor:
        """The centres (K,D) that `_loss` looks at."""
        return centres

    def _loss(
        self, features: Callable[[Tensor], Tensor], centres: Tensor, y: Tensor, x: Tensor
    ) -> Tensor:
        """(B,): to descend."""
        return -_distance(features(x), centres[y])


@dataclass(frozen=True, kw_only=True)
class Pulled(Pushed):
    """`entf-pull`: to whichever other class is nearest at that step."""

    def _goals(self, centres: Tensor) -> Tensor:
        return known_alone(centres)

    def _loss(
        self, features: Callable[[Tensor], Tensor], centres: Tensor, y: Tensor, x: Tensor
    ) -> Tensor:
        seen = features(x)
        return _distance(seen, centres[nearest_other(seen.detach(), centres, y)])


def known_alone(centres: Tensor) -> Tensor:
    """The centres (K,D) without those of classes that have no rows, which are infinitely far away.

    A surrogate's State has the mean over all other centres there, which is nearer than any class.
    """
    wide = centres.double()
    apart = (wide - wide.mean(0)).abs().amax(1, keepdim=True)
    are_known = apart > _COINCIDE * wide.abs().max()
    return torch.where(are_known, centres, torch.inf) if are_known.sum() > 1 else centres


def nearest_other(features: Tensor, centres: Tensor, y: Tensor) -> Tensor:
    """(B,): the class, other than y (B,), whose centre (K,D) is closest to these features (B,D)."""
    distances = _distance(features[:, None], centres)
    return distances.scatter(1, y[:, None], torch.inf).argmin(1)


def _distance(features: Tensor, centres: Tensor) -> Tensor:
    return (features - centres).square().mean(-1)


_PAPER: dict[str, Any] = {"surrogate_epochs": 100, "surrogate_recipe": "at", "checkpoints": 1}
_QUICK: dict[str, Any] = QUICK_SURROGATE | {"robust_steps": 3, "steps": 50, "step_levels": 1.0}

register("entf-push", paper=Pushed(**_PAPER), quick=Pushed(**_QUICK))
register("entf-pull", paper=Pulled(**_PAPER), quick=Pulled(**_QUICK))
