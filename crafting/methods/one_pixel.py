"""One pixel, or a few, of every image of a class is set to a colour that is rare there.

Wu, Chen, Xie, Huang: "One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks",
ICLR 2023, arXiv 2205.12141. Reference code: One-Pixel-Shotcut at fe440c1.

    score(p, v) = E|v - x_p| / D|v - x_p|,   x'_p = v

over the images of a class and their channels, E the mean and D the standard deviation, for every
place p and every v in {0,1}^C. Class after class takes the m places with the best scores, in their
best colours, but no place in a colour that an earlier class has there. `ops` has m = 1, `ops-m` 3
unless the budget `l0:m` says otherwise: m is the budget.

The pixels follow from the clean images alone. They do not depend on the secret seed: whoever has
the clean images, or looks where all images of a class agree, can find them.

**Departures** from the paper and its code:

1. D is the standard deviation, as in the code, whose figures are known. The paper's objective is
   said to divide by the variance (not verified): `--set spread=variance`.
2. The m pixels of a class are m different places; the code's best m pairs may name one place twice,
   of which only the last is seen. m = 3 is our choice.
3. Where a class has no spread at all, D counts as 1e-6; the code divides by 0 there.
4. Places are found at the size that nets see and kept as fractions of height and width, so that
   images of any size get the pixel there. A single pixel of a large image hardly survives being
   made smaller: the method is meant for images of the nets' size. In smaller images two places can
   become one, which then has the better one's colour.
5. One-channel images in a release of colour images get the mean of the colour, three channels in a
   grey one the same grey.

**Expected** of `paper` on CIFAR-10, ResNet-18: 14.7 % by one re-run, 36.6 % by another; 15.0 % with
adversarial training at linf:8, 53.0 % with cutout, 64.7 % with cutmix. `quick` on 5,000
rows, one seed, clean 67.0 and 67.3 %: vgg-w16 18.5 % and resnet10-w16 26.6 % with ops, 18.8 and
18.2 % with ops-m.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.budget import L0, Budget
from crafting.method import Context, Crafter, Method, State
from crafting.registry import register
from crafting.surrogate import over_ranks

_PLACES, _COLOURS = "shortcuts/places", "shortcuts/colours"
_BATCH = 512
_NO_SPREAD = 1e-6
_TAKEN = -1.0
"""Below every score."""


class Moments(NamedTuple):
    """Of every class: its rows (K,), and the sums (K,C,S,S) of their levels (of 255) and of the
    levels' squares, float64. These are whole numbers below 2^53 and so exact in any order."""

    rows: Tensor
    sums: Tensor
    squares: Tensor


@dataclass(frozen=True, kw_only=True)
class OnePixel(Method):
    """`ops` and `ops-m`: spread is what a pixel's distance from the colour is divided by; how many
    pixels an image loses is the budget."""

    budget: Budget = field(default_factory=lambda: L0(1))
    spread: Literal["deviation", "variance"] = "deviation"

    resumes: ClassVar[bool] = True
    keyed: ClassVar[bool] = False
    allowed: ClassVar[tuple[type[Budget], ...]] = (L0,)
    paper: ClassVar[str] = (
        "One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks, ICLR 2023"
    )
    bibtex: ClassVar[str] = """@inproceedings{wu2023onepixel,
  title = {One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks},
  author = {Wu, Shutong and Chen, Sizhe and Xie, Cihang and Huang, Xiaolin},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2205.12141},
  archiveprefix = {arXiv}
}"""

    @property
    def pixels(self) -> int:
        """How many places each class takes."""
        assert isinstance(self.budget, L0), f"{self.budget} counts no pixels"
        return self.budget.pixels

    def fit(self, data: Split, ctx: Context) -> State:
        """`shortcuts/places` (K,m,2) float64, fractions of height and width, the best first, and
        `shortcuts/colours` (K,m,C) float32 of 0 and 1; equal on every rank, of which each looks at
        its share of the rows.

        A class without rows takes what is free. Memory: 16 bytes for every class, channel and
        pixel at net size. ValueError where the classes need more pixels than there are.
        """
        moments = class_moments(data, ctx)
        colours = _colours(moments.sums.shape[1])
        taken = torch.zeros(len(colours), *moments.sums.shape[-2:], dtype=torch.bool).flatten(1)
        places, chosen = [], []
        for label in range(ctx.num_classes):
            score = self.scores(moments, label).flatten(1).masked_fill(taken, _TAKEN)
            best, colour = score.max(0)
            place = best.sort(descending=True, stable=True).indices[: self.pixels]
            self._demand_free(best[place], moments)
            taken[colour[place], place] = True
            places.append(_fractions(place, moments.sums.shape[-2:]))
            chosen.append(colours[colour[place]])
        return {_PLACES: torch.stack(places), _COLOURS: torch.stack(chosen)}

    def scores(self, moments: Moments, label: int) -> Tensor:
        """(2^C,H,W) float64: how well each colour at each place marks the class; at least 0."""
        count = moments.rows[label].clamp_min(1)
        mean = moments.sums[label] / count / 255
        square = moments.squares[label] / count / 255**2
        lit = _colours(len(mean)).bool()[..., None, None]  # (2^C,C,1,1)
        first = torch.where(lit, 1 - mean, mean).mean(1)
        second = torch.where(lit, 1 - 2 * mean + square, square).mean(1)
        deviation = (second - first.square()).clamp_min(0).sqrt().clamp_min(_NO_SPREAD)
        return first / (deviation if self.spread == "deviation" else deviation.square())

    def crafter(self, state: State, ctx: Context) -> Crafter:
        places, colours = (state[name].to(ctx.device) for name in (_PLACES, _COLOURS))

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            x, y = batch.x.clone(), batch.labels()
            channels, height, width = x.shape[1:]
            sides = torch.tensor([height, width], device=x.device)
            down, across = (places[y] * sides).long().unbind(-1)  # (B,m) each
            colour = _with_channels(colours[y], channels)
            images = torch.arange(len(x), device=x.device)
            for k in reversed(range(self.pixels)):  # the best last: it stands where two meet
                x[images, :, down[:, k], across[:, k]] = colour[:, k]
            return x

        return craft

    def _demand_free(self, best: Tensor, moments: Moments) -> None:
        if len(best) == self.pixels and best.amin() > _TAKEN:
            return
        classes, channels, height, width = moments.sums.shape
        raise ValueError(
            f"{classes} classes of {self.pixels} pixels need more than the {height}x{width} places "
            f"in {2**channels} colours that there are: use a smaller l0 budget or a larger net size"
        )


def class_moments(data: Split, ctx: Context) -> Moments:
    """The moments of all rows, on CPU and on every rank; never more than a batch is held."""
    channels, height, width = next(data.batches(1)).x.shape[1:]
    rows = torch.zeros(ctx.num_classes, dtype=torch.float64, device=ctx.device)
    sums = rows.new_zeros(ctx.num_classes, channels * height * width)
    squares = torch.zeros_like(sums)
    for batch in data.batches(_BATCH):
        mine = slice(ctx.rank, None, ctx.world)
        y = batch.labels()[mine].to(ctx.device)
        levels = batch.x[mine].to(ctx.device).mul(255).round().double().flatten(1)
        rows += y.bincount(minlength=ctx.num_classes)
        sums.index_add_(0, y, levels)
        squares.index_add_(0, y, levels.square())
    rows, sums, squares = (over_ranks(each, ctx).cpu() for each in (rows, sums, squares))
    shape = (ctx.num_classes, channels, height, width)
    return Moments(rows, sums.view(shape), squares.view(shape))


def _colours(channels: int) -> Tensor:
    """(2^C,C) float32: every colour whose channels are dark or fully lit."""
    return torch.tensor(list(product((0.0, 1.0), repeat=channels)))


def _fractions(places: Tensor, sides: torch.Size) -> Tensor:
    """(m,2) float64: the middles of places (m,), which are numbered row by row, as fractions."""
    height, width = sides
    at = torch.stack([places // width, places % width], dim=1)
    return (at + 0.5) / torch.tensor([height, width], dtype=torch.float64)


def _with_channels(colours: Tensor, channels: int) -> Tensor:
    if colours.shape[-1] == channels:
        return colours
    return colours.mean(-1, keepdim=True).expand(-1, -1, channels)


register("ops", paper=OnePixel(), quick=OnePixel())
register("ops-m", paper=OnePixel(budget=L0(3)), quick=OnePixel(budget=L0(3)))
