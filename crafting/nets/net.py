"""A classifier of images of any size: what all architectures share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crafting.nets.resize import resize

# One pair for every dataset: the first BatchNorm learns the rest, and a dataset's own statistics
# would be one more thing that crafting, victims and later releases have to agree on.
_MEAN, _SPREAD = 0.5, 0.25
_SMALL_IMAGE = 64


def is_small(net_size: int) -> bool:
    """Whether images of this side, in pixels, meet a stem that keeps their resolution."""
    return net_size <= _SMALL_IMAGE


class Net(nn.Module):
    """Logits (B,K) and penultimate features (B,D), both float32, of images x (B,C,H,W) in [0,1].

    C is 1 or 3 and H, W any: images are resized to `net_size`, one channel is repeated, and pixels
    are centred here, so that whoever crafts or trains only sees plain images. `body` maps what
    results to features in its own parameters' precision.
    """

    def __init__(self, body: nn.Module, head: nn.Linear, net_size: int) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.net_size = net_size

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits.float()

    def features(self, x: Tensor) -> Tensor:
        """What the head reads, (B,D) float32."""
        features: Tensor = self.body(self._prepared(x))
        return features.float()

    def _prepared(self, x: Tensor) -> Tensor:
        # Autocast would resize in bfloat16, and show other images than crafting does.
        with torch.autocast(x.device.type, enabled=False):
            x = self._centred(resize(x.float(), self.net_size).expand(-1, 3, -1, -1))
        dtype = next(self.body.parameters()).dtype
        return x.to(dtype, memory_format=torch.channels_last)

    def _centred(self, x: Tensor) -> Tensor:
        return (x - _MEAN) / _SPREAD
