"""Hypocritical perturbations: images that a slightly robust net is surest of.

Tao, Feng, Wei, Yi, Huang, Chen: "Can Adversarial Training Be Manipulated By Non-Robust Features?",
NeurIPS 2022, arXiv 2201.13329. Reference code: Hypocritical-Perturbation at 96d6f45.

    x' descends  E_aug CE(f(aug(x')), y)

from the clean image, by 100 signed steps of a tenth of the budget, each through a fresh shift and
mirroring; f has been trained for 10 epochs against an adversary within 2 levels. It is aimed at
victims that are themselves trained adversarially: with features that are easy and not robust, they
end up less robust. The gate of a release looks at plain accuracy, which it hardly lowers.

**Departures** from the reference code:

1. Shifts and mirrorings are keyed by the image and a secret seed.
2. Steps are in grey levels (0.8 of 255 is a tenth of linf:8), also where the budget is another.
3. The learning rate falls towards the end of the net's 10 epochs; the code's stays the same.
4. `quick` trains a small net for 20 epochs against 3 steps, and crafts by 50 steps of one level.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8, plain training: 70.4 and 71.5 % test
accuracy as reported by others. `quick` on 5,000 rows, one seed: vgg-w16 58.2 %, resnet10-w16 57.8 %
(clean 67.0 and 67.3 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch
from crafting.budget import L2, Budget, Linf
from crafting.descent import Walk, demand_reach
from crafting.method import Context, Crafter, State
from crafting.moves import along_moves
from crafting.nets import Net
from crafting.registry import register
from crafting.surrogate import QUICK_SURROGATE, RobustSurrogateMethod


@dataclass(frozen=True, kw_only=True)
class Hypocritical(RobustSurrogateMethod):
    """`hypo`: steps is how many, of step_levels (of 255) each."""

    robust_levels: float = 2.0
    robust_step_levels: float = 0.5
    steps: int = 100
    step_levels: float = 0.8

    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)
    paper: ClassVar[str] = (
        "Can Adversarial Training Be Manipulated By Non-Robust Features?, NeurIPS 2022"
    )
    bibtex: ClassVar[str] = """@inproceedings{tao2022can,
  title = {Can Adversarial Training Be Manipulated By Non-Robust Features?},
  author = {Tao, Lue and Feng, Lei and Wei, Hongxin and Yi, Jinfeng and Huang, Sheng-Jun and
            Chen, Songcan},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2201.13329},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        super().__post_init__()
        demand_reach(self.budget, self.steps, self.step_levels)

    @property
    def passes(self) -> int:
        return self.steps

    def crafter(self, state: State, ctx: Context) -> Crafter:
        net = self.load_last(state, ctx)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            moves = ctx.noise(batch.rows, "hypo-moves", (self.steps, 3), "uniform")
            direction = along_moves(partial(_loss, net, batch.labels()), moves)
            walk = Walk(batch.x, self.budget, self.step_levels)
            return walk.descend(batch.x, direction, self.steps)

        return craft


def _loss(net: Net, y: Tensor, x: Tensor) -> Tensor:
    return F.cross_entropy(net(x), y, reduction="none")


_PAPER: dict[str, Any] = {"surrogate_epochs": 10, "surrogate_recipe": "at", "checkpoints": 1}
_QUICK: dict[str, Any] = QUICK_SURROGATE | {
    "robust_steps": 3,
    "robust_step_levels": 1.5,
    "steps": 50,
    "step_levels": 1.0,
}

register("hypo", paper=Hypocritical(**_PAPER), quick=Hypocritical(**_QUICK))
