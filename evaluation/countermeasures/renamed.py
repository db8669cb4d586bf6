"""Undoing a permutation of the classes with a few labelled clean images.

Methods that teach every class the features of another (Fowl et al., NeurIPS 2021; Chen et al.,
ICLR 2023) may leave a net that tells the classes apart under wrong names. That is a useful net to
whoever owns a few labelled images: the best one-to-one renaming by their confusion counts (Kuhn,
Naval Research Logistics 1955) undoes it. Verification's figure `renamed` is fitted on half of the
test rows; this is what so many images are worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from crafting.batch import Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Train, predict
from evaluation.countermeasures.base import Setting, register
from evaluation.countermeasures.refit_head import CleanImages, owned_by
from evaluation.scoring import confusion, renaming


@register
@dataclass(frozen=True)
class Renamed(CleanImages):
    """Gives the trained net's outputs the class names that suit a few labelled clean images best.

    images: how many of them, at most half of the test rows, which give them. With too few a clean
    net's outputs are renamed by accident, too.
    """

    name = "renamed"

    def hooks(self, setting: Setting) -> Hooks:
        owned = owned_by(setting, self)

        def finish(net: Net, split: Split, train: Train) -> Predictor:
            predicted, labels = predict(net, owned, setting.device)
            counts = confusion(predicted.numpy(), labels.numpy(), setting.num_classes)
            return _Permuted(net, torch.from_numpy(renaming(counts)).to(setting.device))

        return Hooks(finish=finish)


class _Permuted(nn.Module):
    """Logits (B,K) in which class k has those of the net's output `order[k]`."""

    def __init__(self, net: Net, order: Tensor) -> None:
        super().__init__()
        self.net = net
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return logits[:, self.order]
