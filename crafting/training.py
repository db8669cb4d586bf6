"""The one training loop: surrogates and victims go through it, countermeasures hook into it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from crafting import snapshot
from crafting.batch import Batch, Split, read_on, sent
from crafting.nets import ARCHITECTURES, Net, compute_dtype
from crafting.registry import lookup

if TYPE_CHECKING:
    from accelerate import Accelerator

Predictor = Callable[[Tensor], Tensor]
"""Images (B,C,H,W) in [0,1] to logits (B,K)."""
RecipeName = Literal["sep", "tap", "at", "fast", "vit"]

_WARM_UP, _LAST_RATE = 0.15, 0.02
_VIT_WARM_UP, _VIT_RATE, _VIT_WEIGHT_DECAY = 0.1, 5e-4, 0.05


@dataclass(frozen=True)
class Recipe:
    """How a net is trained.

    lr is the peak learning rate. `linear` climbs to it over the first 15 % of training and falls to
    2 % of it at the end; `multistep` divides it by 10 after each of the `milestones`, fractions of
    training; `cosine` falls to 0; `warm-cosine` climbs over the first 10 % and then does the same.
    augment: crops of images padded by an eighth of their size, and horizontal flips. `adamw` takes
    no momentum, and lets decay only weights that multiply: no biases, norms, positions or tokens.
    """

    epochs: int
    batch_size: int = 125
    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Literal["linear", "multistep", "cosine", "warm-cosine"] = "linear"
    milestones: tuple[float, ...] = ()
    augment: bool = True
    optimiser: Literal["sgd", "adamw"] = "sgd"

    def rate(self, progress: float) -> float:
        """The learning rate of the step that takes training to `progress`, from 0 to 1."""
        if self.schedule == "multistep":
            return self.lr * 0.1 ** sum(progress > milestone for milestone in self.milestones)
        if self.schedule == "cosine":
            return self.lr * _half_cosine(progress)
        if self.schedule == "warm-cosine":
            if progress < _VIT_WARM_UP:
                return self.lr * progress / _VIT_WARM_UP
            return self.lr * _half_cosine((progress - _VIT_WARM_UP) / (1 - _VIT_WARM_UP))
        if progress < _WARM_UP:
            return self.lr * progress / _WARM_UP
        return self.lr * (1 - (1 - _LAST_RATE) * (progress - _WARM_UP) / (1 - _WARM_UP))

    def optimiser_of(self, net: nn.Module) -> Optimizer:
        """A new optimiser of all parameters of `net`, at the peak learning rate."""
        if self.optimiser == "adamw":
            return AdamW(self._groups(net), self.lr)
        return SGD(
            net.parameters(),
            self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
        )

    def _groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """Matrices and kernels (2 and 4 axes) decay; positions and tokens have 3 axes, others 1."""
        decaying = [p for p in net.parameters() if p.dim() in (2, 4)]
        others = [p for p in net.parameters() if p.dim() not in (2, 4)]
        return [
            {"params": decaying, "weight_decay": self.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]


def _half_cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def named_recipe(name: RecipeName, net: str, epochs: int) -> Recipe:
    """`sep`: Chen et al. 2023, section 4.1 (theirs is 120 epochs); `tap`: Fowl et al. 2021 (40
    epochs); `at`, for adversarial training: Wen et al. 2023 (100 epochs); `vit`, for vision
    transformers: the optimiser, weight decay and schedule of Touvron et al. 2021 (DeiT, table 9) at
    their rate, with the batches and warm-up of Lee et al. 2021 (arXiv:2112.13492), who train them
    on small images; `fast`: what trains the small nets on 5,000 images in 20 epochs (measured)."""
    if name == "sep":
        milestones = (75 / 120, 90 / 120)
        return Recipe(epochs, 128, nesterov=False, schedule="multistep", milestones=milestones)
    if name == "tap":
        return Recipe(epochs, 128, schedule="multistep", milestones=(3 / 8, 5 / 8, 7 / 8))
    if name == "at":
        late = (3 / 4, 9 / 10)
        return Recipe(epochs, 128, nesterov=False, schedule="multistep", milestones=late)
    if name == "vit":
        decay = _VIT_WEIGHT_DECAY
        return Recipe(epochs, 128, _VIT_RATE, 0.0, False, decay, "warm-cosine", optimiser="adamw")
    return Recipe(epochs, lr=lookup("net", net, ARCHITECTURES).lr)


def cross_entropy(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean loss; y (B,) classes or (B,K) probabilities."""
    return F.cross_entropy(net(x), y)


def _as_it_is(split: Split) -> Split:
    return split


def _unchanged(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


def _nothing(net: nn.Module, optimiser: Optimizer) -> None:
    pass


def _itself(net: Net, split: Split, train: Train) -> Predictor:
    return net


class Train(Protocol):
    """Trains another net on a split in the same way (device, seed): by the same recipe, unless
    another is given, and without hooks, unless some are."""

    def __call__(
        self, net: Net, split: Split, recipe: Recipe | None = None, hooks: Hooks | None = None
    ) -> Predictor: ...


@dataclass(frozen=True)
class Hooks:
    """What a countermeasure may change about training; each is optional.

    data: the split is replaced before the first epoch. augment: images (B,C,H,W) and labels (B,)
    after cropping and flipping; it may return probabilities (B,K). loss: the scalar to descend.
    step: between backward and the optimiser's step. finish: makes the predictor that is scored,
    and may call `train`.
    """

    data: Callable[[Split], Split] = _as_it_is
    augment: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = _unchanged
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] = cross_entropy
    step: Callable[[nn.Module, Optimizer], None] = _nothing
    finish: Callable[[Net, Split, Train], Predictor] = _itself


@dataclass(frozen=True)
class EpochStats:
    """One epoch of this rank: `epoch` counts from 1, loss and accuracy are means over `images`
    augmented images while the net was still changing."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    images: int


@dataclass(frozen=True)
class _Run:
    """What stays the same through a training."""

    recipe: Recipe
    hooks: Hooks
    device: torch.device
    rank: int = 0
    world: int = 1


def train(
    net: Net,
    split: Split,
    recipe: Recipe,
    *,
    device: torch.device,
    seed: int,
    hooks: Hooks | None = None,
    accelerator: Accelerator | None = None,
    on_epoch: Callable[[int, EpochStats], None] | None = None,
    optimiser: Optimizer | None = None,
    keeper: snapshot.Keeper | None = None,
) -> Predictor:
    """`net` is trained in place; returned is what predicts, which is `net` unless a hook says else.

    Augmentation and whatever hooks draw from torch depend on `seed` alone; the order of rows on the
    split's own seed. With an accelerator of several processes each rank learns from its share of
    every batch, and all end with the same parameters (running statistics are the first rank's up to
    the last batch, in which each rank's follow its own share).
    on_epoch(epoch, stats) is called after every epoch, counted from 1, with the net in training
    mode. After that, where there is a keeper, it is given what the same call goes on from another
    time; hooks must hold nothing of their own then. optimiser: of the net's parameters on `device`,
    as an earlier training left it; a new one by default. ValueError if there are too few rows.
    """
    assert keeper is None or accelerator is None, "each rank draws from a generator of its own"
    run = _run(recipe, hooks or Hooks(), device, accelerator)
    with _own_randomness(seed * run.world + run.rank, device):
        split = run.hooks.data(split)
        net.to(device)
        model = net if run.world == 1 else _distributed(net, accelerator)
        optimiser = optimiser or recipe.optimiser_of(net)
        read = read_on(device, split)
        kept = None if keeper is None else keeper.load()
        done = 0 if kept is None else snapshot.restore(kept, net, optimiser, device)
        for epoch in range(done, recipe.epochs):
            stats = _train_epoch(model, read, optimiser, epoch, run)
            if on_epoch is not None:
                on_epoch(stats.epoch, stats)
            if keeper is not None:
                keeper.save(snapshot.take(net, optimiser, stats.epoch, device))
        net.eval()
        return run.hooks.finish(net, split, _plainly(recipe, device, seed))


def _train_epoch(
    model: nn.Module, split: Split, optimiser: Optimizer, epoch: int, run: _Run
) -> EpochStats:
    began, seen = time.perf_counter(), 0
    totals = torch.zeros(3, device=run.device)  # summed loss, right answers, images
    model.train()
    for batch in split.batches(run.recipe.batch_size, epoch):
        seen += len(batch.rows)
        share = _share(batch, run.rank, run.world)
        if share is None:
            continue
        progress = (epoch + seen / len(split)) / run.recipe.epochs
        for group in optimiser.param_groups:
            group["lr"] = run.recipe.rate(progress)
        totals += _train_step(model, share.to(run.device), optimiser, run)
    loss, right, images = totals.tolist()
    if images == 0:
        raise ValueError(
            f"training on {len(split)} rows over {run.world} processes leaves fewer than 2 rows "
            "for each: use more rows or fewer --fit-workers"
        )
    seconds = time.perf_counter() - began
    return EpochStats(epoch + 1, loss / images, right / images, seconds, int(images))


def _train_step(model: nn.Module, batch: Batch, optimiser: Optimizer, run: _Run) -> Tensor:
    x, y = batch.x, _labels(batch)
    if run.recipe.augment:
        x = crop_and_flip(x)
    x, y = run.hooks.augment(x, y)
    with _Answers(model) as answers, _autocast(run.device):
        loss = run.hooks.loss(model, x, y)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    run.hooks.step(model, optimiser)
    optimiser.step()
    return _tally(loss.detach(), answers, y)


def _labels(batch: Batch) -> Tensor:
    """The labels, or -1 for each row that has none: no loss may take that for a class."""
    if batch.y is None:
        return torch.full((len(batch.rows),), -1, device=batch.x.device)
    return batch.y


class _Answers:
    """While open, keeps the latest logits that `model` gave: a loss hook returns none."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.logits: Tensor | None = None

    def __enter__(self) -> _Answers:
        self._handle = self.model.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _keep(self, model: nn.Module, inputs: object, logits: Tensor) -> None:
        self.logits = logits.detach()

    def right(self, y: Tensor) -> Tensor:
        """How many agree with y; not a number where the loss asked for no logits of this batch."""
        if self.logits is None or len(self.logits) != len(y):
            return torch.tensor(math.nan, device=y.device)
        classes = y if y.dim() == 1 else y.argmax(1)
        return (self.logits.argmax(1) == classes).sum()


def _tally(loss: Tensor, answers: _Answers, y: Tensor) -> Tensor:
    count = torch.full((), len(y), device=y.device)  # filled there: no copy is waited for
    return torch.stack([loss.float() * count, answers.right(y).float(), count.float()])


def _share(batch: Batch, rank: int, world: int) -> Batch | None:
    """This rank's rows of a batch, equally many on every rank; None where that is fewer than 2:
    BatchNorm cannot learn from one, and every rank must skip the same steps."""
    each = len(batch.rows) // world
    if each < 2:
        return None
    mine = slice(rank, each * world, world)
    return Batch(batch.rows[mine], batch.x[mine], None if batch.y is None else batch.y[mine])


def crop_and_flip(x: Tensor) -> Tensor:
    """Each image (B,C,H,W) cropped anew from itself with an eighth of black border (4 pixels for
    32), and mirrored or not. torchvision's transforms would move the whole batch alike."""
    count, channels, height, width = x.shape
    tall, wide = round(height / 8), round(width / 8)
    padded = F.pad(x, (wide, wide, tall, tall))
    rows = torch.randint(2 * tall + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(2 * wide + 1, (count, 1)) + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    images = torch.arange(count, device=x.device).view(-1, 1, 1, 1)
    layers = torch.arange(channels, device=x.device).view(1, -1, 1, 1)
    rows, columns = sent(rows, x.device), sent(columns, x.device)
    return padded[images, layers, rows[:, None, :, None], columns[:, None, None, :]]


def predict(
    predictor: Predictor, split: Split, device: torch.device, batch_size: int = 500
) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels, both (N,) int64 on CPU, row by row as the split yields them.

    A net is asked in eval mode and left as it was.
    """
    predicted, labels = [], []
    with _evaluating(predictor), torch.inference_mode(), _autocast(device):
        for batch in read_on(device, split, most_held=0).batches(batch_size):
            predicted.append(predictor(batch.x.to(device)).argmax(1))
            labels.append(batch.labels())
    return torch.cat(predicted).cpu(), torch.cat(labels).cpu()


@contextmanager
def _evaluating(predictor: Predictor) -> Iterator[None]:
    if not isinstance(predictor, nn.Module):
        yield
        return
    training = predictor.training
    predictor.eval()
    try:
        yield
    finally:
        predictor.train(training)


def _autocast(device: torch.device) -> torch.autocast:
    dtype = compute_dtype(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def _own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Torch draws from `seed` inside and goes on outside as if nothing had happened; cuDNN picks
    kernels that give the same sums every time."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
            yield


def _run(
    recipe: Recipe, hooks: Hooks, device: torch.device, accelerator: Accelerator | None
) -> _Run:
    if accelerator is None:
        return _Run(recipe, hooks, device)
    return _Run(recipe, hooks, device, accelerator.process_index, accelerator.num_processes)


def _distributed(net: Net, accelerator: Accelerator | None) -> nn.Module:
    assert accelerator is not None
    model: nn.Module = accelerator.prepare_model(net)
    return model


def _plainly(own: Recipe, device: torch.device, seed: int) -> Train:
    def again(
        net: Net, split: Split, recipe: Recipe | None = None, hooks: Hooks | None = None
    ) -> Predictor:
        return train(net, split, recipe or own, device=device, seed=seed, hooks=hooks)

    return again
