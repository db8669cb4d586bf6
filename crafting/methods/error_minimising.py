"""Error-minimising noise: images that a net already gets right teach it nothing.

Huang, Ma, Erfani, Bailey, Wang: "Unlearnable Examples: Making Personal Data Unexploitable",
ICLR 2021, arXiv 2101.04898. Reference code: Unlearnable-Examples at f347155.

    min_theta  min_{|d_i| <= E}  mean_i CE(f_theta(x_i + d_i), y_i)

by rounds of M steps of SGD on theta and then T signed steps on every d, until theta's error on
x + d is below lambda.

    em          each image has its own d; round after round it is refreshed from where it was
    em-class    a class has one d; batch after batch it becomes the mean of what T steps make of it
                on the class's images there, clipped

A row that em's fit never saw, or whose noise is not on this machine, gets T steps from 0 against
the surrogate as the last round left it. While fit runs it needs room for two noises of every row, a
byte for each number.

**Departures** from the paper and its code:

1. Noise is signed. The code's exporter drops every negative number, so that the released noise only
   brightens; `onesided` does the same for comparisons.
2. Between rounds em's noise is kept in whole grey levels, as it is released.
3. The M steps of a round take the next rows of a shuffled order (the code's are in the order of the
   set) in batches of nearly one size; an order's remainder is spread over its rounds.
4. Every row is refreshed in every round, whatever the batch size.
5. There are at most `rounds` rounds; the code goes on until the error is small enough.
6. Noise is as large as the images that nets see. For images of another size it is resized
   (bilinear), for one channel it is the mean over channels.
7. em-class goes by batches of 125 rows (the code's are of 512), of `data_share` of the rows, drawn
   evenly (in the code by class).
8. A class of which em-class looked at no row gets random noise, even within the budget; the code
   leaves its images as they are.
9. `quick` has a small net and steps of 1.6 levels: em T = 10 in at most 12 rounds; em-class T = 1
   in at most 30, learnt from all rows.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8: 19.9 % test accuracy (as run by Fowl et
al. 2021 with the authors' code), 20.8 % (APBench). It falls to adversarial training with a radius
of 2 levels. Of `quick` on 5,000 rows (clean 67 %): em, one seed, vgg-w16 20.9 % (best epoch 25.4 %)
and resnet10-w16 21.3 % (24.0 %); em-class, mean of three, 13.5 % (17.3 %) and 12.3 % (22.4 %).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from crafting.adversarial import PGD_STEP_COST
from crafting.batch import Batch, ShownSplit, Split
from crafting.bilevel import BilevelMethod, Turn, clipped, meet
from crafting.descent import Walk, image_gradient
from crafting.method import Context, Crafter, State
from crafting.methods.random_noise import ClassNoise
from crafting.nets import Net, for_crafting
from crafting.noisebank import MOST_LEVELS, NoiseBank, NoiseWriter, fitted
from crafting.registry import register
from crafting.surrogate import over_ranks
from crafting.training import Hooks, predict

_CLASSES, _CLASS_FILE = "classes/noise", "classes.safetensors"
_BATCH = 125
_LONGEST_GRADIENT = 5.0  # as the code clips it


@dataclass(frozen=True, kw_only=True)
class ErrorMinimising(BilevelMethod):
    """`em`: each image has its own noise.

    rounds: at most; round_steps: M, of training in each; steps: T, of step_levels (of 255) each;
    stop_error: lambda, the share of rows which the surrogate still gets wrong when fit ends;
    data_share: the share of the rows that fit looks at; onesided: negative noise is left out of
    what is crafted. ValueError for a share outside 0 to 1, steps without length, and a budget above
    127 levels.
    """

    rounds: int = 50
    round_steps: int = 10
    steps: int = 20
    step_levels: float = 0.8
    stop_error: float = 0.01
    data_share: float = 1.0
    onesided: bool = False

    keeps_scratch: ClassVar[bool] = True
    unseen: ClassVar[Literal["exact", "approximate", "refused"]] = "approximate"
    paper: ClassVar[str] = ClassNoise.paper
    bibtex: ClassVar[str] = ClassNoise.bibtex

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand_above_zero("step_levels")
        if not 0 <= self.stop_error <= 1:
            raise ValueError("stop_error is a share of the rows: set stop_error=0.01")
        if not 0 < self.data_share <= 1:
            raise ValueError("data_share is a share above 0 and at most 1: set data_share=0.2")
        if self.levels > MOST_LEVELS:
            raise ValueError(
                f"noise is kept in 8 bits: give a budget of at most linf:{MOST_LEVELS}"
            )

    def rounds_for(self, ctx: Context) -> int:
        return self.rounds

    @property
    def passes_of_new_rows(self) -> int:
        """Of a row whose noise fit did not leave; for the others it is there."""
        return self.steps

    @property
    def fit_passes(self) -> int:
        return max(1, round(self.rounds * self.data_share * self.steps))

    @property
    def fit_epochs(self) -> int:
        """Epochs that take as long as the steps on the noise in all rounds; the surrogate's own
        training is short beside them."""
        return max(1, round(self.fit_passes * PGD_STEP_COST))

    def fit_key(self) -> dict[str, Any]:
        return {k: v for k, v in super().fit_key().items() if k != "onesided"}

    def play(self, turn: Turn, data: Split, ctx: Context) -> bool:
        """M steps on the surrogate and T on the noise of every row; over where that is enough."""
        looked_at = self._looked_at(data, ctx)
        shown = self._added(turn.before, ctx)
        for part, order in self._parts(self._learnt(data, looked_at), turn.number, ctx):
            hooks = Hooks(step=clipped(_LONGEST_GRADIENT))
            self.train(turn, 0, ShownSplit(part, shown, order), hooks, ctx, self.lr)
        net = for_crafting(turn.nets[0], ctx.device)
        self._refresh(net, looked_at, turn, ctx)
        meet(ctx)
        refreshed = ShownSplit(looked_at, self._added(turn.after, ctx))
        predicted, labels = predict(net, refreshed, ctx.device)
        return bool((predicted != labels).float().mean() < self.stop_error)

    def crafter(self, state: State, ctx: Context) -> Crafter:
        (net,) = self.frozen(state, ctx)
        last = self.last_round(ctx)
        bank = None if last is None else NoiseBank.open(last)

        def craft(batch: Batch) -> Tensor:
            batch, labels = batch.to(ctx.device), batch.labels().to(ctx.device)
            noise, known = _kept(bank, batch, ctx)
            crafted = batch.x + noise
            if not known.all():
                made = self._descended(net, batch.x, labels, batch.x)
                crafted = torch.where(known.view(-1, 1, 1, 1), crafted, made)
            return torch.maximum(crafted, batch.x) if self.onesided else crafted

        return craft

    def _descended(self, net: Net, clean: Tensor, labels: Tensor, start: Tensor) -> Tensor:
        """`start` after T steps that lower the loss of each image, within budget of `clean`."""

        def direction(x: Tensor, t: int) -> Tensor:
            return image_gradient(lambda x: _losses(net, x, labels), x)

        return Walk(clean, self.budget, self.step_levels).descend(start, direction, self.steps)

    def _added(self, folder: Path, ctx: Context) -> Callable[[Batch], Batch]:
        """What turns clean batches into noisy ones, by the noise that a round left in `folder`."""
        bank = NoiseBank.open(folder)

        def add(batch: Batch) -> Batch:
            return replace(batch, x=(batch.x + _kept(bank, batch, ctx)[0]).clamp(0, 1))

        return add

    def _refresh(self, net: Net, data: Split, turn: Turn, ctx: Context) -> None:
        """The noise of every row is T steps further, and with the first rank in `turn.after`."""
        add = self._added(turn.before, ctx)
        with NoiseWriter(turn.after if turn.writes else None) as writer:
            for batch in data.batches(_BATCH):
                delta = torch.zeros_like(batch.x, device=ctx.device)
                mine = slice(ctx.rank, None, ctx.world)
                delta[mine] = self._refreshed(net, _part(batch, mine).to(ctx.device), add)
                levels = over_ranks(delta, ctx).mul(255).round().clamp(-self.levels, self.levels)
                writer.add(_digests(batch, ctx), levels)

    def _refreshed(self, net: Net, batch: Batch, add: Callable[[Batch], Batch]) -> Tensor:
        """How far T more steps lead from the clean images (B,C,H,W)."""
        if not len(batch.rows):
            return batch.x
        noisy = add(batch).x
        return self._descended(net, batch.x, batch.labels(), noisy) - batch.x

    def _looked_at(self, data: Split, ctx: Context) -> Split:
        if self.data_share == 1:
            return data
        count = max(1, round(len(data) * self.data_share))
        return data.take(ctx.shared("em-share").permutation(data.numbers())[:count].tolist())

    def _learnt(self, data: Split, looked_at: Split) -> Split:
        """What the surrogate trains on: the rows that have noise."""
        return looked_at

    def _parts(self, data: Split, number: int, ctx: Context) -> list[tuple[Split, int]]:
        """What a round trains on: as nearly M batches as equal parts of a shuffle, or whole
        shuffles, come to; and the number of the order in which to go through each."""
        wanted = self.round_steps * self.batch_size
        parts, epochs = max(1, round(len(data) / wanted)), max(1, round(wanted / len(data)))
        if parts == 1:
            return [(data, number * epochs + epoch) for epoch in range(epochs)]
        shuffle, part = divmod(number, parts)
        order = ctx.shared(f"em-shuffle-{shuffle}").permutation(data.numbers())
        return [(data.take(np.array_split(order, parts)[part].tolist()), number)]


@dataclass(frozen=True, kw_only=True)
class ClassWise(ErrorMinimising):
    """`em-class`: all images of a class have one noise, which serves rows never seen as well."""

    steps: int = 1
    data_share: float = 0.2

    keeps_scratch: ClassVar[bool] = False
    unseen: ClassVar[Literal["exact", "approximate", "refused"]] = "exact"

    @property
    def passes_of_new_rows(self) -> int:
        return 0

    def fitted(self, last: Path, ctx: Context) -> State:
        """`classes/noise` (K,C,H,W) float32, in units where 1 is 255 levels."""
        return load_file(last / _CLASS_FILE)

    def crafter(self, state: State, ctx: Context) -> Crafter:
        noise = state[_CLASSES].to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            x, labels = batch.x.to(ctx.device), batch.labels().to(ctx.device)
            crafted = x + fitted(noise[labels], x.shape[1:])
            return torch.maximum(crafted, x) if self.onesided else crafted

        return craft

    def _added(self, folder: Path, ctx: Context) -> Callable[[Batch], Batch]:
        noise = self._noise(folder)
        return (lambda batch: batch) if noise is None else _class_noise(noise)

    def _learnt(self, data: Split, looked_at: Split) -> Split:
        """All rows: each has its class's noise."""
        return data

    def _refresh(self, net: Net, data: Split, turn: Turn, ctx: Context) -> None:
        """Batch after batch, each class in it has the clipped mean of what T steps make of its
        noise on its images."""
        noise = self._noise(turn.before)
        seen = torch.zeros(ctx.num_classes, dtype=torch.bool)
        for batch in data.batches(_BATCH):
            if noise is None:
                noise = torch.zeros(ctx.num_classes, *batch.x.shape[1:])
            part = _part(batch, slice(ctx.rank, None, ctx.world)).to(ctx.device)
            members = F.one_hot(part.labels(), ctx.num_classes).double()
            deltas = self._refreshed(net, part, _class_noise(noise)).double()
            total = over_ranks(torch.einsum("bk,bchw->kchw", members, deltas), ctx)
            count = over_ranks(members.sum(0), ctx).cpu()
            mean = total.cpu() / _on_images(count.clamp_min(1))
            there = count > 0
            noise = torch.where(_on_images(there), self.budget.nearest(mean.float()), noise)
            seen |= there
        assert noise is not None, "a split without rows"
        if turn.writes:
            noise = torch.where(_on_images(seen), noise, self._drawn(noise.shape, ctx))
            save_file({_CLASSES: noise.contiguous()}, turn.after / _CLASS_FILE)

    def _noise(self, folder: Path) -> Tensor | None:
        """(K,C,H,W): what a round left in `folder`; nothing before the first."""
        path = folder / _CLASS_FILE
        return load_file(path)[_CLASSES] if path.exists() else None

    def _drawn(self, shape: torch.Size, ctx: Context) -> Tensor:
        """Random noise (K,C,H,W) float32, even within the budget, the same in every round."""
        drawn = ctx.shared("em-class-random").random(tuple(shape), dtype=np.float32) * 2 - 1
        return torch.from_numpy(drawn) * (self.levels / 255)


def _losses(net: Net, x: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(net(x), labels, reduction="none")


def _part(batch: Batch, rows: slice) -> Batch:
    return Batch(batch.rows[rows], batch.x[rows], batch.labels()[rows])


def _class_noise(noise: Tensor) -> Callable[[Batch], Batch]:
    """What adds to each image the noise (K,C,H,W) of its class."""

    def add(batch: Batch) -> Batch:
        labels = batch.labels()
        return replace(batch, x=(batch.x + noise.to(labels.device)[labels]).clamp(0, 1))

    return add


def _on_images(of_classes: Tensor) -> Tensor:
    """(K,1,1,1) of (K,)."""
    return of_classes.view(-1, 1, 1, 1)


def _digests(batch: Batch, ctx: Context) -> list[bytes]:
    return [ctx.row_key(int(row)) for row in batch.rows]


def _kept(bank: NoiseBank | None, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor]:
    """The noises (B,C,H,W) that a bank has for these rows, and for which (B,) it has any."""
    if bank is None:
        none = torch.zeros(len(batch.x), dtype=torch.bool, device=batch.x.device)
        return torch.zeros_like(batch.x), none
    noise, known = bank.noise(_digests(batch, ctx), tuple(batch.x.shape[1:]))
    return noise.to(batch.x.device), known.to(batch.x.device)


_QUICK: dict[str, Any] = {"surrogate": "vgg-w16", "batch_size": 125, "step_levels": 1.6}

register(
    "em",
    paper=ErrorMinimising(batch_size=512),
    quick=ErrorMinimising(rounds=12, steps=10, **_QUICK),
)
register(
    "em-class",
    paper=ClassWise(batch_size=512),
    quick=ClassWise(rounds=30, data_share=1.0, **_QUICK),
)
