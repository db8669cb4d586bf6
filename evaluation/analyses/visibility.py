"""How visible the noise is, from the pixels that victims meet: at their size, as delivered.

PSNR and SSIM (Wang et al., IEEE Transactions on Image Processing 2004) are those of the report.
LPIPS (Zhang et al., CVPR 2018) is left out, as its net's weights would have to be fetched.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.analyses.base import Analysis, Findings, Material, Progress, register
from evaluation.analyses.pairs import Pair, pairs
from evaluation.integrity import Visibility, measure
from evaluation.scoring import percent

_BLACK, _WHITE = 0, 255


@register
@dataclass(frozen=True)
class VisibleChange(Analysis):
    """Tells how far protected pixels lie from the clean ones, as victims meet them.

    PSNR, SSIM, levels of 255 and clipping at the side in pixels that images are resized to before
    victims see them; the report's own figures are those of the images as they are stored.
    Clipped values are those that the noise moved to black or white, where it may have been cut; a
    mean shift other than 0 shows truncated or one-sided noise.
    """

    name = "visibility"
    needs_clean = True
    needs_labels = False

    @property
    def cost(self) -> float:
        return 0.1

    def examine(self, material: Material, progress: Progress) -> Findings:
        total, clipped, done = Visibility(), 0, 0
        for pair in pairs(material):
            total = total.merge(measure(_pixels(pair.clean), _pixels(pair.protected)))
            clipped += _clipped(pair)
            done += len(pair.clean)
            progress(done / len(material.protected))
        share = clipped / total.values
        figures = {
            "psnr": total.psnr,
            "ssim": total.ssim,
            "max level": float(total.max_level),
            "rms level": total.rms_level,
            "mean shift": total.shift,
            "clipped": share,
            "changed": total.changed / total.rows,
        }
        return Findings(figures, _sentence(total, share, material.net_size))


def _pixels(levels: Tensor) -> list[np.ndarray]:
    """Images (H,W,C) uint8."""
    return list(levels.to(torch.uint8).permute(0, 2, 3, 1).numpy())


def _clipped(pair: Pair) -> int:
    at_end = (pair.protected == _BLACK) | (pair.protected == _WHITE)
    return int((at_end & (pair.protected != pair.clean)).sum())


def _sentence(total: Visibility, clipped: float, side: int) -> str:
    if total.psnr is None:
        return f"No pixel of the release, at {side}x{side}, differs from the clean images."
    return (
        f"At {side}x{side} pixels, as victims meet it, the noise has a PSNR of {total.psnr:.1f} dB "
        f"and an SSIM of {total.ssim:.3f}, changes a value by at most {total.max_level} of 255 "
        f"levels and by {total.shift:+.2f} on average, and moves {percent(clipped)} of the values "
        "to black or white."
    )
