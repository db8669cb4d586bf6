"""Noise that a robust net gets right, made with a net that finds the clean images meaningless.

Fang, Li, Wu, Ding, Yi, Ma: "Re-thinking Data Availability Attacks Against Deep Neural Networks",
CVPR 2024, arXiv 2305.10691. Reference code: the authors', at 9f066a7.

With t a random crop and mirroring, E the budget, a < E the adversary's radius and p = softmax(f),

    noise        d = argmin_{|d| <= E}  E_t CE(f_theta(t(x + d)), y)             no adversary inside
    surrogate    min_theta  max_{|r| <= a} CE(f_theta(t(x + d) + r), y) + w DAR(x)
    DAR          (1/K) sum_k (p_k(t(x)) - 1/K)^2  of the clean image                       (Eq. 7)

in the loop of rem: every training step makes d for its batch, crafting makes it with the last net.

**Departures** from the paper and its code:

1. DAR is Eq. 7. The code, on CIFAR-10, takes the length of p - 1/K, which is not squared and not
   divided by K and so weighs far more: `dar=code`. (On other sets it squares that length.)
2. The clean images go through the net in eval mode; in training mode, as in the code, they would
   become part of BatchNorm's running statistics, which crafting uses.
3. `second_surrogate` adds a net of another architecture: d lowers the sum of both losses, and each
   learns from that d. VGG and DenseNet victims escape a ResNet-18 surrogate alone.
4. What rem does differently from its code (its departures 1 to 5) holds here, too.
5. `quick` has a small net, few steps and an adversary of 2 levels.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8 (a = 4): 12.7 % test accuracy, and 14.7,
15.4, 15.5, 23.1 % for a thief who trains against adversaries of 1, 2, 3, 4 levels (DenseNet-121
72.4 % at 4); as published, hence presumably with `dar=code`. `quick` on 5,000 rows,
one seed, plain training: vgg-w16 19.2 %, resnet10-w16 19.6 % (clean 67.0 and 67.3 %).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from crafting.adversarial import in_eval_mode
from crafting.methods.robust_error_minimising import (
    QUICK,
    Draw,
    RobustNoise,
    drawn_from_torch,
    whole_pixels,
)
from crafting.moves import move
from crafting.nets import Net
from crafting.registry import register


@dataclass(frozen=True, kw_only=True)
class MinMaxMin(RobustNoise):
    """`min-max-min`: the surrogate alone meets an adversary.

    weight: of DAR; dar: as the paper or as the code has it; second_surrogate: a net's name, or
    nothing. ValueError for a weight below 0.
    """

    weight: float = 1.0
    dar: Literal["paper", "code"] = "paper"
    second_surrogate: str = ""

    paper: ClassVar[str] = (
        "Re-thinking Data Availability Attacks Against Deep Neural Networks, CVPR 2024"
    )
    bibtex: ClassVar[str] = """@inproceedings{fang2024rethinking,
  title = {Re-thinking Data Availability Attacks Against Deep Neural Networks},
  author = {Fang, Bin and Li, Bo and Wu, Shuang and Ding, Shouhong and Yi, Ran and Ma, Lizhuang},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2024},
  eprint = {2305.10691},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"weight is at least 0, not {self.weight:g}: set weight=1")

    @property
    def surrogates(self) -> tuple[str, ...]:
        second = (self.second_surrogate,) if self.second_surrogate else ()
        return (self.surrogate, *second)

    def disturbed(self, net: Net, x: Tensor, y: Tensor, draw: Draw, stream: str) -> Tensor:
        """x as it is."""
        return x

    def regulariser(self, net: Net, x: Tensor) -> Tensor:
        """The weighted mean of DAR over the clean images, moved as noisy ones are."""
        moved = move(x, whole_pixels(drawn_from_torch(x)("clean", (3,)), x))
        with in_eval_mode(net):
            logits = net(moved)
        return self.weight * availability(logits, self.dar).mean()


def availability(logits: Tensor, variant: Literal["paper", "code"] = "paper") -> Tensor:
    """(B,): how far the probabilities of logits (B,K) are from even ones. `paper`: the mean square
    of their differences; `code`: the length of these differences."""
    probabilities = logits.softmax(1)
    difference = probabilities - 1 / logits.shape[1]
    squares = difference.square()
    return squares.mean(1) if variant == "paper" else squares.sum(1).add(1e-12).sqrt()


register(
    "min-max-min",
    paper=MinMaxMin(),
    quick=MinMaxMin(epochs=10, steps=5, step_levels=3.2, draws=2, **QUICK),
)
