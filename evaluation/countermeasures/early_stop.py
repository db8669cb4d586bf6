"""Stopping when a few clean images say so (Sandoval-Segura et al., "Poisons that are learned faster
are more effective", CVPR workshops 2022).

Nets learn real features before, or while, they learn the noise. They report that the noise of Fowl
et al. (NeurIPS 2021) hurts about seven times less when training stops at epoch 8. Rows of the
release cannot tell when: validation accuracy on protected rows rises with the training accuracy
(Chen et al., ICLR 2023, figure 4), which is why clean images are asked for.

Departures:
1. The recipe and its learning rates stay those of a full training, of which the best epoch is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from crafting.batch import PixelSplit, Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Train, cross_entropy, predict
from evaluation.countermeasures.base import Setting, register
from evaluation.countermeasures.refit_head import CleanImages, owned_by
from evaluation.scoring import accuracy


@register
@dataclass(frozen=True)
class EarlyStop(CleanImages):
    """Keeps the weights of the epoch that does best on labelled clean images.

    images: how many of them, at most half of the test rows, which give them; of equally good epochs
    the first is kept. Clean training keeps nearly all of its accuracy.
    """

    name = "early-stop"
    images: int = 1000

    @property
    def cost(self) -> float:
        return 1.1

    def hooks(self, setting: Setting) -> Hooks:
        best = _BestEpoch(owned_by(setting, self), setting)
        return Hooks(data=best.data, augment=best.augment, loss=best.loss, finish=best.finish)


class _BestEpoch:
    """Scores the net on clean images when all rows of an epoch were met, and keeps the best."""

    def __init__(self, owned: PixelSplit, setting: Setting) -> None:
        self._owned = owned
        self._device = setting.device
        self._net: nn.Module | None = None
        self._epoch_rows = 0
        self._seen = 0
        self._best = -1.0
        self._state: dict[str, Tensor] = {}

    def data(self, split: Split) -> Split:
        # A last batch of one row is never trained on: the epoch ends before it.
        self._epoch_rows = len(split) - 1
        return split

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Here, and not in `loss`, as weights that autocast keeps from an evaluation would have no
        gradient."""
        if self._net is not None and self._seen >= self._epoch_rows:
            self._score(self._net)
            self._seen = 0
        self._seen += len(x)
        return x, y

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        self._net = net
        return cross_entropy(net, x, y)

    def finish(self, net: Net, split: Split, train: Train) -> Predictor:
        self._score(net)
        net.load_state_dict(self._state)
        return net

    def _score(self, net: nn.Module) -> None:
        predicted, labels = predict(net, self._owned, self._device)
        scored = accuracy(predicted.numpy(), labels.numpy())
        if scored > self._best:
            self._best = scored
            self._state = {name: value.clone() for name, value in net.state_dict().items()}
