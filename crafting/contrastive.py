"""Learning what images have in common without labels: two views of each are to be told from those
of others (Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations",
ICML 2020, arXiv 2002.05709; loss: equation 1).

Views are those of the paper for CIFAR, without blur: crops, flips, colour jitter of strength 0.5
with probability 0.8, grey with probability 0.2. Crops have 20 to 100 % of the area, as those take
who train on CIFAR after it; the paper's begin at 8 %. Views can be differentiated with respect to
the images, and give the same sums every time on a GPU too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from crafting.nets import Net
from crafting.training import Recipe

BATCH = 512
"""Images of which each is told from all others."""
_PROJECTED = 128
_LEAST_AREA, _LEAST_RATIO = 0.2, 3 / 4
_JITTERED, _JITTER, _HUE = 0.8, 0.4, 0.1
_GREY = 0.2
_RATE, _WEIGHT_DECAY = 1e-3, 1e-6
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_RGB = torch.linalg.inv(_YIQ)


def contrastive_recipe(epochs: int, batch_size: int = BATCH) -> Recipe:
    """AdamW at a constant rate of 0.001, as SimCLR is trained on CIFAR by those who build on it."""
    return Recipe(
        epochs,
        batch_size,
        lr=_RATE,
        weight_decay=_WEIGHT_DECAY,
        schedule="multistep",
        augment=False,
        optimiser="adamw",
    )


class Contrast:
    """The training hooks of one contrastive training, and the projection head that it throws away.

    Labels are never looked at.
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self._projection: nn.Module | None = None
        self._is_joined = False

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([view(x), view(x)]), torch.cat([y, y])

    def loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Of 2B views, i and B + i of one image; y is not read."""
        assert isinstance(net, Net)
        features = net.features(x)
        if self._projection is None:
            self._projection = projection_head(features.shape[1]).to(x.device)
        return nt_xent(self._projection(features), self.temperature)

    def step(self, net: nn.Module, optimiser: Optimizer) -> None:
        """The projection head learns with the body, at the same rate and with the same decay, from
        the first step on."""
        assert self._projection is not None
        if not self._is_joined:
            body = optimiser.param_groups[0]
            alike = {name: body[name] for name in ("lr", "weight_decay")}
            optimiser.add_param_group({"params": list(self._projection.parameters()), **alike})
            self._is_joined = True


def projection_head(features: int) -> nn.Module:
    """From features (B,D) to the 128 numbers whose angles are compared."""
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
    generator, but for the order of the changes, which is one for all; one channel is cropped,
    flipped and changes its brightness and contrast only."""
    x = cropped(x)
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
            x = turned(x, turns)
        x = x.clamp(0, 1)
    return torch.where(is_grey.to(x.device), _luma(x), x)


def cropped(x: Tensor) -> Tensor:
    """A part of each image, of 20 to 100 % of its area and sides of 3:4 to 4:3, as large as the
    image, mirrored or not."""
    count, _, height, width = x.shape
    area = _LEAST_AREA + (1 - _LEAST_AREA) * torch.rand(count)
    ratio = torch.exp((2 * torch.rand(count) - 1) * math.log(_LEAST_RATIO))
    wide = (area * ratio * height / width).sqrt().clamp(max=1)
    tall = (area / ratio * width / height).sqrt().clamp(max=1)
    across, down = 2 * torch.rand(2, count) - 1
    mirrored = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    rows = _read_at(tall, (1 - tall) * down, height).to(x.device)
    columns = _read_at(wide * mirrored, (1 - wide) * across, width).to(x.device)
    return rows[:, None] @ x.float() @ columns[:, None].mT


def _read_at(scale: Tensor, shift: Tensor, length: int) -> Tensor:
    """(B,length,length): the matrices that read a line of pixels, which spans -1 to 1, at
    scale * place + shift; bilinear, its ends going on for ever."""
    pixels = torch.arange(length, dtype=torch.float32)
    places = (2 * pixels + 1) / length - 1
    sources = ((scale[:, None] * places + shift[:, None] + 1) * length - 1) / 2
    return (1 - (pixels - sources.clamp(0, length - 1)[..., None]).abs()).clamp_min(0)


def _luma(x: Tensor) -> Tensor:
    """(B,1,H,W); one channel stays as it is."""
    if x.shape[1] == 1:
        return x
    return torch.einsum("c,bchw->bhw", _YIQ[0].to(x.device), x)[:, None]


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Hues turned by so many (B,) full turns; one channel stays as it is."""
    if x.shape[1] == 1:
        return x
    angle = turns * 2 * math.pi
    turning = torch.eye(3).repeat(len(x), 1, 1)
    turning[:, 1, 1] = turning[:, 2, 2] = angle.cos()
    turning[:, 1, 2], turning[:, 2, 1] = angle.sin(), -angle.sin()
    maps = (_RGB @ turning @ _YIQ).to(x.device)
    return torch.einsum("bij,bjhw->bihw", maps, x)
