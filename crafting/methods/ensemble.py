"""Conventional ensemble: images adversarial to many nets that were trained independently.

Chen, Yuan, Cheng, Gong, Qin, Wang, Huang: "Self-Ensemble Protection: Training Checkpoints Are Good
Data Protectors", ICLR 2023, arXiv 2211.12005: what they compare self-ensembles with (section 4.3,
table 4, and figure 1), 5 architectures trained with 6 seeds each.

With f^k the k-th of n nets, h^k its penultimate features, c^k[y] their mean over class y on clean
images and g(y) = (y + K/2) mod K,

    features=false   x' descends  sum_k CE(f^k(x'), g(y))
    features=true    x' descends  sum_k MSE(h^k(x'), c^k[g(y)])

by signed steps from the clean image. Its State has a folder for every net, numbered as they are
named (`net-00/...`), and their class centres (`centres/net-00` (K,D) float32).

**Departures** from the paper, which says no more than the numbers of nets and steps:

1. The loss, the targets and the step are those of `sep`, Eq. 3, so that nothing but the nets
   differs; `features` takes those of `sep-fa`.
2. `normalise` divides each net's gradient by its mean magnitude, as in `sep`; it matters more here,
   where architectures differ in the size of their gradients. Off in `paper`, on in `quick`.
3. `quick` has two small nets, two seeds of each, 20 epochs, and steps of 2 levels. A victim of
   neither architecture (resnet10-w16) is left.

**Expected** of `paper` at linf:2 on CIFAR-10, which costs 30 times the training of `sep`: 16.3 %
test accuracy for ResNet-18, 16.9 SENet-18, 29.2 VGG-16, 16.7 DenseNet-121, 20.3 GoogLeNet (sep:
19.9, 17.8, 28.1, 18.1, 22.5; about 95 % clean). None of those victims is held out. `quick` on
5,000 rows at linf:8, one seed: vgg-w16 13.8 %, resnet10-w16 14.9 % (clean 67.0 and 67.3 %).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from torch import Tensor

from crafting.batch import Batch, ShownSplit, Split
from crafting.budget import L2, Budget, Linf, Sum
from crafting.descent import Walk, demand_reach, mean_direction
from crafting.method import Context, Crafter, Method, State
from crafting.methods.self_ensemble import SelfEnsemble, TrainedNets
from crafting.nets import ARCHITECTURES, Net, for_crafting
from crafting.registry import lookup, register
from crafting.surrogate import class_centres, for_share, inside, loaded, target_classes, trained
from crafting.training import RecipeName, named_recipe


@dataclass(frozen=True, kw_only=True)
class ConventionalEnsemble(Method):
    """`ensemble`: nets: names with commas between them; seeds: how many nets of each name;
    surrogate_epochs and surrogate_recipe: how each is trained; steps: how many, of step_levels (of
    255) each; features: pull features rather than logits; normalise: every net's gradient counts
    alike. ValueError for nets that do not exist, that repeat, or are none."""

    nets: str = "resnet18,senet18,vgg16,densenet121,googlenet"
    seeds: int = 6
    surrogate_epochs: int = 120
    surrogate_recipe: RecipeName = "sep"
    steps: int = 30
    step_levels: float = 1.0
    features: bool = False
    normalise: bool = False

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf, L2, Sum)
    target_shift: ClassVar[str] = SelfEnsemble.target_shift
    paper: ClassVar[str] = SelfEnsemble.paper
    bibtex: ClassVar[str] = SelfEnsemble.bibtex

    def __post_init__(self) -> None:
        for name in self.surrogates:
            lookup("net", name, ARCHITECTURES)
        if len(set(self.surrogates)) < len(self.surrogates):
            raise ValueError(f"{self.nets} names a net twice: set seeds for several of one name")
        demand_reach(self.budget, self.steps, self.step_levels)

    @property
    def surrogates(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.nets.split(","))

    @property
    def members(self) -> list[tuple[str, int]]:
        """The name and the seed's number of every net."""
        return [(name, seed) for seed in range(self.seeds) for name in self.surrogates]

    @property
    def passes(self) -> int:
        return self.steps * len(self.members)

    @property
    def fit_epochs(self) -> int:
        return self.surrogate_epochs * len(self.members)

    def fit_key(self) -> dict[str, Any]:
        training = (self.surrogate_recipe, self.surrogate_epochs)
        return {"ensemble": self.members, "training": training}

    def fit(self, data: Split, ctx: Context) -> State:
        """Every net and its class centres, equal on every rank. A net, and the orders in which it
        meets the rows, depend on its name and its seed, not on which others there are."""
        state: State = {}
        for k, (name, seed) in enumerate(self.members):
            weights = self._trained(name, seed, data, replace(ctx, progress=self._told(k, ctx)))
            state |= {f"{_folder(k)}/{key}": value for key, value in weights.items()}
            net = _ready(name, weights, ctx)
            state[f"centres/{_folder(k)}"] = class_centres([net], data, ctx)[0].cpu()
        return state

    def crafter(self, state: State, ctx: Context) -> Crafter:
        folders = {_folder(k): name for k, (name, _) in enumerate(self.members)}
        nets = TrainedNets(
            [_ready(name, inside(state, folder), ctx) for folder, name in folders.items()],
            [state[f"centres/{folder}"].to(ctx.device) for folder in folders],
            target_classes(ctx, ctx.num_classes // 2),
        )

        def craft(batch: Batch) -> Tensor:
            batch = batch.to(ctx.device)
            y = batch.labels()
            losses = nets.alignment(y) if self.features else nets.misclassification(y)
            walk = Walk(batch.x, self.budget, self.step_levels)
            return walk.descend(batch.x, mean_direction(losses, self.normalise), self.steps)

        return craft

    def _trained(self, name: str, seed: int, data: Split, ctx: Context) -> State:
        recipe = named_recipe(self.surrogate_recipe, name, self.surrogate_epochs)
        recipe = for_share(recipe, ctx)
        stream = f"ensemble-{name}-{seed}"
        orders = int(ctx.shared(f"{stream}-orders").integers(2**31))
        own = ShownSplit(data, first_epoch=orders)
        (weights,) = trained(name, recipe, own, ctx, kept_at=[recipe.epochs], stream=stream)
        return weights

    def _told(self, k: int, ctx: Context) -> Callable[[int, int], None]:
        """Progress of the k-th net as progress of all."""
        count = len(self.members)
        return lambda done, total: ctx.progress(k * total + done, count * total)


def _folder(k: int) -> str:
    return f"net-{k:02d}"


def _ready(name: str, weights: State, ctx: Context) -> Net:
    return for_crafting(loaded(name, weights, ctx), ctx.device)


register(
    "ensemble",
    paper=ConventionalEnsemble(),
    quick=ConventionalEnsemble(
        nets="vgg-w16,resnet18-w16",
        seeds=2,
        surrogate_epochs=20,
        surrogate_recipe="fast",
        steps=12,
        step_levels=2.0,
        normalise=True,
    ),
)
