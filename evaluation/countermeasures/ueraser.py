"""UEraser (Qin et al., 2023, "Learning the Unlearnable: Adversarial Augmentations Suppress
Unlearnable Example Attacks", ICCV workshop on adversarial robustness).

Every image goes through plasma brightness, plasma contrast, a shuffle of its channels (each with
probability 0.5, as in the authors' stand-alone code) and TrivialAugment (Mueller & Hutter, ICCV
2021). UEraser-Lite trains on one draw; UEraser-Max descends the mean over images of the greatest
loss among five. The plasma is fractal noise by the diamond-square algorithm (Fournier, Fussell &
Carpenter, 1982). APBench (Qin et al., 2023) reports for Max, on CIFAR-10 with a ResNet-18: 93.6 for
EM, 79.1 for TAP, 90.1 for AR, 78.0 for OPS, against 20.8, 6.3, 11.7 and 14.7 without it.

Departures:
1. TrivialAugment has the narrower of its paper's spaces (RA: shears of 0.3, shifts of 10 pixels,
   turns of 30 degrees, factors from 0.1 to 1.9, 4 bits or more) and draws an operation for each
   image. The kornia version that the authors use is about as narrow, and draws one operation for a
   batch. `space=wide` is what torchvision has: it shifts images by up to 32 pixels, and of five
   draws one usually leaves nothing to see. With it, vgg-w16 learnt nothing in 20 epochs of 5,000
   clean rows (10 %) under Max, with the narrow one 58 %.
2. The plasma starts from a grid of 3 x 3 uniform draws; kornia divides its corners and centre by 3,
   which makes it darker.
3. The draws of one image share its crop and flip, as in the authors' code; the variant that is
   adversarial for the first 50 to 60 of 200 epochs and Lite afterwards is not offered, and neither
   is the one for TAP and AR that ends in JPEG.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.training import Hooks
from evaluation.countermeasures.base import Countermeasure, Setting, register

Space = Literal["narrow", "wide"]
"""How far TrivialAugment's operations go."""

_ROUGHNESS, _INTENSITY = (0.3, 0.7), (0.5, 1.0)
_MAGNITUDES = 31
_LUMA = (0.2989, 0.587, 0.114)  # as torchvision rounds them


@register
@dataclass(frozen=True)
class UEraserLite(Countermeasure):
    """Trains on images with fractal brightness and contrast, shuffled channels and TrivialAugment.

    probability: of each of the first three, for each image anew, from 0 to 1; space: how far
    TrivialAugment goes, `narrow` or `wide`. Clean training needs more epochs.
    """

    name = "ueraser-lite"
    probability: float = 0.5
    space: Space = "narrow"

    def __post_init__(self) -> None:
        _check_probability(self.name, self.probability)

    @property
    def cost(self) -> float:
        return 1.2

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(augment=lambda x, y: (drawn(x, self.probability, self.space), y))


@register
@dataclass(frozen=True)
class UEraserMax(Countermeasure):
    """Trains on the worst of several UEraser draws of each image.

    draws: how many, from 1; probability: of plasma brightness, plasma contrast and shuffled
    channels, each for each draw anew, from 0 to 1; space: how far TrivialAugment goes, `narrow` or
    `wide`. An epoch takes `draws` times as long; clean training needs more epochs.
    """

    name = "ueraser-max"
    draws: int = 5
    probability: float = 0.5
    space: Space = "narrow"

    def __post_init__(self) -> None:
        _check_probability(self.name, self.probability)
        if self.draws < 1:
            raise ValueError(f"ueraser-max draws are at least 1, not {self.draws}")

    @property
    def cost(self) -> float:
        return 1.2 * self.draws

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(loss=self._greatest)

    def _greatest(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        losses = []
        for _ in range(self.draws):
            with torch.autocast(x.device.type, enabled=False):
                image = drawn(x, self.probability, self.space)
            losses.append(F.cross_entropy(net(image), y, reduction="none"))
        return torch.stack(losses).amax(0).mean()


def _check_probability(name: str, probability: float) -> None:
    if not 0 <= probability <= 1:
        raise ValueError(f"{name} probability is from 0 to 1, not {probability}")


def drawn(x: Tensor, probability: float, space: Space = "narrow") -> Tensor:
    """One UEraser draw of each image x (B,C,H,W) in [0,1]; so is what is returned."""
    x = _on_some(x, probability, plasma_brightness)
    x = _on_some(x, probability, plasma_contrast)
    x = _on_some(x, probability, shuffled_channels)
    return trivially_augmented(x, space)


def _on_some(x: Tensor, probability: float, change: Callable[[Tensor], Tensor]) -> Tensor:
    chosen = torch.nonzero(torch.rand(len(x)) < probability)[:, 0].to(x.device)
    return x.index_copy(0, chosen, change(x[chosen])) if len(chosen) else x


def plasma_brightness(x: Tensor) -> Tensor:
    """Images with fractal noise from -i to i added, i each image's own intensity."""
    intensity = torch.empty(len(x), 1, 1, 1).uniform_(*_INTENSITY)
    return (x + ((2 * plasma(x.shape) - 1) * intensity).to(x.device)).clamp(0, 1)


def plasma_contrast(x: Tensor) -> Tensor:
    """Images whose distances from mid-grey are multiplied by fractal noise from 0 to 4."""
    return ((x - 0.5) * (4 * plasma(x.shape)).to(x.device) + 0.5).clamp(0, 1)


def shuffled_channels(x: Tensor) -> Tensor:
    """Images with their channels in an order of each one's own."""
    order = torch.rand(x.shape[:2]).argsort(1).to(x.device)
    return x.gather(1, order[:, :, None, None].expand_as(x))


def plasma(shape: torch.Size) -> Tensor:
    """Fractal noise (B,C,H,W) in [0,1], of another roughness for each image."""
    count, channels, height, width = shape
    roughness = torch.empty(count, 1, 1, 1).uniform_(*_ROUGHNESS)
    grid, scale = torch.rand(count, channels, 3, 3), roughness
    while grid.shape[2] < max(height, width):
        grid, scale = _refined(grid, scale), scale * roughness
    return grid[:, :, :height, :width]


def _refined(grid: Tensor, scale: Tensor) -> Tensor:
    """A grid (B,C,n,n) with 2n-1 points to a side: each new one is the mean of its neighbours,
    `scale` of which is replaced by a fresh draw."""
    side = 2 * grid.shape[2] - 1
    finer = torch.rand(*grid.shape[:2], side, side).mul_(scale)
    share = 1 - scale
    finer[:, :, ::2, ::2] = grid
    above = grid[:, :, :-1] + grid[:, :, 1:]
    centres = finer[:, :, 1::2, 1::2].add_(share * (above[..., :-1] + above[..., 1:]) / 4)
    beside = grid[..., :-1] + grid[..., 1:]
    finer[:, :, ::2, 1::2] += share * _mean_of_four(beside, centres, 2)
    finer[:, :, 1::2, ::2] += share * _mean_of_four(above, centres, 3)
    return finer


def _mean_of_four(pairs: Tensor, centres: Tensor, dim: int) -> Tensor:
    """The mean of two grid points and the centres on both sides along `dim`, or the one at the
    border."""
    sums, counts = pairs.clone(), torch.full((pairs.shape[dim],), 4.0)
    inner = centres.shape[dim]
    sums.narrow(dim, 0, inner).add_(centres)
    sums.narrow(dim, 1, inner).add_(centres)
    counts[[0, -1]] = 3.0
    return sums / (counts[:, None] if dim == 2 else counts)


def trivially_augmented(x: Tensor, space: Space = "narrow") -> Tensor:
    """Images (B,C,H,W) in [0,1], each changed by one operation of TrivialAugment."""
    kinds = torch.randint(len(OPERATIONS), (len(x),))
    places = torch.linspace(0, 1, _MAGNITUDES)[torch.randint(_MAGNITUDES, (len(x),))]
    signs = torch.where(torch.rand(len(x)) < 0.5, -1.0, 1.0)
    result = x.clone()
    reach = _SPACES[space]
    for kind, (name, operation) in enumerate(OPERATIONS.items()):
        chosen = torch.nonzero(kinds == kind)[:, 0]
        if len(chosen):
            levels = x[chosen.to(x.device)].mul(255).round()
            level, sign = (each[chosen].to(x.device) for each in (places, signs))
            far = (reach.get(name, 1.0) * level)[:, None, None, None]
            changed = operation(levels, far, sign[:, None, None, None])
            result[chosen.to(x.device)] = changed.clamp(0, 255) / 255
    return result


Operation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images (B,C,H,W) in grey levels 0 to 255, the magnitude (B,1,1,1) from 0 to 1 and its sign, to
images that may leave the range."""


def _moved(x: Tensor, matrix: list[list[Tensor | float]]) -> Tensor:
    """Each image read at the places to which its matrix (2,3) maps it: pixels from its middle."""
    height, width = x.shape[2:]
    ratios = torch.tensor([[1, height / width, 2 / width], [width / height, 1, 2 / height]])
    rows = [torch.stack([_each(x, value) for value in row], 1) for row in matrix]
    grid = F.affine_grid(
        torch.stack(rows, 1) * ratios.to(x.device), list(x.shape), align_corners=False
    )
    return F.grid_sample(x, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def _each(x: Tensor, value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=x.dtype, device=x.device).flatten().expand(len(x))


def _shear_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    slope = 0.99 * level * sign
    return _moved(x, [[1, slope, slope * x.shape[2] / 2], [0, 1, 0]])


def _shear_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    slope = 0.99 * level * sign
    return _moved(x, [[1, 0, 0], [slope, 1, slope * x.shape[3] / 2]])


def _translate_x(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, [[1, 0, -(32 * level * sign).trunc()], [0, 1, 0]])


def _translate_y(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _moved(x, [[1, 0, 0], [0, 1, -(32 * level * sign).trunc()]])


def _rotate(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    angle = math.radians(135) * level * sign
    cos, sin = angle.cos(), angle.sin()
    return _moved(x, [[cos, -sin, 0], [sin, cos, 0]])


def _blend(x: Tensor, other: Tensor | float, level: Tensor, sign: Tensor) -> Tensor:
    return other + (1 + 0.99 * level * sign) * (x - other)


def _luma(x: Tensor) -> Tensor:
    """(B,1,H,W)"""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor(_LUMA, device=x.device).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True).floor()


def _brightness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(x, 0.0, level, sign)


def _colour(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(x, _luma(x), level, sign)


def _contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return _blend(x, _luma(x).mean((2, 3), keepdim=True), level, sign)


def _sharpness(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    smooth = x.clone()
    if min(x.shape[2:]) > 2:
        inner = x[:, :, 1:-1, 1:-1]
        smooth[:, :, 1:-1, 1:-1] = ((9 * F.avg_pool2d(x, 3, 1) + 4 * inner) / 13).round()
    return _blend(x, smooth, level, sign)


def _posterize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    step = torch.exp2((6 * level).round())
    return (x / step).floor() * step


def _solarize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return torch.where(x >= 255 * (1 - level), 255 - x, x)


def _auto_contrast(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    stretched: Tensor = functional.autocontrast(x.to(torch.uint8))
    return stretched.to(x.dtype)


def _equalize(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    from torchvision.transforms.v2 import functional

    flat: Tensor = functional.equalize(x.to(torch.uint8))
    return flat.to(x.dtype)


def _identity(x: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    return x


OPERATIONS: Mapping[str, Operation] = {
    "Identity": _identity,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _brightness,
    "Color": _colour,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _auto_contrast,
    "Equalize": _equalize,
}
"""TrivialAugment's wide space, under torchvision's names."""
_SPACES: Mapping[Space, Mapping[str, float]] = {
    "narrow": {
        **dict.fromkeys(("ShearX", "ShearY"), 0.3 / 0.99),
        **dict.fromkeys(("TranslateX", "TranslateY"), 10 / 32),
        "Rotate": 30 / 135,
        **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), 0.9 / 0.99),
        "Posterize": 4 / 6,
    },
    "wide": {},
}
"""How far an operation goes, as a share of how far the wide space lets it."""
