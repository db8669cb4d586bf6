"""Unlearnable clusters: images that look alike get one noise together, which makes them look like
the next cluster; no labels are needed.

Zhang, Ma, Yi, Sang, Jiang, Wang, Xu: "Unlearnable Clusters: Towards Label-Agnostic Unlearnable
Examples", CVPR 2023, arXiv 2301.01217. Reference code: Unlearnable-Clusters at bfe4d7f.

With E a surrogate's features and mu_1..mu_p the centres that k-means finds among them, each cluster
C_i gets the noise that a generator G_i draws from fixed uniform noise sigma, trained to minimise

    mean over x in C_i of  KL( softmax(mu_{i+1}) || softmax(E(x + clamp(G_i(sigma)))) )

with the clamp to the budget and i + 1 mod p. A row is assigned to the centre nearest to its clean
features, whether fit saw it or not, and released with its cluster's noise.

**Departures** from the paper and its code:

1. The surrogates of the paper are ImageNet's and CLIP's ResNet-50, whose weights this program does
   not bring: `weights` takes a file of them, for a net of `surrogate` or for `timm:NAME`, such as
   surrogate=timm:resnet50_clip, which sees images at the size, and with the mean and spread of
   colours, it was made for. Without a file the surrogate is trained by SimCLR on the split itself,
   which needs no labels either.
2. `trained_on=cluster` as the paper's equation has it; the code trains every generator on all
   images (`trained_on=all`: p times the cost, and the steps).
3. Noise is drawn at net size and stretched to each image (the code's `resize_type: noise`); the
   code's default cuts the released images to 224 pixels instead. Images of one channel get its mean
   over colours.
4. Images are resized to the surrogate's size; generators see them in the code enlarged, cut at
   random and mirrored.
5. The generator's borders are zero, not reflected, for the same sums every time on a GPU.
6. Of more than 100,000 rows k-means sees a draw of so many.
7. Rows are known by their features, not by their place in a list of files.
8. Weight decay is AdamW's: a small net's features are small, and so is the loss; added to its
   gradient, as in the code's Adam, decay would outweigh it.
9. All generators start from one sigma, and their rate falls epoch by epoch; in the code each has
   its own, and the rate falls step by step.
10. `quick` has fewer epochs at ten times the rate and a smaller generator.

Every rank trains the surrogate on the whole split and takes the first's; ranks share out the
generators.

**Expected** of the paper, with labels that the protector never saw, ResNet-18 at linf:16 on Pets,
Cars, Flowers, Food, SUN and an ImageNet subset: 12.2, 33.6, 35.6, 55.3, 20.4 and 54.8 % (clean
62.3, 67.2, 67.2, 79.0, 43.1 and 77.8 %); with CLIP's weights 4.7, 4.7, 10.1, 19.1, 3.9 and 39.8 %.
`quick` does not protect so few rows of CIFAR-10 from victims with their own labels (one seed):
5,000 rows at linf:8 vgg-w16 66.9 %, resnet10-w16 66.6 % (clean 67.0 and 67.3 %); 1,500 rows at
linf:16 vgg-w16 51.4 % (clean 52.8 %), where the loss fell by 13 to 63 %.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from crafting.batch import Batch, Split
from crafting.budget import Budget, Linf
from crafting.encoder import demand_encoder, fitted_encoder, load_encoder
from crafting.generator import Generator
from crafting.method import Context, Crafter, Method, State
from crafting.nets import ARCHITECTURES, Net
from crafting.overlay import overlaid
from crafting.registry import register
from crafting.surrogate import agreed, over_ranks
from crafting.weights import told

_CENTRES, _NOISE = "clusters/centres", "clusters/noise"
_CLUSTERED = 100_000
_READ = 250
_WEIGHT_DECAY, _LAST_RATE = 5e-4, 1e-6
_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class UnlearnableClusters(Method):
    """`uc`: surrogate is a net's name, here or as timm:NAME; weights is the path of its state dict,
    empty to train it for surrogate_epochs; generator_rate falls to 1e-6 along a cosine.

    temperature: of that training; clusters: how many, each with a generator of generator_width
    channels and generator_blocks blocks, trained for generator_epochs; trained_on: the images of
    its own cluster, or all.
    ValueError for a net that does not exist, weights that are no file, and fewer than 2 clusters.
    """

    surrogate: str = "resnet50"
    weights: str = ""
    surrogate_epochs: int = 200
    temperature: float = 0.5
    clusters: int = 10
    generator_epochs: int = 50
    generator_rate: float = 1e-4
    generator_width: int = 64
    generator_blocks: int = 6
    trained_on: Literal["cluster", "all"] = "cluster"

    needs_labels: ClassVar[bool] = False
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf,)
    paper: ClassVar[str] = (
        "Unlearnable Clusters: Towards Label-Agnostic Unlearnable Examples, CVPR 2023"
    )
    bibtex: ClassVar[str] = """@inproceedings{zhang2023unlearnable,
  title = {Unlearnable Clusters: Towards Label-Agnostic Unlearnable Examples},
  author = {Zhang, Jiaming and Ma, Xingjun and Yi, Qi and Sang, Jitao and Jiang, Yu-Gang and
            Wang, Yaowei and Xu, Changsheng},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year = {2023},
  eprint = {2301.01217},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        demand_encoder(self.surrogate, self.weights)
        if self.clusters < 2:
            raise ValueError("clusters is at least 2, each drawn to the next: set clusters=10")
        self.demand_above_zero("generator_rate", "temperature")

    @property
    def passes(self) -> int:
        """A look at the row to find its cluster."""
        return 1

    @property
    def fit_passes(self) -> int:
        """The generators' passes through the surrogate."""
        return self.generator_epochs * (self.clusters if self.trained_on == "all" else 1)

    @property
    def fit_epochs(self) -> int:
        """Two views of each image an epoch, and the generators' passes through the surrogate."""
        trained = 0 if self.weights else 2 * self.surrogate_epochs
        return trained + self.fit_passes

    @property
    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,) if self.surrogate in ARCHITECTURES else ()

    def fit_key(self) -> dict[str, Any]:
        return super().fit_key() | {"weights": _told(self.weights)}

    def published(self, settings: Mapping[str, str]) -> dict[str, str]:
        return {**settings, **({"weights": _told(self.weights)} if "weights" in settings else {})}

    def fit(self, data: Split, ctx: Context) -> State:
        """The surrogate's body, the centres (p,D) and the clusters' noise (p,3,S,S) at net size,
        equal on every rank. ValueError where there are fewer rows than clusters."""
        if len(data) < self.clusters:
            raise ValueError(f"{len(data)} rows make no {self.clusters} clusters: lower clusters")
        first_half = replace(ctx, progress=lambda done, total: ctx.progress(done, 2 * total))
        state = fitted_encoder(
            self.surrogate, self.weights, data, first_half, self.surrogate_epochs, self.temperature
        )
        net = load_encoder(self.surrogate, state, ctx)
        found = agreed({_CENTRES: _centres(net, data, self.clusters, ctx)}, ctx)
        noise = self._noise(net, found[_CENTRES].to(ctx.device), data, ctx)
        return state | found | {_NOISE: noise.cpu()}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        net = load_encoder(self.surrogate, state, ctx)
        centres, noise = state[_CENTRES].to(ctx.device), state[_NOISE].to(ctx.device)

        def craft(batch: Batch) -> Tensor:
            x = batch.x.to(ctx.device)
            return overlaid(x, noise[nearest(net, x, centres)])

        return craft

    def _noise(self, net: Net, centres: Tensor, data: Split, ctx: Context) -> Tensor:
        """(p,3,S,S) within the budget; each rank trains its share of the generators."""
        members = _members(net, centres, data, ctx)
        noise = torch.zeros(self.clusters, 3, ctx.net_size, ctx.net_size, device=ctx.device)
        for i in range(ctx.rank, self.clusters, ctx.world):
            rows = data if self.trained_on == "all" else data.take(members[i])
            pull = _Pull(net, centres[(i + 1) % self.clusters])
            noise[i] = self._drawn(i, rows, pull, ctx)
            ctx.progress(self.clusters + i + 1, 2 * self.clusters)
        return over_ranks(noise, ctx)

    def _drawn(self, i: int, rows: Split, pull: _Pull, ctx: Context) -> Tensor:
        """The noise (3,S,S) that the trained generator of cluster i draws, clamped."""
        source, seed = _sigma(ctx), int(ctx.shared(f"uc-generator-{i}").integers(2**31))
        generator = Generator(self.generator_width, self.generator_blocks, seed).to(ctx.device)
        epochs = round(self.generator_epochs / ctx.fit_share)
        optimiser = AdamW(generator.parameters(), self.generator_rate, weight_decay=_WEIGHT_DECAY)
        schedule = CosineAnnealingLR(optimiser, epochs, _LAST_RATE)
        for epoch in range(epochs):
            for batch in rows.batches(_BATCH, epoch):
                noise = self.budget.nearest(generator(source))
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(pull(batch.x.to(ctx.device), noise))
                optimiser.step()
            schedule.step()
        with torch.no_grad():
            return self.budget.nearest(generator(source))[0]


@dataclass(frozen=True)
class _Pull:
    """How far images are, with a noise, from looking like a cluster's centre (D,)."""

    net: Net
    centre: Tensor

    def __call__(self, x: Tensor, noise: Tensor) -> Tensor:
        """The mean of KL(softmax(centre) || softmax(features)) over images (B,C,H,W)."""
        seen = self.net.features(overlaid(x, noise).clamp(0, 1)).log_softmax(1)
        return F.kl_div(seen, self.centre.softmax(0).expand_as(seen), reduction="batchmean")


def _told(weights: str) -> str:
    return told(weights) if weights else ""


def nearest(net: Net, x: Tensor, centres: Tensor) -> Tensor:
    """(B,) int64: the centre (p,D) that is nearest to each image's features."""
    return _closest(_features(net, x), centres)


def _closest(features: Tensor, centres: Tensor) -> Tensor:
    apart = torch.cdist(features, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.argmin(1)


@torch.no_grad()
def _features(net: Net, x: Tensor) -> Tensor:
    return net.features(x)


def _centres(net: Net, data: Split, clusters: int, ctx: Context) -> Tensor:
    """(p,D) float32: the centres that scikit-learn finds."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    rng = ctx.shared("uc-k-means")
    if len(data) > _CLUSTERED:
        data = data.take(sorted(rng.choice(data.numbers(), _CLUSTERED, replace=False).tolist()))
    features = np.concatenate([seen.cpu().numpy() for _, seen in _looks(net, data, ctx)])
    with threadpool_limits(1):  # several threads add up in the order in which they end
        means = KMeans(clusters, n_init=10, random_state=int(rng.integers(2**31))).fit(features)
    return torch.from_numpy(means.cluster_centers_).float()


def _members(net: Net, centres: Tensor, data: Split, ctx: Context) -> list[list[int]]:
    """The row numbers of each cluster, ascending."""
    members: list[list[int]] = [[] for _ in centres]
    for rows, seen in _looks(net, data, ctx):
        for row, cluster in zip(rows.tolist(), _closest(seen, centres).tolist(), strict=True):
            members[cluster].append(row)
    return members


def _looks(net: Net, data: Split, ctx: Context) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers (B,) and features (B,D), batch by batch."""
    for batch in data.batches(_READ):
        yield batch.rows, _features(net, batch.x.to(ctx.device))


def _sigma(ctx: Context) -> Tensor:
    """(1,3,S,S) uniform in [0,1): what every generator draws from."""
    drawn = ctx.shared("uc-sigma").random((1, 3, ctx.net_size, ctx.net_size), dtype=np.float32)
    return torch.from_numpy(drawn).to(ctx.device)


register(
    "uc",
    paper=UnlearnableClusters(budget=Linf(16)),
    quick=UnlearnableClusters(
        budget=Linf(16),
        surrogate="vgg-w16",
        surrogate_epochs=20,
        generator_epochs=20,
        generator_rate=1e-3,
        generator_width=16,
        generator_blocks=2,
    ),
)
