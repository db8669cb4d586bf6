"""Random noise of the size that the budget allows: what crafted noise has to beat.

Fowl, Chiang, Goldblum, Geiping, Bansal, Czaja, Goldstein: "Preventing Unauthorized Use of
Proprietary Data: Poisoning for Secure Dataset Release", arXiv 2103.02683, 2021 (its random
baseline). Within linf:E every channel of every pixel moves by E, up or down by the sign of N(0,1);
within l2:R the noise is uniform on the sphere of radius R.

`random-noise-class` is one noise for all images of a class, from U(-E, E), as in Huang, Ma, Erfani,
Bailey, Wang: "Unlearnable Examples: Making Personal Data Unexploitable", ICLR 2021, arXiv
2101.04898 (`attack_type random` of Unlearnable-Examples at f347155).

**Departures**:

1. Noise is keyed by the image and a secret seed, not by its place in the set; a class's noise comes
   from the seed.
2. A class's noise is drawn at the size that nets see; images of another size get it with pixels
   repeated or left out. Within l2:R it is stretched to the length R.

**Expected**: of `random-noise` 90.5 % test accuracy for ResNet-18 on CIFAR-10 at linf:8 (clean
93.2 %). Of `random-noise-class` we know no published figure. On 5,000 rows, one seed, vgg-w16 and
resnet10-w16 (clean 67.0 and 67.3 %) have 66.5 and 66.9 % of `random-noise`, 66.9 and 67.1 % of
`random-noise-class`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.budget import L2, Budget, Linf
from crafting.descent import furthest
from crafting.method import Context, Crafter, Method, State
from crafting.registry import register

_NOISE = "noise/noise"


@dataclass(frozen=True, kw_only=True)
class RandomNoise(Method):
    """`random-noise`: it has no options, fits nothing and needs no labels."""

    needs_labels: ClassVar[bool] = False
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)
    paper: ClassVar[str] = (
        "Preventing Unauthorized Use of Proprietary Data: Poisoning for Secure Dataset Release, "
        "arXiv 2021"
    )
    bibtex: ClassVar[str] = """@misc{fowl2021preventing,
  title = {Preventing Unauthorized Use of Proprietary Data: Poisoning for Secure Dataset Release},
  author = {Fowl, Liam and Chiang, Ping-yeh and Goldblum, Micah and Geiping, Jonas and
            Bansal, Arpit and Czaja, Wojtek and Goldstein, Tom},
  year = {2021},
  eprint = {2103.02683},
  archiveprefix = {arXiv}
}"""

    def crafter(self, state: State, ctx: Context) -> Crafter:
        def craft(batch: Batch) -> Tensor:
            noise = ctx.noise(batch.rows, "random-noise", tuple(batch.x.shape[1:]))
            return batch.x.to(ctx.device) + furthest(self.budget, noise)

        return craft


@dataclass(frozen=True, kw_only=True)
class ClassNoise(Method):
    """`random-noise-class`: it has no options."""

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2)
    paper: ClassVar[str] = "Unlearnable Examples: Making Personal Data Unexploitable, ICLR 2021"
    bibtex: ClassVar[str] = """@inproceedings{huang2021unlearnable,
  title = {Unlearnable Examples: Making Personal Data Unexploitable},
  author = {Huang, Hanxun and Ma, Xingjun and Erfani, Sarah Monazam and Bailey, James and
            Wang, Yisen},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  eprint = {2101.04898},
  archiveprefix = {arXiv}
}"""

    def fit(self, data: Split, ctx: Context) -> State:
        """`noise/noise` (K,C,S,S) float16 in [-1,1], from the seed alone and so equal on every
        rank; S is the size that nets see."""
        shape = tuple(next(data.batches(1)).x.shape[1:])
        generator = ctx.shared("random-noise-class")
        drawn = [generator.random(shape, dtype=np.float32) * 2 - 1 for _ in range(ctx.num_classes)]
        return {_NOISE: torch.stack([torch.from_numpy(each).half() for each in drawn])}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        noise = state[_NOISE].to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            mine = _like(noise[batch.labels()].float(), batch.x)
            if isinstance(self.budget, Linf):
                return batch.x + mine * (self.budget.levels / 255)
            return batch.x + furthest(self.budget, mine)

        return craft


def _like(noise: Tensor, x: Tensor) -> Tensor:
    """Noise (B,c,S,S) for images like x (B,C,H,W): grey ones get the first channel's, colour ones
    of a grey noise the same in each."""
    channels = noise[:, : x.shape[1]].expand(-1, x.shape[1], -1, -1)
    return F.interpolate(channels, size=x.shape[-2:], mode="nearest")


register("random-noise-class", paper=ClassNoise(), quick=ClassNoise())
register("random-noise", paper=RandomNoise(), quick=RandomNoise())
