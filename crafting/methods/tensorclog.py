"""TensorClog: training on the images moves a net's weights as little as possible.

Shen, Zhu, Ma: "TensorClog: An Imperceptible Poisoning Attack on Deep Neural Network Applications",
IEEE Access 7, 2019 (no arXiv version known). Reference code: the baseline in adversarial_poisons at
a1d58d8, of Fowl et al. (arXiv 2103.02683), who compare it with gradient alignment.

With theta the weights of one trained net and G the gradient of a batch,

    G = grad_theta  mean_i CE(f(aug(x'_i)), y_i)
    x' descends  |G|_2

with the walk of `alignment`: decaying signed Adam from noise N(0,1) * E clipped to the budget, each
step through a fresh shift and mirroring. The images of a batch are crafted together, as |G| is of
all of them.

**Departures** from the reference code:

1. The gradient of |G| with respect to an image is that of <v, grad_theta CE(x'_i)>, v = G/|G| held
   still, up to its length: differentiated forward over v and backward over x' (`direction=jvp`),
   it is the same as the code's double backward at less cost. `direction=difference` is the loss at
   theta + h v less the loss at theta - h v, which no longer measures |G|: a long h asks for images
   that a step of training makes no easier. It is the default of `quick`.
2. Of several restarts a batch keeps the one with the lowest |G| without shifts; the code keeps one
   for the whole set.
3. As in `alignment`: Adam's second moment is 1, steps are in grey levels, noise and shifts are
   keyed by the image and a secret seed.
4. The paper is about transfer, where a pretrained net's features are frozen; here every weight
   counts, as in the code.
5. `quick` has one restart, 33 steps, and the last checkpoint of a small net.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at linf:8: 84.2 % test accuracy (Fowl et al., clean
93.2 %); others report 88.7 and 48.1 %. A weak baseline. `quick` on 5,000 rows, one
seed: vgg-w16 52.2 %, resnet10-w16 49.9 % (clean 67.0 and 67.3 %).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from crafting.batch import Batch
from crafting.method import Context, Crafter, State
from crafting.nets import Net
from crafting.registry import register
from crafting.slopes import PAPER_SLOPES, QUICK_SLOPES, SlopeMethod, Slopes
from crafting.tangent import Slope, Surroundings, mean_gradient, norm, unit


@dataclass(frozen=True, kw_only=True)
class TensorClog(SlopeMethod):
    """`tensorclog`: a batch's gradient is made short."""

    stream: ClassVar[str] = "tensorclog"
    paper: ClassVar[str] = (
        "TensorClog: An Imperceptible Poisoning Attack on Deep Neural Network Applications, "
        "IEEE Access 2019"
    )
    bibtex: ClassVar[str] = """@article{shen2019tensorclog,
  title = {{TensorClog}: An Imperceptible Poisoning Attack on Deep Neural Network Applications},
  author = {Shen, Juncheng and Zhu, Xiaolei and Ma, De},
  journal = {IEEE Access},
  volume = {7},
  pages = {41498--41506},
  year = {2019},
  doi = {10.1109/ACCESS.2019.2905915}
}"""

    def crafter(self, state: State, ctx: Context) -> Crafter:
        net = self.load_unfolded(state, ctx).to(ctx.device)
        slopes = self._slopes(net, ctx)

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            tries = [self._attempt(slopes, batch, ctx, r) for r in range(self.restarts)]
            return tries[0] if len(tries) == 1 else _shortest(net, batch.labels(), tries)

        return craft

    def _slopes(self, net: Net, ctx: Context) -> Slopes:
        around = Surroundings(net, ctx.device)

        def downhill(x: Tensor, y: Tensor) -> Slope:
            gradient = unit(mean_gradient(net, x, y))
            return self._slope(around, {name: -value for name, value in gradient.items()})

        return downhill


def _shortest(net: Net, y: Tensor, tries: list[Tensor]) -> Tensor:
    """The whole batch's restart with the shortest gradient."""
    lengths = [norm(mean_gradient(net, x, y)) for x in tries]
    return tries[lengths.index(min(lengths))]


register(
    "tensorclog",
    paper=TensorClog(**PAPER_SLOPES),
    quick=TensorClog(steps=33, **QUICK_SLOPES),
)
