"""A small random blur that every image of a class shares.

Sadasivan, Soltanolkotabi, Feizi: "CUDA: Convolution-based Unlearnable Datasets", CVPR 2023,
arXiv 2303.04278. Reference code: Convolution-based-Unlearnability at ff58b1c.

    x' = (x * s_y) / max(x * s_y)

s_y is one k x k kernel for each class, the same for all channels: its weights are drawn from
U(0, blur), then one of them, anywhere, is 1. Outside the image is black, and the maximum is taken
over all pixels and channels of the image. The kernels are the secret: whoever has them can undo
most of it.

**Departures** from the reference code:

1. The kernels are drawn from the release's secret seed and kept in the State, so that images which
   come later get the same ones; the code draws them anew from a number such as 0.
2. Every image is protected: there is no share of clean ones (`mix`), drawn by its place in the set.
3. Pixels are rounded, not cut off, to 8 bit, and an image without any light stays as it is.
4. The kernel keeps its size in pixels whatever the image's size: the paper's 9 and 0.06 for 224
   pixels (not verified) are `--set kernel=9 --set blur=0.06`.

**Expected** of `paper`: ResNet-18 on ImageNet-100 reaches 8.96 % (clean 80.66 %), 40.08 and 20.58 %
with adversarial training within linf and l2; on CIFAR-10 18.5, 44.4 and 51.1 % (not verified).
Sharpening with frequency filtering brings much of it back. `quick` on 5,000
rows, one seed: vgg-w16 28.1 %, resnet10-w16 26.8 % (clean 67.0 and 67.3 %).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.budget import Budget, Unbounded
from crafting.method import Context, Crafter, Method, State
from crafting.registry import register

_KERNELS = "kernels/kernels"
_DARKEST = 1e-6
"""Less than any weight times one grey level: below it an image has no light at all."""


@dataclass(frozen=True, kw_only=True)
class Convolution(Method):
    """`cuda`: kernel is the side of the kernels in pixels, blur the bound of all their weights but
    the one that is 1. ValueError for an even or negative side and a bound outside (0, 1]."""

    budget: Budget = field(default_factory=Unbounded)
    kernel: int = 3
    blur: float = 0.3

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (Unbounded,)
    paper: ClassVar[str] = "CUDA: Convolution-based Unlearnable Datasets, CVPR 2023"
    bibtex: ClassVar[str] = """@inproceedings{sadasivan2023cuda,
  title = {{CUDA}: Convolution-based Unlearnable Datasets},
  author = {Sadasivan, Vinu Sankar and Soltanolkotabi, Mahdi and Feizi, Soheil},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages = {3862--3871},
  year = {2023},
  eprint = {2303.04278},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"a kernel of side {self.kernel} has no middle: set kernel=3")
        if not 0 < self.blur <= 1:
            raise ValueError(f"blur is above 0 and at most 1, not {self.blur:g}: set blur=0.3")

    def fit(self, data: Split, ctx: Context) -> State:
        """`kernels/kernels` (K,k,k) float32, from the seed alone and so equal on every rank."""
        generator = ctx.shared("cuda-kernels")
        weights = generator.uniform(0, self.blur, (ctx.num_classes, self.kernel**2))
        ones = generator.integers(self.kernel**2, size=ctx.num_classes)
        weights[np.arange(ctx.num_classes), ones] = 1
        return {_KERNELS: torch.from_numpy(weights).float().view(-1, self.kernel, self.kernel)}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        kernels = state[_KERNELS].to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            filtered = convolved(batch.x, kernels[batch.labels()])
            brightest = filtered.flatten(1).amax(1).clamp_min(_DARKEST)
            return filtered / brightest.view(-1, 1, 1, 1)

        return craft


def convolved(x: Tensor, kernels: Tensor) -> Tensor:
    """Every channel of each image (B,C,H,W) convolved with that image's own kernel (B,k,k), as nets
    do it (not flipped); black outside.

    Added up weight by weight, so that an image comes out the same to the last bit whatever company
    it has; for 3 x 3 kernels this is faster than a grouped convolution, too.
    """
    height, width = x.shape[-2:]
    side = kernels.shape[-1]
    padded = F.pad(x, [side // 2] * 4)
    total = torch.zeros_like(x)
    for i in range(side):
        for j in range(side):
            total += kernels[:, i, j].view(-1, 1, 1, 1) * padded[..., i : i + height, j : j + width]
    return total


register("cuda", paper=Convolution(), quick=Convolution())
