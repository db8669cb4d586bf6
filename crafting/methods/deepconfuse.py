"""Noise that one pass of a generator paints, which learnt to lead classifiers astray as they train.

Feng, Cai, Zhou: "Learning to Confuse: Generating Training Time Adversarial Data with Auto-Encoder",
NeurIPS 2019, arXiv 1905.09027.

With g_xi an encoder and decoder, E the budget and CE the loss of a classifier f_theta,

    noise   d_xi(x) = E tanh(g_xi(x))
    max_xi  CE(f_theta*(x), y)      where theta* is what training on (x + d_xi(x), y) ends with

by rounds. In each a new classifier takes steps of SGD on x + d_xi', with xi' the generator as the
round before left it. At every theta on this way, with the batch that theta steps on next,

    theta'(xi) = theta - lr grad_theta CE(f_theta(x + d_xi(x)), y)                   a pseudo-step
    xi  climbs   CE(f_theta'(xi)(x), y)             by Adam, differentiated through the pseudo-step

so that the way itself does not change while xi does; then xi' = xi. The generator sees images at
the size that nets see and of three channels: others are resized and their one channel is repeated,
and its noise is resized back (bilinear), and averaged over channels. Labels are for fit alone.

**Departures** from the paper and its code:

1. The last round's generator is kept. The code keeps the one whose classifier, trained from
   scratch, has the lowest accuracy on the test set, which is not ours to look at.
2. The classifier is one of our nets, by default vgg16, with BatchNorm; theirs is VGG11.
3. In a pseudo-step BatchNorm goes by the batch, the noisy and the clean one each by its own, and
   its running statistics stay as they were.
4. The generator's layers are normalised image by image, so that it does the same alone, in company,
   in fit and in crafting. It adds what each level saw on the way down, where a U-Net joins it, and
   has one convolution a level, the way down with a stride, where theirs has two and pools.
5. A theta is not recorded: xi takes its step just before theta takes its own, which is the same.
6. Images are clipped to [0,1] while the classifier learns, as they are when released. linf:8 is
   0.0314; theirs is 0.032.
7. Over several ranks each takes the pseudo-step of its own share of a batch.
8. 500 rounds are what we take the paper's to be, and could not check; the code's default is 1000.
9. `quick` has a small net, a small generator that learns 10 times as fast, and few short rounds.

**Expected** of `paper`, ResNet-18 on CIFAR-10 at 0.032: 28.8 % test accuracy (as run by Huang et
al. 2021), 15.2 % (APBench, with the authors' generator). `quick` is too short to protect: on 5,000
rows, one seed, vgg-w16 reaches 66.5 and resnet10-w16 66.6 %, as without noise (67.0 and 67.3 %).
Its 3 rounds of 2 epochs take a core 4 minutes there; `paper` has 500 rounds of 20.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import SGD, Adam

from crafting.batch import Batch, ShownSplit, Split
from crafting.bilevel import BilevelMethod, Turn
from crafting.method import Context, Crafter, State
from crafting.nets import build
from crafting.nets.resize import resize
from crafting.registry import register
from crafting.surrogate import inside, over_ranks
from crafting.training import Hooks

_GENERATOR, _WEIGHTS, _ADAM = "generator", "generator.safetensors", "adam.pt"
_UPDATE_COST = 14.0
"""What a step of the generator takes, relative to one of the classifier: measured with `quick`,
whose generator is as large as its classifier."""


class Generator(nn.Module):
    """Noise of the shape of images x (B,C,H,W) in [0,1], between -1 and 1, each image's by itself.

    It works at size x size pixels: down to a 2^depth-th of that with ever more channels, of `width`
    at the start, and up again, where what each level saw on the way down is added.
    """

    def __init__(self, width: int, depth: int, size: int) -> None:
        super().__init__()
        self.size = size
        widths = [width * 2**level for level in range(depth + 1)]
        self.first = _layer(3, width)
        self.down = nn.ModuleList(_layer(a, b, stride=2) for a, b in pairwise(widths))
        self.narrow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_layer(a, a) for a in widths[:-1])
        self.last = nn.Conv2d(width, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        noise = self._painted(resize(x, self.size).expand(-1, 3, -1, -1)).tanh()
        if channels == 1:
            noise = noise.mean(1, keepdim=True)
        return resize(noise, height, width)

    def _painted(self, x: Tensor) -> Tensor:
        seen = [self.first((x - 0.5) / 0.25)]
        for layer in self.down:
            seen.append(layer(seen[-1]))
        painted = seen.pop()
        for narrow, layer in zip(reversed(self.narrow), reversed(self.up), strict=True):
            beside = seen.pop()
            enlarged = F.interpolate(narrow(painted), beside.shape[2:], mode="nearest")
            painted = layer(enlarged + beside)
        noise: Tensor = self.last(painted)
        return noise


@dataclass(frozen=True, kw_only=True)
class DeepConfuse(BilevelMethod):
    """`deepconfuse`: lr, without momentum or decay, is that of pseudo-steps, too.

    rounds: each with a new classifier, which goes inner_epochs times through the rows;
    generator_lr: of Adam; generator_width: channels at full size; generator_depth: how often the
    size is halved on the way. ValueError for a generator without channels, of negative depth, or
    that does not learn.
    """

    surrogate: str = "vgg16"
    batch_size: int = 256
    lr: float = 0.01
    rounds: int = 500
    inner_epochs: int = 20
    generator_lr: float = 1e-4
    generator_width: int = 64
    generator_depth: int = 3

    paper: ClassVar[str] = (
        "Learning to Confuse: Generating Training Time Adversarial Data with Auto-Encoder, "
        "NeurIPS 2019"
    )
    bibtex: ClassVar[str] = """@inproceedings{feng2019learning,
  title = {Learning to Confuse: Generating Training Time Adversarial Data with Auto-Encoder},
  author = {Feng, Ji and Cai, Qi-Zhi and Zhou, Zhi-Hua},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019},
  eprint = {1905.09027},
  archiveprefix = {arXiv}
}"""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.demand_above_zero("generator_lr")
        if self.generator_width < 1 or self.generator_depth < 0:
            raise ValueError(
                "a generator has at least 1 channel and is not halved fewer than 0 times: set "
                "generator_width=16 generator_depth=2"
            )

    def rounds_for(self, ctx: Context) -> int:
        return self.rounds

    @property
    def fit_passes(self) -> int:
        """A step of the generator for each of the classifier."""
        return self.rounds * self.inner_epochs

    @property
    def fit_epochs(self) -> int:
        """Epochs of the classifier, and those that take as long as the generator's."""
        return round(self.rounds * self.inner_epochs * (1 + _UPDATE_COST))

    def play(self, turn: Turn, data: Split, ctx: Context) -> bool:
        """A new classifier has trained on noise that stayed, the generator beside it; never over
        before the last round."""
        self._reset(turn, ctx)
        old, new = (self._generator(turn.before, ctx) for _ in range(2))
        adam = self._adam(new, turn.before, ctx)
        follower = Follower(turn.nets[0], new, adam, self.levels / 255, self.lr)

        def shown(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            follower.step(x, y, ctx)
            with torch.no_grad():
                return disturbed(old, x, self.levels / 255), y

        epochs = round(self.inner_epochs / ctx.fit_share)
        for epoch in range(epochs):
            part = ShownSplit(data, first_epoch=turn.number * epochs + epoch)
            self.train(turn, 0, part, Hooks(augment=shown), ctx, self.lr)
        if turn.writes:
            save_file(_weights(new), turn.after / _WEIGHTS)
            torch.save(adam.state_dict(), turn.after / _ADAM)
        return False

    def fitted(self, last: Path, ctx: Context) -> State:
        """`generator/<parameter>` float32: the generator alone."""
        return _weights(self._generator(last, ctx))

    def crafter(self, state: State, ctx: Context) -> Crafter:
        generator = self._new_generator(ctx)
        generator.load_state_dict(inside(state, _GENERATOR))
        generator.to(ctx.device)

        @torch.no_grad()
        def craft(batch: Batch) -> Tensor:
            return disturbed(generator, batch.x.to(ctx.device), self.levels / 255)

        return craft

    def _reset(self, turn: Turn, ctx: Context) -> None:
        """The turn's classifier is one that nothing has trained, with an optimiser of its own."""
        seed = int(ctx.shared(f"deepconfuse-{turn.number}").integers(2**31))
        (net,) = turn.nets
        net.load_state_dict(build(self.surrogate, ctx.num_classes, ctx.net_size, seed).state_dict())
        turn.optimisers[0] = SGD(net.parameters(), self.lr)

    def _generator(self, folder: Path, ctx: Context) -> Generator:
        """The generator that a round left, on ctx.device; a new one before the first round."""
        generator = self._new_generator(ctx)
        if (path := folder / _WEIGHTS).exists():
            generator.load_state_dict(inside(load_file(path), _GENERATOR))
        return generator.to(ctx.device)

    def _new_generator(self, ctx: Context) -> Generator:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(ctx.shared("deepconfuse").integers(2**31)))
            return Generator(self.generator_width, self.generator_depth, ctx.net_size)

    def _adam(self, generator: Generator, folder: Path, ctx: Context) -> Adam:
        adam = Adam(generator.parameters(), self.generator_lr)
        if (path := folder / _ADAM).exists():
            adam.load_state_dict(torch.load(path, "cpu", weights_only=True))
        return adam


class Follower:
    """Improves a generator while `net` trains, each time for the weights that `net` has then.

    bound: E, of 1; lr: of pseudo-steps.
    """

    def __init__(
        self, net: nn.Module, generator: nn.Module, adam: Adam, bound: float, lr: float
    ) -> None:
        self.net, self.generator, self.adam = net, generator, adam
        self.bound, self.lr = bound, lr
        self._double = copy.deepcopy(net).train()  # BatchNorm's statistics move in it instead

    def step(self, x: Tensor, y: Tensor, ctx: Context) -> None:
        """The generator is one step of Adam better for images (B,C,H,W), equally on every rank."""
        parameters = list(self.generator.parameters())
        gradients = torch.autograd.grad(self.loss(x, y), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = over_ranks(gradient, ctx) / ctx.world
        self.adam.step()

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """What the generator descends: the mean -CE of the clean images x (B,C,H,W), one
        pseudo-step on the noisy ones further."""
        weights = {n: p.detach().requires_grad_() for n, p in self.net.named_parameters()}
        noisy = disturbed(self.generator, x, self.bound)
        learnt = self._cross_entropy(weights, noisy, y)
        towards = torch.autograd.grad(learnt, list(weights.values()), create_graph=True)
        moved = {
            name: weight - self.lr * gradient
            for (name, weight), gradient in zip(weights.items(), towards, strict=True)
        }
        return -self._cross_entropy(moved, x, y)

    def _cross_entropy(self, weights: State, x: Tensor, y: Tensor) -> Tensor:
        logits: Tensor = functional_call(self._double, weights, (x,))
        return F.cross_entropy(logits, y)


def disturbed(generator: nn.Module, x: Tensor, bound: float) -> Tensor:
    """Images x (B,C,H,W) with the generator's noise, of at most `bound`, clipped to [0,1]."""
    noise: Tensor = generator(x)
    return (x + bound * noise).clamp(0, 1)


def _layer(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, padding=1)
    return nn.Sequential(convolution, nn.GroupNorm(1, after), nn.ReLU())


def _weights(generator: Generator) -> State:
    kept = generator.state_dict().items()
    return {f"{_GENERATOR}/{name}": value.cpu().contiguous() for name, value in kept}


_QUICK: dict[str, Any] = {
    "surrogate": "vgg-w16",
    "batch_size": 50,
    "lr": 0.1,
    "rounds": 3,
    "inner_epochs": 2,
    "generator_lr": 1e-3,
    "generator_width": 16,
    "generator_depth": 2,
}

register("deepconfuse", paper=DeepConfuse(), quick=DeepConfuse(**_QUICK))
