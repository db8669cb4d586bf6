"""Deep feature reweighting (Kirichenko et al., ICLR 2023), as used against unlearnable data by
Sandoval-Segura et al., "What Can We Learn from Unlearnable Datasets?", NeurIPS 2023, section 4.2.

They find that nets trained on such data do learn useful features: 15 epochs of L-BFGS at a rate of
0.5 on the last layer, with 5,000 clean images, show it.

Departures:
1. The last layer is fitted from zero, as Kirichenko et al. do; the code of Sandoval-Segura et al.
   goes on from the trained one.
2. Each round sees all clean images, un-augmented and in eval mode; their code takes augmented
   batches of 1,024 in training mode, which also moves the running statistics of the body, and mixes
   the curvature of different batches.
3. Features are standardised, as Kirichenko et al. do.
4. The net is trained by the victim's own recipe before; theirs for 60 epochs.
5. Of a small test split half is taken, so that there may be fewer than 5,000 images.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from crafting.nets import Net
from evaluation.countermeasures.base import register
from evaluation.countermeasures.refit_head import RefitHead, fit_head

_ROUNDS, _ITERATIONS, _RATE = 15, 20, 0.5


@register
@dataclass(frozen=True)
class DeepFeatureReweighting(RefitHead):
    """Re-fits the last layer of the trained net on thousands of labelled clean images.

    images: how many of them, at most half of the test rows, which give them. After clean training
    it changes little.
    """

    name = "dfr"
    images: int = 5000

    def _fit(self, net: Net, features: Tensor, labels: Tensor) -> None:
        fit_head(
            net,
            features,
            labels,
            penalty=0,
            rounds=_ROUNDS,
            iterations=_ITERATIONS,
            lr=_RATE,
            search=None,
        )
