"""Adversarial training against convolutions (Sadasivan et al., CVPR 2023, "CUDA").

Their adaptive adversary for data that was protected by one convolution per class: each class has a
transposed convolution, 7x7 and the same for every channel, whose entries stay within +-5; it
climbs the loss of its class in 10 steps of 0.1 times the gradient, anew for each batch, and the net
learns from the images that come out.

Departures from their code:
1. The search starts at the identity with a little noise, not at random kernels: those blur most
   images away before the adversary has taken a step, which a net trained on a few thousand images
   does not outlive.
2. What comes out is stretched to the range of the image that went in, not to 0 to 1: the identity
   then changes nothing, and test images are no darker or flatter than what the net has learnt from.
3. The adversary climbs the loss of these images, which are those the net learns from, not of the
   raw output; without a bias, which stretching takes out again.
4. The net is attacked in eval mode: in training mode each step would move BatchNorm's statistics.

Measured: with the defaults vgg-w16 learns next to nothing from a few thousand clean images in 10
epochs (see the test accuracy of the clean twin); `deconv-at:steps=3,eta=0.01` is milder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.adversarial import PGD_STEP_COST, in_eval_mode
from crafting.training import Hooks, cross_entropy
from evaluation.countermeasures.base import Countermeasure, Setting, register

_LIMIT = 5.0
_NOISE = 0.01
"""Of the start, evenly either side."""
_FLAT = 1e-6
_CONVOLUTION_COST = 0.4
"""Of one convolution and its gradient, relative to a step of training."""


@register
@dataclass(frozen=True)
class DeconvolutionTraining(Countermeasure):
    """Trains on images that each class's own convolution has made as hard as possible.

    kernel: its side in pixels, odd; steps: of the search for the hardest convolutions; eta: the
    length of a step, times the gradient. Costs much accuracy on clean images.
    """

    name = "deconv-at"
    kernel: int = 7
    steps: int = 10
    eta: float = 0.1

    def __post_init__(self) -> None:
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise ValueError(f"deconv-at needs an odd kernel of 1 or more, not {self.kernel}")
        if self.steps < 1:
            raise ValueError(f"deconv-at takes at least 1 step, not {self.steps}")
        if not 0 < self.eta < math.inf:
            raise ValueError(f"deconv-at needs an eta above 0, not {self.eta:g}")

    @property
    def cost(self) -> float:
        return 1 + (PGD_STEP_COST + _CONVOLUTION_COST) * self.steps

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(loss=self._loss)

    def _loss(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        classes, places = torch.unique(y, return_inverse=True)
        members = F.one_hot(places, len(classes)).float()
        kernels = self._hardest(net, x, y, members)
        return cross_entropy(net, deconvolved(x, kernels, members), y)

    def _hardest(self, net: nn.Module, x: Tensor, y: Tensor, members: Tensor) -> Tensor:
        """(K,kernel,kernel): the kernels of the K classes of these images, as `deconvolved`
        takes them, after the last step."""
        kernels = self._start(members.shape[1]).to(x.device)
        share = (members / members.sum(0)).sum(1)  # of its class's mean, each image's
        with in_eval_mode(net):
            for _ in range(self.steps):
                kernels.requires_grad_(True)
                logits = net(deconvolved(x, kernels, members))
                losses = F.cross_entropy(logits, y, reduction="none")
                (gradient,) = torch.autograd.grad((share * losses).sum(), kernels)
                kernels = (kernels.detach() + self.eta * gradient).clamp(-_LIMIT, _LIMIT)
        return kernels

    def _start(self, count: int) -> Tensor:
        kernels = (2 * torch.rand(count, self.kernel, self.kernel) - 1) * _NOISE
        kernels[:, self.kernel // 2, self.kernel // 2] += 1
        return kernels


def deconvolved(x: Tensor, kernels: Tensor, members: Tensor) -> Tensor:
    """Images (B,C,H,W), each through the transposed convolution with the kernel (K,k,k) of its
    class, 1 in members (B,K), and stretched so that its darkest and brightest value are what they
    were."""
    side = kernels.shape[-1]
    # Autocast would convolve in bfloat16, which loses grey levels.
    with torch.autocast(x.device.type, enabled=False):
        # A product, as indexing does not add up gradients in the same order every time.
        own = (members @ kernels.flatten(1)).view(len(x), 1, side, side)
        layers = x.float().transpose(0, 1).contiguous()  # (C,B,H,W): one group an image
        out = F.conv_transpose2d(layers, own, padding=side // 2, groups=len(x)).transpose(0, 1)
    low, high = _range(out)
    dark, bright = _range(x)
    return dark + (out - low) / (high - low).clamp_min(_FLAT) * (bright - dark)


def _range(x: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value of each image, (B,1,1,1)."""
    return x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
