"""Random noise of the largest size that the budget allows: what crafted noise has to beat.

Fowl, Chiang, Goldblum, Geiping, Bansal, Czaja, Goldstein: "Preventing Unauthorized Use of
Proprietary Data: Poisoning for Secure Dataset Release", arXiv 2103.02683, 2021 (its random
baseline). Within linf:E every channel of every pixel moves by E, up or down by the sign of N(0,1);
within l2:R the noise is uniform on the sphere of radius R.

**Departures**: 1. noise is keyed by the image and a secret seed, not by its place in the set.

**Expected**: 90.5 % test accuracy for ResNet-18 on CIFAR-10 at linf:8 (clean 93.2 %); vgg-w16 on
5,000 rows 65.8 % (clean 67.5 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from crafting.batch import Batch
from crafting.budget import L2, Budget, Linf
from crafting.descent import furthest
from crafting.method import Context, Crafter, Method, State
from crafting.registry import register


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


register("random-noise", paper=RandomNoise(), quick=RandomNoise())
