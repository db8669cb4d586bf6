"""Self-ensemble protection: images adversarial to many checkpoints of one training run.

Chen, Yuan, Cheng, Gong, Qin, Wang, Huang: "Self-Ensemble Protection: Training Checkpoints Are Good
Data Protectors", ICLR 2023, arXiv 2211.12005. Reference code: SEP at 02519d8.

With f^k the k-th of n checkpoints, h^k its penultimate features, c^k[y] their mean over class y on
clean images and g(y) the class that y is pulled towards, (y + K/2) mod K:

    sep          descends  sum_k CE(f^k(x), g(y))                            (Eq. 3)
    sep-fa       descends  sum_k MSE(h^k(x), c^k[g(y)])                      (Eq. 4)
    sep-fa-vr    the same with variance-reduced steps                        (Algorithm 1)

**Departures** from the reference code, where it is not what the paper says:

1. The inner loop pulls each checkpoint to its own centre; the code pulls all of them to the last
   one's (`vr_center=last` does the same).
2. Pixels are rounded, not truncated, so that the bound holds in the files.
3. Class centres come from nets in eval mode; the code takes the first of them in training mode.
4. Checkpoints are equidistant in epochs, as in the paper; the code keeps epochs that improved test
   accuracy.
5. The first inner step starts where the outer gradients were taken, so its gradient is known: n+M-1
   passes a step rather than n+M, with the same result.
6. `normalise` divides each checkpoint's gradient by its mean magnitude, so that none dominates; off
   in `paper`, on in `quick`, where it protects better.
7. `quick` has small nets, 20 epochs and 5 checkpoints, and each checkpoint's step is 2 levels.

**Expected**: ResNet-18 on CIFAR-10 (50,000 rows) protected with `paper` at linf:8 reaches 4.7 %
test accuracy (VGG-16 5.6, DenseNet-121 3.8), at linf:2 14.7 (sep-fa 16.9, sep 19.9); on 5,000 rows
with `quick`, three seeds, vgg-w16 reaches 11.1 and resnet10-w16 13.6 % with sep, 9.4 and 21.5 %
with sep-fa-vr (sep-fa, one seed: 9.3 and 19.2 %), against 67 % clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch
from crafting.descent import (
    Direction,
    Loss,
    Walk,
    demand_reach,
    image_gradient,
    mean_direction,
    unit_mean,
)
from crafting.method import Context, Crafter, State
from crafting.nets import Net
from crafting.registry import register
from crafting.surrogate import CENTRES, QUICK_SURROGATE, SurrogateMethod, target_classes

_BIBTEX = """@inproceedings{chen2023selfensemble,
  title = {Self-Ensemble Protection: Training Checkpoints Are Good Data Protectors},
  author = {Chen, Sizhe and Yuan, Geng and Cheng, Xinwen and Gong, Yifan and Qin, Minghai and
            Wang, Yanzhi and Huang, Xiaolin},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2211.12005},
  archiveprefix = {arXiv}
}"""


@dataclass(frozen=True, kw_only=True)
class SelfEnsemble(SurrogateMethod):
    """`sep`: cross entropy to the target class, summed over checkpoints.

    steps: how many, of step_levels (of 255) each; normalise: every checkpoint's gradient counts
    alike.
    """

    steps: int = 30
    step_levels: float = 1.0
    normalise: bool = False

    target_shift: ClassVar[str] = "y + K/2 mod K"
    paper: ClassVar[str] = (
        "Self-Ensemble Protection: Training Checkpoints Are Good Data Protectors, ICLR 2023"
    )
    bibtex: ClassVar[str] = _BIBTEX

    def __post_init__(self) -> None:
        super().__post_init__()
        demand_reach(self.budget, self.steps, self.step_levels)

    @property
    def passes(self) -> int:
        return self.steps * self.checkpoints

    def crafter(self, state: State, ctx: Context) -> Crafter:
        ensemble = TrainedNets(
            self.load_checkpoints(state, ctx),
            list(state[CENTRES].to(ctx.device)),
            target_classes(ctx, ctx.num_classes // 2),
        )

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            walk = Walk(batch.x, self.budget, self.step_levels)
            direction = self._direction(ensemble, batch.labels(), walk, ctx)
            return walk.descend(batch.x, direction, self.steps)

        return craft

    def _direction(
        self, ensemble: TrainedNets, labels: Tensor, walk: Walk, ctx: Context
    ) -> Direction:
        return mean_direction(self._losses(ensemble, labels), self.normalise)

    def _losses(self, ensemble: TrainedNets, labels: Tensor) -> list[Loss]:
        return ensemble.misclassification(labels)

    def _gradient(self, loss: Loss, x: Tensor) -> Tensor:
        gradient = image_gradient(loss, x)
        return unit_mean(gradient) if self.normalise else gradient


@dataclass(frozen=True, kw_only=True)
class FeatureAligned(SelfEnsemble):
    """`sep-fa`: features pulled to the target class's mean, which every checkpoint has its own."""

    def _losses(self, ensemble: TrainedNets, labels: Tensor) -> list[Loss]:
        return ensemble.alignment(labels)


@dataclass(frozen=True, kw_only=True)
class VarianceReduced(FeatureAligned):
    """`sep-fa-vr`: Algorithm 1, whose step goes against a sum of `inner_steps` corrected gradients
    of random checkpoints, gathered along a walk of its own.

    vr_center: whose centres these gradients are pulled to, the checkpoint's own or the last one's.
    """

    inner_steps: int = 15
    vr_center: Literal["own", "last"] = "own"

    @property
    def passes(self) -> int:
        known = 1 if self.vr_center == "own" else 0
        return self.steps * (self.checkpoints + self.inner_steps - known)

    def _direction(
        self, ensemble: TrainedNets, labels: Tensor, walk: Walk, ctx: Context
    ) -> Direction:
        outer = ensemble.alignment(labels)
        inner = outer if self.vr_center == "own" else ensemble.alignment(labels, centres_of=-1)
        order = ctx.shared("sep-fa-vr").integers(len(outer), size=(self.steps, self.inner_steps))

        def direction(x: Tensor, t: int) -> Tensor:
            gradients = [self._gradient(loss, x) for loss in outer]
            return self._accumulated(x, gradients, inner, order[t].tolist(), walk)

        return direction

    def _accumulated(
        self,
        x: Tensor,
        gradients: list[Tensor],
        losses: list[Loss],
        order: Sequence[int],
        walk: Walk,
    ) -> Tensor:
        """Lines 4 to 9 of Algorithm 1 at x, whose gradients by checkpoint are given."""
        mean = torch.stack(gradients).mean(0)
        total = torch.zeros_like(x)
        virtual = x
        for m, k in enumerate(order):
            if m == 0 and self.vr_center == "own":
                total = mean  # this gradient is gradients[k], taken at the same place
            else:
                total = total + self._gradient(losses[k], virtual) - (gradients[k] - mean)
            virtual = walk.step(virtual, total)
        return total


@dataclass(frozen=True)
class TrainedNets:
    """Nets, the class centres (K,D) of each, and the class (K,) each class is pulled towards."""

    nets: Sequence[Net]
    centres: Sequence[Tensor]
    targets: Tensor

    def misclassification(self, labels: Tensor) -> list[Loss]:
        return [partial(_cross_entropy, net, self.targets[labels]) for net in self.nets]

    def alignment(self, labels: Tensor, centres_of: int | None = None) -> list[Loss]:
        """Distances to each net's own centres, or to those of the one numbered."""
        wanted = [centres[self.targets[labels]] for centres in self.centres]
        return [
            partial(feature_distance, net, wanted[k if centres_of is None else centres_of])
            for k, net in enumerate(self.nets)
        ]


def _cross_entropy(net: Net, wanted: Tensor, x: Tensor) -> Tensor:
    return F.cross_entropy(net(x), wanted, reduction="none")


def feature_distance(net: Net, wanted: Tensor, x: Tensor) -> Tensor:
    """(B,): by how much each image's features miss those wanted (B,D), squared, on average."""
    return (net.features(x) - wanted).square().mean(1)


STEPS_OF_QUICK: dict[str, Any] = QUICK_SURROGATE | {"step_levels": 2.0, "normalise": True}

register(
    "sep",
    paper=SelfEnsemble(checkpoints=30),
    quick=SelfEnsemble(steps=10, **STEPS_OF_QUICK),
)
register(
    "sep-fa",
    paper=FeatureAligned(checkpoints=30),
    quick=FeatureAligned(steps=10, **STEPS_OF_QUICK),
)
register(
    "sep-fa-vr",
    paper=VarianceReduced(),
    quick=VarianceReduced(steps=10, inner_steps=5, **STEPS_OF_QUICK),
)
