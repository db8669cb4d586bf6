"""Classification by nearest neighbours in the trained net's features (Cover and Hart, IEEE
Transactions on Information Theory 1967; on deep features: Papernot and McDaniel 2018).

The last layer may lean on noise that clean test images lack while the features below still bring
like images together.

Departures:
1. One layer, the penultimate, under the cosine, and a plain vote, as is usual for learnt features;
   Papernot and McDaniel use every layer and calibrate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.batch import Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Train
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.countermeasures.refit_head import features_of

_CHUNK = 8192


@register
@dataclass(frozen=True)
class NearestNeighbours(Countermeasure):
    """Classifies by the training images that look most alike to the trained net.

    neighbours: how many of them vote; ties go to the first class. Clean training keeps nearly all
    of its accuracy.
    """

    name = "knn"
    neighbours: int = 20

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"knn neighbours is a count of at least 1, not {self.neighbours}")

    def hooks(self, setting: Setting) -> Hooks:
        def finish(net: Net, split: Split, train: Train) -> Predictor:
            features, labels = features_of(net, split, setting.device)
            return _Vote(net, features, labels, self.neighbours, setting.num_classes)

        return Hooks(finish=finish)


class _Vote(nn.Module):
    """Votes (B,K) of the nearest of the features (N,D) with labels (N,), as logits."""

    def __init__(
        self, net: Net, features: Tensor, labels: Tensor, neighbours: int, num_classes: int
    ) -> None:
        super().__init__()
        self.net = net
        self.features = F.normalize(features)
        self.labels = labels
        self.neighbours = neighbours
        self.num_classes = num_classes

    def forward(self, x: Tensor) -> Tensor:
        asked = F.normalize(self.net.features(x))
        # In bfloat16 thousands of neighbours would be equally near.
        with torch.autocast(x.device.type, enabled=False):
            labels = self._nearest(asked)
        votes = torch.zeros(len(x), self.num_classes, device=x.device)
        return votes.scatter_add_(1, labels, torch.ones_like(labels, dtype=votes.dtype))

    def _nearest(self, asked: Tensor) -> Tensor:
        """Labels (B,neighbours) of the nearest features to `asked` (B,D); fewer where there are
        fewer. Chunks bound the memory by B x 8,192 numbers."""
        alike = asked.new_empty(len(asked), 0)
        labels = self.labels.new_empty(len(asked), 0)
        for start in range(0, len(self.features), _CHUNK):
            features = self.features[start : start + _CHUNK]
            named = self.labels[start : start + _CHUNK]
            alike = torch.cat([alike, asked @ features.T], 1)
            labels = torch.cat([labels, named.expand(len(asked), -1)], 1)
            alike, at = alike.topk(min(self.neighbours, alike.shape[1]), dim=1)
            labels = labels.gather(1, at)
        return labels
