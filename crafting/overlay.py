"""One noise for many images: laid over images of any size and number of channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def overlaid(x: Tensor, noise: Tensor) -> Tensor:
    """Images (B,C,H,W) plus noise (B or 1,3,S,S), not clipped: each pixel of the image gets the
    noise of the nearest place, and an image of one channel the mean over the noise's channels.
    Neither takes the noise further than it went."""
    stretched = F.interpolate(noise, size=x.shape[-2:], mode="nearest-exact")
    return x + (stretched.mean(1, keepdim=True) if x.shape[1] == 1 else stretched)
