"""Contrastive training without labels and a linear probe (Chen et al., "A Simple Framework for
Contrastive Learning of Visual Representations", ICML 2020; loss: equation 1).

Noise that is tied to labels is no shortcut for a net that never sees them. Views and loss are those
of crafting/contrastive.py.

Departures:
1. The recipe's SGD, rate and number of epochs, with batches of 512; the paper trains 1,000 epochs
   with LARS. Few epochs on few images give weak features: compare with the clean twin only.
2. The order of the four jitters is drawn for a batch, not for an image, and hues turn in YIQ, not
   in HSV: both let a batch be a few tensor operations. Crops wider or higher than the image are cut
   to it, where torchvision draws again.
3. The probe is the logistic regression of refit-head on standardised features.
4. `clean`: without labels in the release the probe learns from clean images of the appropriator's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from crafting.batch import Split
from crafting.contrastive import BATCH, Contrast
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Recipe, Train
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.countermeasures.refit_head import features_of, fit_head, owned_by


@register
@dataclass(frozen=True)
class SimCLR(Countermeasure):
    """Trains without labels, by telling views of one image from others, then fits a linear probe.

    temperature: of the contrastive loss; clean: labelled clean images that the probe learns from,
    at most half of the test rows, which give them, or 0 for the release's own labels; epochs: 0 for
    as many as the recipe has. Clean training loses much accuracy where epochs are few.
    """

    name = "simclr"
    needs_labels = False
    is_watched = False  # its head learns at the end
    temperature: float = 0.5
    epochs: int = 0
    clean: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"simclr temperature is above 0, not {self.temperature}")
        if min(self.epochs, self.clean) < 0:
            raise ValueError("simclr epochs and clean are counts of at least 0")

    @property
    def cost(self) -> float:
        return 2.6

    @property
    def clean_images(self) -> int:
        return self.clean

    def missing(self, *, labelled: bool, has_twin: bool, num_classes: int) -> str | None:
        if not (labelled or self.clean):
            return (
                f"countermeasure {self} fits its probe on labels, and the release has no labels "
                "(simclr:clean=1000 takes clean ones)"
            )
        return super().missing(labelled=labelled, has_twin=has_twin, num_classes=num_classes)

    def recipe(self, recipe: Recipe) -> Recipe:
        epochs = self.epochs or recipe.epochs
        return replace(recipe, epochs=epochs, batch_size=BATCH, augment=False)

    def hooks(self, setting: Setting) -> Hooks:
        owned = owned_by(setting, self) if self.clean else None
        training = _Probed(self.temperature, owned, setting.device)
        return Hooks(
            data=training.data,
            augment=training.augment,
            loss=training.loss,
            step=training.step,
            finish=training.finish,
        )


class _Probed(Contrast):
    """One training, and what the probe learns from."""

    def __init__(self, temperature: float, owned: Split | None, device: torch.device) -> None:
        super().__init__(temperature)
        self._owned = owned
        self._device = device

    def data(self, split: Split) -> Split:
        if self._owned is None and next(split.batches(1)).y is None:
            raise ValueError(
                "simclr fits its probe on labels, and the release has none: try simclr:clean=1000"
            )
        return split

    def finish(self, net: Net, split: Split, train: Train) -> Predictor:
        labelled = split if self._owned is None else self._owned
        fit_head(net, *features_of(net, labelled, self._device))
        return net
