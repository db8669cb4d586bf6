"""Methods that train surrogates on the very images they protect, round after round.

A round starts from what the one before left in its folder, and leaves its own beside it:

    round-0003/surrogate-0.safetensors   the weights of each surrogate
              /optimiser-0.pt            and its optimiser
              /over                      where the method says that no round need follow
              /...                       whatever else the method keeps, such as a noise bank

A folder gets its name once all of it is written, and only then the one before is removed: a fit
that is killed goes on after its last complete round. It leaves the same bytes, as every round reads
its start from disk and draws from its number and the seed alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer

from crafting.batch import Split
from crafting.budget import Budget, Linf
from crafting.method import Context, Method, State
from crafting.nets import ARCHITECTURES, Net, build, for_crafting
from crafting.registry import lookup
from crafting.surrogate import agreed, inside
from crafting.training import Hooks, Recipe, train

_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Turn:
    """What one round is given: its number from 0, the surrogates and their optimisers as the round
    before left them, the folder which that round left, and the one that this round leaves.

    writes: whether this rank is the one that writes there.
    """

    number: int
    nets: list[Net]
    optimisers: list[Optimizer]
    before: Path
    after: Path
    writes: bool


@dataclass(frozen=True, kw_only=True)
class BilevelMethod(Method):
    """A method whose fit plays rounds; subclasses say what happens in one.

    surrogate: a net's name; batch_size, lr: of its training. ValueError for a net that does not
    exist, a rate that is not above 0, and batches of one image.
    """

    surrogate: str = "resnet18"
    batch_size: int = 128
    lr: float = 0.1

    resumes: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf,)

    def __post_init__(self) -> None:
        for name in self.surrogates:
            lookup("net", name, ARCHITECTURES)
        self.demand_above_zero("lr")
        if self.batch_size < 2:
            raise ValueError("a net learns from at least 2 images at a time: set batch_size=128")

    @property
    def surrogates(self) -> tuple[str, ...]:
        return (self.surrogate,)

    @abstractmethod
    def rounds_for(self, ctx: Context) -> int:
        """After so many rounds fit ends in any case. A split that holds a share of the source's
        rows is learnt from in as many steps as all of them would be."""

    @property
    def levels(self) -> int:
        """Of the budget, which is always Linf."""
        assert isinstance(self.budget, Linf), "a bilevel method works within linf alone"
        return self.budget.levels

    @abstractmethod
    def play(self, turn: Turn, data: Split, ctx: Context) -> bool:
        """One round: the turn's nets and optimisers, which are kept for the next, have moved on.
        Returns whether the fit is over; every rank returns the same."""

    def fit(self, data: Split, ctx: Context) -> State:
        """The State after the last round, equal on every rank. Rounds that an earlier fit with the
        same options left in `ctx.scratch` are not played again."""
        with self._scratch(ctx) as folder:
            _begin(folder, ctx)
            number, rounds = _last(folder), self.rounds_for(ctx)
            while number < rounds and not _is_over(folder, number):
                self._next(folder, number, data, ctx)
                number += 1
                ctx.progress(number, rounds)
            return self.fitted(_named(folder, number), ctx)

    def fitted(self, last: Path, ctx: Context) -> State:
        """The State that the last round's folder amounts to; here the surrogates."""
        state: State = {}
        for k, net in enumerate(self._nets(last, ctx)):
            weights = net.state_dict().items()
            state |= {f"surrogate-{k}/{name}": v.cpu().contiguous() for name, v in weights}
        return state

    def frozen(self, state: State, ctx: Context) -> list[Net]:
        """The surrogates of a State, ready for crafting."""
        nets = []
        for k, net in enumerate(self._built(ctx)):
            net.load_state_dict(inside(state, f"surrogate-{k}"))
            nets.append(for_crafting(net, ctx.device))
        return nets

    def train(self, turn: Turn, k: int, data: Split, hooks: Hooks, ctx: Context, lr: float) -> None:
        """The turn's net k went once through the rows of `data` at this rate, in batches of one
        size but for a nearly full last one, and is the same on every rank; its images are not
        augmented."""
        drawn = ctx.shared(f"bilevel-{turn.number}-{k}").integers(2**31)
        train(
            turn.nets[k],
            data,
            _recipe(len(data), self.batch_size, lr),
            device=ctx.device,
            seed=int(drawn),
            hooks=hooks,
            accelerator=ctx.accelerator,
            optimiser=turn.optimisers[k],
        )
        turn.nets[k].load_state_dict(agreed(turn.nets[k].state_dict(), ctx))
        if ctx.accelerator is not None and ctx.world > 1:
            ctx.accelerator.free_memory()  # it would keep a wrapped net of every round

    def last_round(self, ctx: Context) -> Path | None:
        """The folder of the last round in `ctx.scratch`, if there is any."""
        if ctx.scratch is None:
            return None
        folder = self._folder(ctx.scratch, ctx)
        return _named(folder, _last(folder)) if _rounds(folder) else None

    def _next(self, folder: Path, number: int, data: Split, ctx: Context) -> None:
        before, after, writes = _named(folder, number), folder / _UNFINISHED, ctx.rank == 0
        nets = self._nets(before, ctx)
        turn = Turn(number, nets, self._optimisers(nets, before, ctx), before, after, writes)
        if writes:
            after.mkdir(mode=0o700)
        over = self.play(turn, data, ctx)
        if writes:
            _keep(turn, over)
            after.rename(_named(folder, number + 1))
        meet(ctx)
        if writes:
            shutil.rmtree(before)

    def _nets(self, folder: Path, ctx: Context) -> list[Net]:
        """The surrogates that a round left, on ctx.device; new ones before the first round."""
        nets = self._built(ctx)
        for k, net in enumerate(nets):
            if (path := folder / f"surrogate-{k}.safetensors").exists():
                net.load_state_dict(load_file(path))
            net.to(ctx.device)
        return nets

    def _built(self, ctx: Context) -> list[Net]:
        seeds = ctx.shared("bilevel").integers(2**31, size=len(self.surrogates)).tolist()
        named = zip(self.surrogates, seeds, strict=True)
        return [build(name, ctx.num_classes, ctx.net_size, seed=seed) for name, seed in named]

    def _optimisers(self, nets: list[Net], folder: Path, ctx: Context) -> list[Optimizer]:
        made = []
        for k, net in enumerate(nets):
            optimiser = _recipe(1, 1, self.lr).optimiser_of(net)
            if (path := folder / f"optimiser-{k}.pt").exists():
                optimiser.load_state_dict(torch.load(path, "cpu", weights_only=True))
            made.append(optimiser)
        return made

    @contextmanager
    def _scratch(self, ctx: Context) -> Iterator[Path]:
        if ctx.scratch is not None:
            yield self._folder(ctx.scratch, ctx)
            return
        assert ctx.world == 1, "ranks that fit together need a scratch folder that all of them see"
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)

    def _folder(self, scratch: Path, ctx: Context) -> Path:
        """Its own within the scratch folder, which the parts of a mixture share."""
        key = json.dumps(self.fit_key(), sort_keys=True).encode()
        return scratch / hashlib.sha256(ctx.seed + key).hexdigest()[:16]


def meet(ctx: Context) -> None:
    """Every rank has come here."""
    if ctx.accelerator is not None:
        ctx.accelerator.wait_for_everyone()


def clipped(limit: float) -> Callable[[nn.Module, Optimizer], None]:
    """A step hook: the gradient of all parameters together is at most so long."""

    def clip(net: nn.Module, optimiser: Optimizer) -> None:
        nn.utils.clip_grad_norm_(net.parameters(), limit)

    return clip


def _recipe(rows: int, batch_size: int, lr: float) -> Recipe:
    """One epoch at a constant rate; a last batch of a few rows would upset BatchNorm."""
    size = _even_size(rows, batch_size)
    return Recipe(1, size, lr, nesterov=False, schedule="multistep", augment=False)


def _even_size(rows: int, wanted: int) -> int:
    """Of batches: as large as equal parts nearest to the wanted size, unless another size within an
    eighth of that leaves a fuller last batch."""
    equal = -(-rows // max(1, round(rows / wanted)))
    near = range(wanted - wanted // 8, wanted + wanted // 8 + 1)
    sizes = [equal, *sorted(near, key=lambda size: abs(size - wanted))]
    return min(sizes, key=lambda size: -rows % size)  # rows that the last batch lacks


def _begin(folder: Path, ctx: Context) -> None:
    """The folder holds its last complete round and nothing else, or an empty round 0."""
    if ctx.rank == 0:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
        for number in _rounds(folder)[:-1]:
            shutil.rmtree(_named(folder, number))
        if not _rounds(folder):
            _named(folder, 0).mkdir(mode=0o700)
    meet(ctx)


def _keep(turn: Turn, over: bool) -> None:
    for k, (net, optimiser) in enumerate(zip(turn.nets, turn.optimisers, strict=True)):
        weights = {name: v.cpu().contiguous() for name, v in net.state_dict().items()}
        save_file(weights, turn.after / f"surrogate-{k}.safetensors")
        torch.save(optimiser.state_dict(), turn.after / f"optimiser-{k}.pt")
    if over:
        (turn.after / "over").touch()


def _named(folder: Path, number: int) -> Path:
    return folder / f"round-{number:04d}"


def _rounds(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("round-")) for path in folder.glob("round-*"))


def _last(folder: Path) -> int:
    return _rounds(folder)[-1]


def _is_over(folder: Path, number: int) -> bool:
    return (_named(folder, number) / "over").exists()
