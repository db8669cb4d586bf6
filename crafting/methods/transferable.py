"""Transferable unlearnable examples: noise that tells classes apart by itself, and from which
contrastive learning learns nothing else.

Ren, Xu, Wan, Ma, Sun, Tang: "Transferable Unlearnable Examples", ICLR 2023, arXiv 2210.10114.
Reference code: TUE at 6b3752b.

With f a net trained by contrast (L_CL of two views t1, t2 of every image), and c_i, s_i the mean
noise of class i and the mean distance of its noises from that,

    min_f min_d  contrast * L_CL( f; t1(x + d), t2(x + d) ) + separability * CSD(d, y)
    CSD(d, y) = mean over i != j of (s_i + s_j) / |c_i - c_j|

f by Adam, and after every `every` of its steps d by `steps` signed steps on one batch. For rows
that were not there the paper interpolates the noise of two that were, d = a d_i + (1 - a) d_j.

**Departures** from the paper and its code:

1. Not every row has a noise of its own that is learnt, which would be as large as the data set and
   useless for rows to come: every class has `prototypes` of them, and all rows, seen or not, get
   what the paper gives to new data, a mixture of two prototypes of their class with a share that is
   drawn from the image and a secret seed. Their code's noise comes out nearly class-wise too: all
   rows of a class get one gradient.
2. d takes its steps on one batch, not on every row: each prototype then takes as many as a row's
   noise does in the paper. f is in eval mode for them, with new views for every step.
3. CSD's s is differentiated too, as the equation has it; in the code it is constant
   (`spread=held`). The SimCLR and SimSiam runs of the code leave L_CL out of d's objective:
   `contrast=0` does so, and then no net is trained at all.
4. Of the paper's SimCLR, MoCo and SimSiam here is SimCLR (crafting/contrastive.py), with crops of
   at least 20 % of the area (8 % in the code) and a projection head without BatchNorm.
5. Noise is learnt at net size and stretched to each image; images of one channel get its mean over
   colours.
6. `quick` is that: contrast=0 and spread=held, in fewer epochs, steps of two levels and smaller
   batches. Its noise is class-wise, since all prototypes of a class reach the same corners.

Every rank learns from the whole split by itself and takes the first's prototypes.

**Expected** of the paper, ResNet-18 on CIFAR-10 at linf:8: 10.7 % test accuracy, and 52.4 % after
training without labels by SimCLR. Of `quick` on 5,000 rows of CIFAR-10, one seed: vgg-w16
11.0 % (at its best epoch 56.2 %), but resnet10-w16 65.5 % (clean 67.0 and 67.3 %).
On 1,500 rows (vgg-w16, clean 52.8 %), with spread=learnt: contrast=1 at separability=0.1 51.3 %,
contrast=0 55.8 %: the equation as written did not protect so few.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from crafting.adversarial import in_eval_mode
from crafting.batch import Batch, ShownSplit, Split
from crafting.budget import Budget, Linf
from crafting.contrastive import Contrast, contrastive_recipe
from crafting.method import Context, Crafter, Method, State
from crafting.nets import ARCHITECTURES, build
from crafting.overlay import overlaid
from crafting.registry import lookup, register
from crafting.surrogate import agreed
from crafting.training import EpochStats, Hooks, train

_PROTOTYPES = "prototypes/noise"
_TINY = 1e-12
Spread = Literal["learnt", "held"]


@dataclass(frozen=True, kw_only=True)
class TransferableNoise(Method):
    """`tue`: contrast and separability weigh the two parts of the noise's objective; every is how
    many steps of the net go before the noise's `steps` of step_levels (of 255) each.

    surrogate: a net's name; surrogate_epochs, batch_size, temperature: of its training by contrast;
    prototypes: noises of each class; spread: whether a gradient makes these more alike (learnt).
    ValueError for a net that does not exist, weights below 0 or both 0, a temperature of 0,
    steps without length, and batches of one image for a net to learn from.
    """

    surrogate: str = "resnet18"
    surrogate_epochs: int = 40
    batch_size: int = 512
    temperature: float = 0.5
    contrast: float = 1.0
    separability: float = 0.1
    spread: Spread = "learnt"
    prototypes: int = 8
    every: int = 20
    steps: int = 20
    step_levels: float = 0.8

    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf,)
    paper: ClassVar[str] = "Transferable Unlearnable Examples, ICLR 2023"
    bibtex: ClassVar[str] = """@inproceedings{ren2023transferable,
  title = {Transferable Unlearnable Examples},
  author = {Ren, Jie and Xu, Han and Wan, Yuxuan and Ma, Xingjun and Sun, Lichao and
            Tang, Jiliang},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2210.10114},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        lookup("net", self.surrogate, ARCHITECTURES)
        weights = self.contrast, self.separability
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(
                "contrast and separability are weights of 0 or more, not both 0: set contrast=1 "
                "separability=0.1"
            )
        self.demand_above_zero("temperature", "step_levels")
        if self.contrast > 0 and self.batch_size < 2:
            raise ValueError("a net learns from at least 2 images at a time: set batch_size=512")

    @property
    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,) if self.contrast > 0 else ()

    @property
    def fit_passes(self) -> int:
        """Two views of one batch at each step of the noise."""
        if self.contrast == 0:
            return 0
        return round(2 * self.surrogate_epochs * self.steps / self.every)

    @property
    def fit_epochs(self) -> int:
        """Two views of each image an epoch, and those that the noise learns from."""
        if self.contrast == 0:
            return 0
        return 2 * self.surrogate_epochs + self.fit_passes

    def fit(self, data: Split, ctx: Context) -> State:
        """The prototypes (K,m,3,S,S) at net size, within the budget and equal on every rank.
        ValueError where the net takes so few steps that the noise's turn never comes."""
        learning = _Learning(self, ctx)
        if self.contrast == 0:
            learning.alone(data)
        else:
            self._contrasted(data, learning, ctx)
        return agreed({_PROTOTYPES: learning.noise}, ctx)

    def crafter(self, state: State, ctx: Context) -> Crafter:
        prototypes = state[_PROTOTYPES].to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            return overlaid(batch.x, mixed(prototypes, batch, ctx))

        return craft

    def epochs_for(self, ctx: Context) -> int:
        """As many steps on a share of the source's rows as on all of them."""
        return round(self.surrogate_epochs / ctx.fit_share)

    def _contrasted(self, data: Split, learning: _Learning, ctx: Context) -> None:
        seeds, total = ctx.shared("tue-net").integers(2**31, size=2), self.epochs_for(ctx)
        net = build(self.surrogate, 1, ctx.net_size, int(seeds[0]))
        whole, rest = divmod(len(data), self.batch_size)
        steps = total * (whole + (rest // ctx.world > 1))  # no rank learns from one image alone
        if steps < self.every:
            raise ValueError(
                f"the net takes {steps} steps on {len(data)} rows, and the noise would stay as it "
                f"was drawn: set every={max(1, steps // 5)}"
            )

        def tell(epoch: int, stats: EpochStats) -> None:
            ctx.progress(epoch, total)

        train(
            net,
            data,
            contrastive_recipe(total, self.batch_size),
            device=ctx.device,
            seed=int(seeds[1]),
            hooks=Hooks(
                data=partial(ShownSplit, shown=learning.noisy),
                augment=learning.augment,
                loss=learning.loss,
                step=learning.step,
            ),
            on_epoch=tell,
        )


class _Learning(Contrast):
    """One fit: the prototypes so far, and the net that learns from images with their noise."""

    def __init__(self, method: TransferableNoise, ctx: Context) -> None:
        super().__init__(method.temperature)
        self._method = method
        self._ctx = ctx
        self._steps = 0
        self.latest: Batch | None = None
        self.noise = self._start()

    def _start(self) -> Tensor:
        """Noise (K,m,3,S,S) drawn evenly from the budget."""
        size = self._ctx.net_size
        shape = (self._method.prototypes, 3, size, size)
        noise = torch.empty((self._ctx.num_classes, *shape), device=self._ctx.device)
        generator = self._ctx.shared("tue-start")
        for own in noise:  # a class at a time, because what is drawn is float64
            own.copy_(torch.from_numpy(generator.uniform(-1, 1, shape)).float())
        assert isinstance(self._method.budget, Linf)
        return noise.mul_(self._method.budget.levels / 255)

    def noisy(self, batch: Batch) -> Batch:
        """The batch with its noise as it is now; the clean one is what the noise learns from."""
        self.latest = batch = batch.to(self.noise.device)
        with torch.no_grad():
            x = overlaid(batch.x, self._mixed(self.noise, batch)).clamp(0, 1)
        return Batch(batch.rows, x, batch.y)

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The contrastive loss of the net; after every so many, the noise takes its steps."""
        loss = super().loss(net, x, y)
        self._steps += 1
        if self._steps % self._method.every == 0:
            self._improve(net)
        return loss

    def alone(self, data: Split) -> None:
        """The noise takes its steps on the first batch and as many as with a net, by separability
        alone."""
        epochs, seen = self._method.epochs_for(self._ctx), 0
        for epoch in range(epochs):
            for batch in data.batches(self._method.batch_size, epoch):
                self.latest, seen = batch, seen + 1
                if seen % self._method.every == 0 or seen == 1:
                    self._improve(None)
            self._ctx.progress(epoch + 1, epochs)

    def _improve(self, net: nn.Module | None) -> None:
        assert self.latest is not None
        batch = self.latest.to(self._ctx.device)
        # No other class's noise moves: of thousands a batch has few.
        classes, home = torch.unique(batch.labels(), return_inverse=True)
        batch, noise = Batch(batch.rows, batch.x, home), self.noise[classes]
        for _ in range(self._method.steps):
            noise.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._objective(net, noise, batch), noise)
            budget = self._method.budget
            step = budget.step(gradient, self._method.step_levels)
            noise = budget.nearest(noise.detach() - step)
        self.noise[classes] = noise

    def _objective(self, net: nn.Module | None, noise: Tensor, batch: Batch) -> Tensor:
        method = self._method
        with torch.autocast(noise.device.type, enabled=False):
            mine = self._mixed(noise, batch)
            goal = method.separability * discriminant(mine, batch.labels(), method.spread)
            if net is None:
                return goal
            views = self.augment(overlaid(batch.x, mine).clamp(0, 1), batch.labels())
        with in_eval_mode(net):
            return goal + method.contrast * super().loss(net, *views)

    def _mixed(self, noise: Tensor, batch: Batch) -> Tensor:
        return mixed(noise, batch.to(self._ctx.device), self._ctx)


def mixed(prototypes: Tensor, batch: Batch, ctx: Context) -> Tensor:
    """Noise (B,3,S,S): of every row a d_i + (1 - a) d_j, with two different prototypes (K,m,3,S,S)
    of its class and a share a in [0,1] that its image and the seed draw."""
    drawn = ctx.noise(batch.rows, "tue-mixture", (3,), "uniform") / 2 + 0.5
    count = prototypes.shape[1]
    first = (drawn[:, 0] * count).long().clamp(max=count - 1)
    further = (drawn[:, 1] * (count - 1)).long().clamp(max=max(count - 2, 0)) + 1
    second = (first + further) % count
    share, y = drawn[:, 2].view(-1, 1, 1, 1), batch.labels()
    return share * prototypes[y, first] + (1 - share) * prototypes[y, second]


def discriminant(noise: Tensor, y: Tensor, spread: Spread = "learnt") -> Tensor:
    """CSD of the noise (B,C,H,W) of a batch, over the classes y (B,) that it has; 0 for one class.
    Where spread is held no gradient makes a class's noises more alike."""
    flat = noise.flatten(1)
    classes, home = torch.unique(y, return_inverse=True)
    members = nn.functional.one_hot(home, len(classes)).to(flat)
    counts = members.sum(0)
    centres = members.T @ flat / counts[:, None]
    distances = _length(flat - centres[home])
    spreads = members.T @ distances / counts
    if spread == "held":
        spreads = spreads.detach()
    between = _length(centres[:, None] - centres)
    ratios = (spreads[:, None] + spreads) / between
    others = ~torch.eye(len(classes), dtype=torch.bool, device=y.device)
    return ratios[others].mean() if others.any() else flat.sum() * 0


def _length(difference: Tensor) -> Tensor:
    """Euclidean, with a gradient of 0 where it is 0."""
    return (difference.square().sum(-1) + _TINY).sqrt()


register(
    "tue",
    paper=TransferableNoise(),
    quick=TransferableNoise(
        surrogate="vgg-w16",
        surrogate_epochs=10,
        batch_size=256,
        prototypes=4,
        contrast=0.0,
        spread="held",
        every=5,
        steps=5,
        step_levels=2.0,
    ),
)
