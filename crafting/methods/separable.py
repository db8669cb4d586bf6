"""Coarse squares of colour, drawn for each image from a cloud of its class, that a line can split.

Yu, Zhang, Chen, Yin, Liu: "Availability Attacks Create Shortcuts", KDD 2022, arXiv 2111.00898.
Reference code: Availability-Attacks-Create-Shortcuts at d27ab29.

    z ~ N(0, I),  u = A_y z + c_y,  x' = x + R * up(u) / |up(u)|

u has one number for each channel of cells x cells squares; c_y is a corner of the cube
{-separation, separation}^n, another for every class, and A_y has entries from U(-1, 1): the clouds
of scikit-learn's `make_classification`. `up` repeats each number over its square.

The budget is the length R of the noise over the whole image. 1.304 is 6/255 * sqrt(3*32*32): 6 grey
levels (root mean square) for 32x32 colour images. For others take 6/255 * sqrt(C*H*W), such as
`--budget l2:9.13` for 224x224: within l2:1.304 noise there stays below 0.9 levels and is mostly
rounded away. Images of several sizes share one radius, so that larger ones get less in each pixel.

**Departures** from the reference code:

1. Corners and transforms are drawn from the secret seed, kept, and used for whatever comes later;
   the code draws all images' noise in one call, in equal numbers for every class.
2. A class's cloud is thus the same at any size: there are as many squares in larger images, not
   squares of as many pixels (8 of 32, 56 of 224; the paper's 32 of 224 are `--set cells=7`).
3. Rounding, not cutting off, to 8 bit.
4. One-channel images in a release of colour images get the mean of the three channels, as long as
   the others' noise.

**Expected** of `paper`: 13.5 % test accuracy for ResNet-18 on CIFAR-10 (19.1 % at l2:1), 38.5 % on
ImageNet-100. `quick` on 5,000 rows, one seed: vgg-w16 37.1 %, resnet10-w16 34.0 % (clean 67.0 and
67.3 %): at this scale it protects in part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.budget import L2, Budget
from crafting.descent import furthest
from crafting.method import Context, Crafter, Method, State
from crafting.registry import register

_CENTRES, _TRANSFORMS = "clouds/centres", "clouds/transforms"


@dataclass(frozen=True, kw_only=True)
class Separable(Method):
    """`lsp`: cells is how many squares an image has along a side, separation how far a class's
    centre lies from 0 in every direction. ValueError where either is not above 0."""

    budget: Budget = field(default_factory=lambda: L2(1.304))
    cells: int = 4
    separation: float = 10.0

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (L2,)
    paper: ClassVar[str] = "Availability Attacks Create Shortcuts, KDD 2022"
    bibtex: ClassVar[str] = """@inproceedings{yu2022availability,
  title = {Availability Attacks Create Shortcuts},
  author = {Yu, Da and Zhang, Huishuai and Chen, Wei and Yin, Jian and Liu, Tie-Yan},
  booktitle = {Proceedings of the 28th ACM SIGKDD Conference on Knowledge Discovery and
               Data Mining},
  year = {2022},
  eprint = {2111.00898},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        if self.cells < 1:
            raise ValueError(f"an image has at least one square along a side, not {self.cells}")
        if not 0 < self.separation < float("inf"):
            raise ValueError("separation is a distance above 0: set separation=10")

    def fit(self, data: Split, ctx: Context) -> State:
        """`clouds/centres` (K,n) and `clouds/transforms` (K,n,n) float32, n = C * cells^2: from the
        seed alone and so equal on every rank. ValueError for more classes than corners."""
        channels = next(data.batches(1)).x.shape[1]
        size = channels * self.cells**2
        if ctx.num_classes > 2**size:
            raise ValueError(
                f"{self.cells} cells a side tell at most {2**size} classes apart, not "
                f"{ctx.num_classes}: set cells={self.cells + 1} or more"
            )
        generator = ctx.shared("lsp-clouds")
        centres = self.separation * _corners(generator, ctx.num_classes, size)
        transforms = generator.random((ctx.num_classes, size, size), dtype=np.float32) * 2 - 1
        return {_CENTRES: centres, _TRANSFORMS: torch.from_numpy(transforms)}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        centres, transforms = (state[name].to(ctx.device) for name in (_CENTRES, _TRANSFORMS))

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            y = batch.labels()
            drawn = ctx.noise(batch.rows, "lsp", (centres.shape[1],))
            points = (transforms[y] @ drawn[..., None])[..., 0] + centres[y]
            squares = points.view(len(y), -1, self.cells, self.cells)
            return batch.x + furthest(self.budget, _spread(squares, batch.x))

        return craft


def _corners(generator: np.random.Generator, count: int, size: int) -> Tensor:
    """(count,size) float32: different corners of the cube {-1,1}^size."""
    found: dict[bytes, np.ndarray] = {}
    while len(found) < count:
        corner = generator.integers(2, size=size, dtype=np.int8)
        found.setdefault(corner.tobytes(), corner)
    return torch.from_numpy(np.stack(list(found.values()))).float() * 2 - 1


def _spread(squares: Tensor, x: Tensor) -> Tensor:
    """The squares (B,c,cells,cells) over images like x (B,C,H,W)."""
    if squares.shape[1] != x.shape[1]:
        squares = squares.mean(1, keepdim=True).expand(-1, x.shape[1], -1, -1)
    return F.interpolate(squares, size=x.shape[-2:], mode="nearest")


register("lsp", paper=Separable(), quick=Separable())
