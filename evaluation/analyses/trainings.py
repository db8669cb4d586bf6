"""The trainings that analyses make: victims, watched after every epoch."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from crafting.batch import PixelSplit
from crafting.nets import Net, build
from crafting.training import EpochStats, Predictor, Recipe, predict, train
from evaluation.analyses.base import Material, Progress
from evaluation.scoring import Classes
from evaluation.victims import victim


@dataclass(frozen=True)
class Checkpoint:
    """A victim as it was after an epoch, counted from 1, in eval mode."""

    victim: str
    epoch: int
    net: Net

    def __str__(self) -> str:
        return f"{self.victim} after epoch {self.epoch}"


def recipe(material: Material, name: str) -> Recipe:
    """How the victim called `name` is trained here."""
    return victim(name).recipe(material.preset, material.epochs, material.net_size)


def trained(
    material: Material,
    name: str,
    split: PixelSplit,
    progress: Progress,
    watch: Callable[[int, Net], None] = lambda epoch, net: None,
) -> Net:
    """The victim called `name` after learning from `split`, in eval mode; watch(epoch, net) is
    called after every epoch, counted from 1, with the net in training mode."""
    plan = recipe(material, name)
    seed = _seed(material)
    net = build(victim(name).net, split.num_classes, material.net_size, seed)

    def after(epoch: int, stats: EpochStats) -> None:
        watch(epoch, net)
        progress(epoch / plan.epochs)

    train(net, split, plan, device=material.device, seed=seed, on_epoch=after)
    return net


def checkpoints(
    material: Material, name: str, split: PixelSplit, count: int, progress: Progress
) -> list[Checkpoint]:
    """Equidistant states of one training on `split`, the last at its end; fewer than `count` where
    it has fewer epochs."""
    epochs = recipe(material, name).epochs
    count = min(count, epochs)
    wanted = [epochs * (k + 1) // count for k in range(count)]
    kept: list[Checkpoint] = []

    def keep(epoch: int, net: Net) -> None:
        if epoch in wanted:
            kept.append(Checkpoint(name, epoch, copy.deepcopy(net).eval()))

    trained(material, name, split, progress, keep)
    return kept


def answers(predictor: Predictor, split: PixelSplit, material: Material) -> tuple[Classes, Classes]:
    """Predicted classes and labels (N,), row by row."""
    predicted, labels = predict(predictor, split, material.device)
    return predicted.numpy(), labels.numpy()


def several(text: str) -> list[str]:
    """The victims that a parameter names, such as vgg-w16+resnet10-w16. ValueError for one that
    does not exist, and for one that is named twice."""
    names = [victim(name).name for name in text.split("+")]
    if len(set(names)) < len(names):
        raise ValueError(f"{text} names a net twice: name each once")
    return names


def _seed(material: Material) -> int:
    """A seed that no surrogate was started from, whatever small numbers both were given."""
    return int.from_bytes(hashlib.sha256(f"analysis {material.seed}".encode()).digest()[:4], "big")
