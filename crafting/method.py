"""What a protection method is: `fit` sees the whole split once and returns tensors, `crafter`
turns those tensors into a function of one batch. A method holds its hyper-parameters, nothing else.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from crafting.batch import Batch, Split
from crafting.budget import Budget, Linf

if TYPE_CHECKING:
    from accelerate import Accelerator

State = dict[str, Tensor]
"""What fit leaves for crafting, by name such as `checkpoint-00/head.weight`; the part before the
first slash names the file it is kept in. Secret: with it anyone can subtract the noise."""

Scope = Literal["sample", "batch", "dataset"]
Unseen = Literal["exact", "approximate", "refused"]
Crafter = Callable[[Batch], Tensor]
Distribution = Literal["normal", "uniform"]


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """Where a method runs and what it may know besides its State.

    shape is (C,H,W), or None where images differ in size; net_size is the side in pixels that nets
    resize to; seed and row_key are secret: row_key gives a row's digest, which depends on its image
    bytes and label but not on its place; target_map[y] is the class that class y is pulled towards,
    where the owner chose one; fit_share is the share of the source's rows that the split handed to
    fit holds; scratch: a folder that fit and crafting share, and all ranks see, for what is too
    large for a State, and for what an interrupted fit goes on from, made (0700) by the method that
    uses it; progress(done, total) tells how far fit has come, and may interrupt it by raising.
    """

    num_classes: int
    shape: tuple[int, int, int] | None
    net_size: int
    device: torch.device
    seed: bytes
    row_key: Callable[[int], bytes]
    rank: int = 0
    world: int = 1
    accelerator: Accelerator | None = None
    scratch: Path | None = None
    target_map: tuple[int, ...] | None = None
    fit_share: float = 1.0
    progress: Callable[[int, int], None] = field(default=_silent)

    def noise(
        self, rows: Tensor, stream: str, shape: tuple[int, ...], kind: Distribution = "normal"
    ) -> Tensor:
        """Noise (B, *shape) float32 that depends on the seed, the stream and each row's image
        bytes and label alone: N(0,1), or uniform in [-1,1]."""
        drawn = [self._draw(self.row_key(int(row)), stream, shape, kind) for row in rows]
        return torch.from_numpy(np.stack(drawn)).to(self.device)

    def shared(self, stream: str) -> np.random.Generator:
        """A fresh generator, the same for every row, rank and batch that asks for this stream."""
        return self._generator(b"shared", stream)

    def _draw(
        self, key: bytes, stream: str, shape: tuple[int, ...], kind: Distribution
    ) -> np.ndarray:
        generator = self._generator(key, stream)
        if kind == "normal":
            return generator.standard_normal(shape, dtype=np.float32)
        return generator.random(shape, dtype=np.float32) * 2 - 1

    def _generator(self, key: bytes, stream: str) -> np.random.Generator:
        digest = hashlib.sha256(self.seed + b"\0" + stream.encode() + b"\0" + key).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """A protection method; its dataclass fields are its options (`--set NAME=VALUE`)."""

    budget: Budget = field(default_factory=lambda: Linf(8))

    scope: ClassVar[Scope] = "sample"
    """What an output may depend on besides State: its own row, its batch, or the whole split."""
    unseen: ClassVar[Unseen] = "exact"
    """Whether the crafter takes rows that fit never saw."""
    keyed: ClassVar[bool] = True
    """Whether the noise depends on the secret seed; where it does not, whoever has the clean images
    can make it again."""
    keeps_scratch: ClassVar[bool] = False
    """Whether crafting the rows that fit saw takes what fit left in `Context.scratch`."""
    resumes: ClassVar[bool] = False
    """Whether a fit that was interrupted, be it by `Context.progress`, goes on from what it left in
    `Context.scratch`, as far as one process fits alone, and ends as if nothing had happened; so
    does one that takes no time and begins again."""
    needs_labels: ClassVar[bool] = True
    one_size: ClassVar[bool] = False
    """Whether every image must have the same size."""
    allowed: ClassVar[tuple[type[Budget], ...]] = (Linf,)
    """The kinds of budget it works within."""
    target_shift: ClassVar[str] = ""
    """How y becomes the class it is pulled towards, for people; empty for untargeted methods."""
    paper: ClassVar[str]
    """Title, venue and year of the paper it comes from."""
    bibtex: ClassVar[str]
    """How to cite that paper."""

    def fit(self, data: Split, ctx: Context) -> State:
        """The tensors that crafting needs, from the whole split (or a sample of it)."""
        return {}

    @property
    def has_fit(self) -> bool:
        """Whether `fit` leaves anything."""
        return type(self).fit is not Method.fit

    def options(self) -> dict[str, Any]:
        """Its options by name, as `--set` names them."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "budget"}

    def demand_above_zero(self, *names: str) -> None:
        """ValueError for the first of these options that is not above 0, or not finite."""
        defaults = {f.name: f.default for f in fields(self)}
        for name in names:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is above 0, not {value:g}: set {name}={defaults[name]:g}")

    def fit_key(self) -> dict[str, Any]:
        """The options that `fit` reads: where they are equal, a State can be used again."""
        return {"method": type(self).__name__} | asdict(self) | {"budget": str(self.budget)}

    def published(self, settings: Mapping[str, str]) -> dict[str, str]:
        """How a manifest writes these settings of it: as they were typed, but for files, which it
        tells by name and content, not by where they lie."""
        return dict(settings)

    @property
    def passes(self) -> int:
        """Gradient passes (one forward and one backward) per image that fit saw while crafting."""
        return 0

    @property
    def passes_of_new_rows(self) -> int:
        """The same per image that fit never saw."""
        return self.passes

    @property
    def fit_passes(self) -> int:
        """The same in fit, at most: gradients that the noise itself is made by, while those that
        surrogates learn from, and adversaries whom they learn to resist, count for `fit_epochs`
        alone, as these do besides."""
        return 0

    @property
    def fit_epochs(self) -> int:
        """Times that `fit` trains a surrogate on every row, or what takes as long as that."""
        return 0

    @property
    def surrogates(self) -> tuple[str, ...]:
        """The nets that fit trains, each name once and all for equally many of `fit_epochs` and
        `passes`; a victim of the same architecture as any of them is not held out."""
        return ()

    @abstractmethod
    def crafter(self, state: State, ctx: Context) -> Crafter:
        """A function from a batch to images (B,C,H,W) in [0,1]; it may overshoot the budget,
        the runner projects and rounds. Nets run in eval mode."""
