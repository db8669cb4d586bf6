"""Contrastive training without labels and a linear probe (Chen et al., "A Simple Framework for
Contrastive Learning of Visual Representations", ICML 2020; loss: equation 1).

Noise that is tied to labels is no shortcut for a net that never sees them. Augmentations are those
of the paper for CIFAR, without blur: crops of 20 to 100 % of the area, flips, colour jitter of
strength 0.5 with probability 0.8, grey with probability 0.2.

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

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from crafting.batch import Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Recipe, Train
from evaluation.countermeasures.base import Countermeasure, Setting, register
from evaluation.countermeasures.refit_head import features_of, fit_head, owned_by

_BATCH, _PROJECTED = 512, 128
_LEAST_AREA, _LEAST_RATIO = 0.2, 3 / 4
_JITTERED, _JITTER, _HUE = 0.8, 0.4, 0.1
_GREY = 0.2
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = torch.linalg.inv(_YIQ)


@register
@dataclass(frozen=True)
class SimCLR(Countermeasure):
    """Trains without labels, by telling views of one image from others, then fits a linear probe.

    temperature: of the contrastive loss; clean: labelled clean images that the probe learns from,
    0 for the release's own labels; epochs: 0 for as many as the recipe has. Clean training loses
    much accuracy where epochs are few.
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
        return replace(recipe, epochs=epochs, batch_size=_BATCH, augment=False)

    def hooks(self, setting: Setting) -> Hooks:
        owned = owned_by(setting, self) if self.clean else None
        training = _Contrast(self.temperature, owned, setting.device)
        return Hooks(
            data=training.data,
            augment=training.augment,
            loss=training.loss,
            step=training.step,
            finish=training.finish,
        )


class _Contrast:
    """One training: the projection head that it throws away, and what the probe learns from."""

    def __init__(self, temperature: float, owned: Split | None, device: torch.device) -> None:
        self._temperature = temperature
        self._owned = owned
        self._device = device
        self._projection: nn.Module | None = None
        self._is_joined = False

    def data(self, split: Split) -> Split:
        if self._owned is None and next(split.batches(1)).y is None:
            raise ValueError(
                "simclr fits its probe on labels, and the release has none: try simclr:clean=1000"
            )
        return split

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([view(x), view(x)]), torch.cat([y, y])

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        assert isinstance(net, Net)
        features = net.features(x)
        if self._projection is None:
            self._projection = _projection(features.shape[1]).to(x.device)
        return nt_xent(self._projection(features), self._temperature)

    def step(self, net: nn.Module, optimiser: Optimizer) -> None:
        """The projection head learns with the body, at the same rate, from the first step on."""
        assert self._projection is not None
        if not self._is_joined:
            rate = optimiser.param_groups[0]["lr"]
            optimiser.add_param_group({"params": list(self._projection.parameters()), "lr": rate})
            self._is_joined = True

    def finish(self, net: Net, split: Split, train: Train) -> Predictor:
        labelled = split if self._owned is None else self._owned
        fit_head(net, *features_of(net, labelled, self._device))
        return net


def _projection(features: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, _PROJECTED)
    )


def nt_xent(projected: Tensor, temperature: float) -> Tensor:
    """The mean over 2B views, of which i and B + i are of one image, of -log softmax of the other
    view's cosine over those of all others, divided by the temperature; 0 for one image."""
    with torch.autocast(projected.device.type, enabled=False):
        unit = F.normalize(projected.float())
        alike = unit @ unit.T / temperature
        itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        twins = torch.arange(len(unit), device=unit.device).roll(len(unit) // 2)
        return F.cross_entropy(alike.masked_fill(itself, -math.inf), twins)


def view(x: Tensor) -> Tensor:
    """Another look at each image (B,C,H,W) in [0,1], drawn for each of them from torch's global
    generator; one channel is cropped, flipped and changes its brightness and contrast only."""
    x = _cropped(x)
    strength = (torch.rand(len(x), 1, 1, 1) < _JITTERED) * _JITTER
    factors = 1 + (2 * torch.rand(3, len(x), 1, 1, 1) - 1) * strength
    turns = (2 * torch.rand(len(x)) - 1) * (strength.flatten() > 0) * _HUE
    order, is_grey = torch.randperm(4).tolist(), torch.rand(len(x), 1, 1, 1) < _GREY
    brightness, contrast, saturation = factors.to(x.device)
    for change in order:
        if change == 0:
            x = x * brightness
        elif change == 1:
            x = torch.lerp(_luma(x).mean((2, 3), keepdim=True), x, contrast)
        elif change == 2:
            x = torch.lerp(_luma(x), x, saturation)
        else:
            x = _turned(x, turns)
        x = x.clamp(0, 1)
    return torch.where(is_grey.to(x.device), _luma(x), x)


def _cropped(x: Tensor) -> Tensor:
    """A part of each image, of 20 to 100 % of its area and sides of 3:4 to 4:3, as large as the
    image, mirrored or not."""
    count, _, height, width = x.shape
    area = _LEAST_AREA + (1 - _LEAST_AREA) * torch.rand(count)
    ratio = torch.exp((2 * torch.rand(count) - 1) * math.log(_LEAST_RATIO))
    wide = (area * ratio * height / width).sqrt().clamp(max=1)
    tall = (area / ratio * width / height).sqrt().clamp(max=1)
    across, down = 2 * torch.rand(2, count) - 1
    mirrored = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    zero = torch.zeros(count)
    rows = [wide * mirrored, zero, (1 - wide) * across, zero, tall, (1 - tall) * down]
    maps = torch.stack(rows, 1).view(count, 2, 3).to(x.device)
    grid = F.affine_grid(maps, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _luma(x: Tensor) -> Tensor:
    """(B,1,H,W); one channel stays as it is."""
    if x.shape[1] == 1:
        return x
    return torch.einsum("c,bchw->bhw", _YIQ[0].to(x.device), x)[:, None]


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """Hues turned by so many (B,) full turns; one channel stays as it is."""
    if x.shape[1] == 1:
        return x
    angle = turns * 2 * math.pi
    turning = torch.eye(3).repeat(len(x), 1, 1)
    turning[:, 1, 1] = turning[:, 2, 2] = angle.cos()
    turning[:, 1, 2], turning[:, 2, 1] = angle.sin(), -angle.sin()
    maps = (_RGB @ turning @ _YIQ).to(x.device)
    return torch.einsum("bij,bjhw->bihw", maps, x)
