"""Methods that pull images with a surrogate: one training run, kept at n equidistant epochs.

Those that train it plainly share one State, so that the same run serves sep, sep-fa, sep-fa-vr,
sep-fa-mi, sep-mi, sep-both-mi, tap and tap-untargeted:

    checkpoint-00/<parameter or buffer>   a net of the run, the earliest first
    centres/centres (n,K,D) float32       class means of its penultimate features on clean images
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from crafting.adversarial import PGD_STEP_COST, LinfBall, adversarial_loss
from crafting.batch import Split
from crafting.budget import L2, Budget, Linf, Sum
from crafting.method import Context, Method, State
from crafting.nets import ARCHITECTURES, Net, build, for_crafting
from crafting.registry import lookup
from crafting.snapshot import InFile, Snapshot, whole
from crafting.training import EpochStats, Hooks, Recipe, RecipeName, named_recipe, train

CENTRES = "centres/centres"
_FEATURE_BATCH = 125
_SAVED_EVERY = 10.0
"""Seconds between two snapshots of a surrogate's training."""

QUICK_SURROGATE: dict[str, Any] = {
    "surrogate": "vgg-w16",
    "surrogate_epochs": 20,
    "surrogate_recipe": "fast",
    "checkpoints": 5,
}
"""The fields of every `quick` preset, so that all methods can use one State."""


@dataclass(frozen=True, kw_only=True)
class SurrogateMethod(Method):
    """A method whose fit is one surrogate's training; subclasses only craft.

    surrogate: a net's name; surrogate_epochs: how long it is trained; surrogate_recipe: in whose
    batches and by whose rates, those of small nets or of a paper; checkpoints: how many states of
    it are kept, the last at the end. ValueError for a net that does not exist, and for more
    checkpoints than epochs.
    """

    surrogate: str = "resnet18"
    surrogate_epochs: int = 120
    surrogate_recipe: RecipeName = "sep"
    checkpoints: int = 15

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2, Sum)

    def __post_init__(self) -> None:
        lookup("net", self.surrogate, ARCHITECTURES)
        if not 1 <= self.checkpoints <= self.surrogate_epochs:
            raise ValueError(
                f"{self.checkpoints} checkpoints cannot be kept from {self.surrogate_epochs} "
                f"surrogate_epochs: set checkpoints between 1 and {self.surrogate_epochs}"
            )

    @property
    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,)

    @property
    def fit_epochs(self) -> int:
        return self.surrogate_epochs

    def recipe(self) -> Recipe:
        return named_recipe(self.surrogate_recipe, self.surrogate, self.surrogate_epochs)

    def hooks(self) -> Hooks:
        """What its training is changed by."""
        return Hooks()

    def fit_key(self) -> dict[str, Any]:
        recipe = asdict(self.recipe())
        return {"surrogate": self.surrogate, "checkpoints": self.checkpoints, "recipe": recipe}

    def fit(self, data: Split, ctx: Context) -> State:
        """The checkpoints and their class centres, equal on every rank. A split that holds a share
        of the source's rows is trained on for as many steps as all of them would be."""
        weights = self._trained(data, ctx)
        nets = [self._net(each, ctx) for each in weights]
        state = {
            f"{_folder(k)}/{name}": value
            for k, each in enumerate(weights)
            for name, value in each.items()
        }
        return state | {CENTRES: class_centres(nets, data, ctx).cpu()}

    def load_checkpoints(self, state: State, ctx: Context) -> list[Net]:
        """The nets of the run, the earliest first, ready for crafting and all in memory."""
        return [self._net(inside(state, _folder(k)), ctx) for k in range(self.checkpoints)]

    def load_last(self, state: State, ctx: Context) -> Net:
        """The net as it was when training ended, ready for crafting."""
        return for_crafting(self.load_unfolded(state, ctx), ctx.device)

    def load_unfolded(self, state: State, ctx: Context) -> Net:
        """The same with the weights that were trained, in float32 and in eval mode, on CPU."""
        return self._loaded(inside(state, _folder(self.checkpoints - 1)), ctx)

    def _trained(self, data: Split, ctx: Context) -> list[State]:
        recipe = for_share(self.recipe(), ctx)
        return trained(
            self.surrogate,
            recipe,
            data,
            ctx,
            kept_at=_kept_epochs(recipe.epochs, self.checkpoints),
            hooks=self.hooks(),
            key=self.fit_key(),
        )

    def _net(self, weights: State, ctx: Context) -> Net:
        return for_crafting(self._loaded(weights, ctx), ctx.device)

    def _loaded(self, weights: State, ctx: Context) -> Net:
        return loaded(self.surrogate, weights, ctx)


@dataclass(frozen=True, kw_only=True)
class RobustSurrogateMethod(SurrogateMethod):
    """A method whose surrogate learns from images that an adversary made worse at every step.

    robust_levels: how far the adversary moves each channel of a pixel, in grey levels of 255;
    robust_steps: how many steps it takes there; robust_step_levels: the length of each. ValueError
    for one that is not above 0.
    """

    robust_levels: float = 4.0
    robust_steps: int = 10
    robust_step_levels: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.hooks()

    @property
    def fit_epochs(self) -> int:
        return round(self.surrogate_epochs * (1 + PGD_STEP_COST * self.robust_steps))

    def hooks(self) -> Hooks:
        ball = LinfBall(self.robust_levels)
        return Hooks(loss=adversarial_loss(ball, self.robust_steps, self.robust_step_levels))

    def fit_key(self) -> dict[str, Any]:
        adversary = (self.robust_levels, self.robust_steps, self.robust_step_levels)
        return super().fit_key() | {"adversary": adversary}


def trained(
    name: str,
    recipe: Recipe,
    data: Split,
    ctx: Context,
    *,
    kept_at: Sequence[int],
    hooks: Hooks | None = None,
    key: Mapping[str, Any] | None = None,
    stream: str = "surrogate",
) -> list[State]:
    """The weights of the net called `name` after each of the epochs `kept_at`, on CPU and equal on
    every rank; where it starts and what is drawn on the way depends on the stream.

    A process that trains alone goes on from what an interrupted training left in `ctx.scratch`, and
    does not train again what is all there; key: what else the weights depend on.
    """
    left = _left_of([name, asdict(recipe), stream, key], ctx, recipe.epochs)
    kept = {} if left is None else left.weights()
    if not kept.keys() >= set(kept_at):
        seeds = ctx.shared(stream).integers(2**31, size=2)
        net = build(name, ctx.num_classes, ctx.net_size, seed=int(seeds[0]))

        def keep(epoch: int, stats: EpochStats) -> None:
            if epoch in kept_at:
                kept[epoch] = agreed(net.state_dict(), ctx)
                if left is not None:
                    left.keep(epoch, kept[epoch])
            if left is None:
                ctx.progress(epoch, recipe.epochs)

        train(
            net,
            data,
            recipe,
            device=ctx.device,
            seed=int(seeds[1]),
            hooks=hooks,
            accelerator=ctx.accelerator if ctx.world > 1 else None,
            on_epoch=keep,
            keeper=left,
        )
    return [kept[epoch] for epoch in kept_at]


class _Left(InFile):
    """What a training leaves in its folder: snapshot.pt of its latest epoch, after which that is
    told, and epoch-0004.safetensors with the weights after an epoch that is asked for."""

    def __init__(self, folder: Path, ctx: Context, epochs: int) -> None:
        super().__init__(folder / "snapshot.pt", _SAVED_EVERY)
        self._tell = ctx.progress
        self._epochs = epochs

    def save(self, snapshot: Snapshot) -> None:
        super().save(snapshot)
        self._tell(snapshot["epochs"], self._epochs)

    def weights(self) -> dict[int, State]:
        """Those that are there, by epoch."""
        found = self.path.parent.glob("epoch-*.safetensors")
        return {int(path.stem.removeprefix("epoch-")): load_file(path) for path in found}

    def keep(self, epoch: int, weights: State) -> None:
        path = self.path.with_name(f"epoch-{epoch:04d}.safetensors")
        whole(path, lambda path: save_file(weights, path))


def _left_of(key: Sequence[Any], ctx: Context, epochs: int) -> _Left | None:
    """In a folder of its own within the scratch folder, which the parts of a mixture share; None
    where several processes train together, whose random states no snapshot holds."""
    if ctx.scratch is None or ctx.world > 1:
        return None
    named = json.dumps(key, sort_keys=True).encode()
    folder = ctx.scratch / hashlib.sha256(ctx.seed + named).hexdigest()[:16]
    ctx.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    return _Left(folder, ctx, epochs)


def loaded(name: str, weights: State, ctx: Context) -> Net:
    """The net called `name` with these weights, in float32 and in eval mode, on CPU."""
    net = build(name, ctx.num_classes, ctx.net_size)
    net.load_state_dict(weights)
    return net.eval()


def for_share(recipe: Recipe, ctx: Context) -> Recipe:
    """As many optimiser steps on a share of the source's rows as on all of them."""
    return replace(recipe, epochs=round(recipe.epochs / ctx.fit_share))


def class_centres(nets: list[Net], data: Split, ctx: Context) -> Tensor:
    """(n,K,D) float32: each net's mean features of every class over the split, on ctx.device.

    A class without rows gets the mean over the other classes' centres. Every rank looks at its
    share of the rows and has the whole result.
    """
    sums = [torch.zeros(ctx.num_classes, n.head.in_features, device=ctx.device) for n in nets]
    totals = torch.stack(sums).double()
    counts = torch.zeros(ctx.num_classes, device=ctx.device, dtype=torch.float64)
    for batch in data.batches(_FEATURE_BATCH):
        mine = slice(ctx.rank, None, ctx.world)
        x, y = batch.x[mine].to(ctx.device), batch.labels()[mine].to(ctx.device)
        members = F.one_hot(y, ctx.num_classes).double()
        counts += members.sum(0)
        for total, net in zip(totals, nets, strict=True):
            total += members.T @ _features(net, x).double()
    return _means(over_ranks(totals, ctx), over_ranks(counts, ctx))


def target_classes(ctx: Context, shift: int) -> Tensor:
    """(K,) int64 on ctx.device: the class that each class is pulled towards, `shift` further round
    unless the owner chose a map."""
    chosen = ctx.target_map
    if chosen is None:
        chosen = tuple((y + shift) % ctx.num_classes for y in range(ctx.num_classes))
    return torch.tensor(chosen, device=ctx.device)


def _kept_epochs(epochs: int, checkpoints: int) -> list[int]:
    return [epochs * (k + 1) // checkpoints for k in range(checkpoints)]


def _folder(k: int) -> str:
    return f"checkpoint-{k:02d}"


def inside(state: State, folder: str) -> State:
    """The tensors of one folder of a State, by the rest of their names."""
    prefix = folder + "/"
    return {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}


def agreed(values: State, ctx: Context) -> State:
    """A copy of the tensors on CPU, the first rank's on every rank: those that did the same work
    may differ in the last bits, and BatchNorm's running statistics by each rank's last batch."""
    copies = {name: value.detach().clone() for name, value in values.items()}
    if ctx.accelerator is not None and ctx.world > 1:
        from accelerate.utils import broadcast

        copies = broadcast(copies, from_process=0)
    return {name: value.cpu().contiguous() for name, value in copies.items()}


def over_ranks(values: Tensor, ctx: Context) -> Tensor:
    """The sum of what every rank has, on every rank."""
    if ctx.accelerator is None or ctx.world == 1:
        return values
    total: Tensor = ctx.accelerator.reduce(values, reduction="sum")
    return total


@torch.inference_mode()
def _features(net: Net, x: Tensor) -> Tensor:
    return net.features(x)


def _means(totals: Tensor, counts: Tensor) -> Tensor:
    means = totals / counts.clamp_min(1)[:, None]
    overall = means[:, counts > 0].mean(1, keepdim=True)
    return torch.where(counts[:, None] > 0, means, overall).float()
