"""The pieces that a potency measurement is made of: a fit, a crafting, a training.

Each is a value that says where its result lies and what must lie there before; it can run in any
process, and goes on where it was interrupted. What is finished is never done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import record
from benchmarks.image_arrays import save_split
from crafting.batch import PixelSplit
from crafting.budget import Linf, parse
from crafting.method import Context, Crafter, Method
from crafting.registry import Preset, configure, registration
from crafting.runner import protect
from crafting.snapshot import InFile, Snapshot, whole
from evaluation.trial import Outcome, TrialSpec
from evaluation.verify import Splits, run

PART_ROWS = 4096
"""Rows that are crafted between two moments at which crafting can stop; a multiple of every batch
size, so that batches are cut alike however often it stopped."""

RESUMABLE = ("none", "jpeg", "cutmix", "at-linf", "at-l2")
"""Countermeasures whose hooks hold nothing of their own: a training under another one cannot go on
from its last epoch, and is done in one go."""


PROTOCOL = 2
"""Part of every key. To be raised with every change after which the same work would come out
otherwise: of a net, the training loop, a countermeasure, or of this file."""
CHANGED = dict.fromkeys(("em-class", "ensemble", "min-max-min", "rem", "sem"), 3)
"""The protocol of methods that themselves do otherwise since PROTOCOL was raised last."""


def protocol(method: str) -> int:
    """The number by which work on this method, or mixture, is known."""
    return max(CHANGED.get(part, PROTOCOL) for part in method.split("+"))


def usual_budget(method: str, scale: Preset) -> str:
    """What the method is measured within unless another budget is named: linf:8 where its own
    bounds every pixel, else its own. ValueError where there is no such method."""
    own = registration(method).preset(scale).budget
    return str(Linf(8) if isinstance(own, Linf) else own)


class OutOfTime(Exception):
    """The slice is over; what is finished is kept."""


def digest_of(*values: Any) -> str:
    """16 hex digits of the values' canonical JSON."""
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Variant:
    """A method within a budget, with the settings (name, value) that differ from its preset."""

    name: str
    budget: str
    settings: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.settings)])

    def method(self, preset: Preset) -> Method:
        return configure(self.name, preset, parse(self.budget), dict(self.settings))


@dataclass(frozen=True)
class Protection:
    """A method as it is measured, from one seed, on the rows in `data`."""

    data: Path
    variant: Variant
    preset: Preset
    seed: int

    def method(self) -> Method:
        return self.variant.method(self.preset)

    @property
    def fit_key(self) -> str:
        made_by = _made_by(protocol(self.variant.name))
        return digest_of(*made_by, self.data.name, self.method().fit_key(), self.seed)

    @property
    def key(self) -> str:
        method = self.method()
        return digest_of(self.fit_key, self.variant.name, method.options(), str(method.budget))

    def scratch(self, place: Path) -> Path:
        """A folder for what its fit leaves beside its State."""
        folder = place / f"scratch/{self.fit_key}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder


@dataclass(frozen=True)
class Fit:
    """The State of a protection, which every method with the same fit can use."""

    place: Path
    of: Protection

    @property
    def result(self) -> Path:
        return self.place / f"states/{self.of.fit_key}.safetensors"

    @property
    def needs(self) -> tuple[Path, ...]:
        return ()

    def __str__(self) -> str:
        return f"fit of {self.of.variant}, seed {self.of.seed}"

    def run(self, deadline: float) -> None:
        """OutOfTime where the slice is over and the fit can go on in another."""
        from safetensors.torch import save_file

        method, scratch = self.of.method(), self.of.scratch(self.place)
        # No victim meets rows in the order in which a surrogate did.
        train = replace(PixelSplit.load(self.of.data / "train"), seed=_order(self.of.seed))
        clock = _Clock(scratch / "seconds", deadline) if method.resumes else _Clock()
        ctx = replace(context(train, self.of.seed, scratch), progress=clock.tell)
        state = method.fit(train, ctx)
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
        seconds = {"seconds": str(clock.seconds())}
        whole(self.result, lambda path: save_file(kept, path, seconds))
        if not method.keeps_scratch:
            shutil.rmtree(scratch)


@dataclass(frozen=True)
class Craft:
    """The protected rows, and what they cost."""

    place: Path
    of: Protection

    @property
    def folder(self) -> Path:
        return self.place / f"protected/{self.of.key}"

    @property
    def result(self) -> Path:
        return self.folder / "cost.json"

    @property
    def needs(self) -> tuple[Path, ...]:
        return (Fit(self.place, self.of).result,)

    def __str__(self) -> str:
        of = self.of.variant
        return f"crafting by {of} within {of.budget}, seed {self.of.seed}"

    def run(self, deadline: float) -> None:
        train, method = PixelSplit.load(self.of.data / "train"), self.of.method()
        ctx = context(train, self.of.seed, self.of.scratch(self.place))
        state, fit_seconds = _read_state(self.needs[0])
        crafter = method.crafter(state, ctx)
        parts = [self._part(start, train, crafter, ctx, deadline) for start in _starts(train)]
        pixels = np.concatenate([part for part, _ in parts])
        save_split(self.folder, replace(train, pixels=pixels))
        cost = {
            "passes": method.passes,
            "fit_epochs": method.fit_epochs,
            "fit_seconds": round(fit_seconds, 1),
            "craft_seconds": round(sum(seconds for _, seconds in parts), 1),
            "psnr": psnr(np.asarray(train.pixels), pixels),
            "options": method.options(),
        }
        whole(self.result, lambda path: path.write_text(json.dumps(cost)))
        for part in self.folder.glob("part-*.npz"):
            part.unlink()

    def _part(
        self, start: int, train: PixelSplit, crafter: Crafter, ctx: Context, deadline: float
    ) -> tuple[np.ndarray, float]:
        """The protected rows from `start` on, and the seconds that they took when they were made;
        OutOfTime where they are still to be made and the slice is over."""
        path = self.folder / f"part-{start:08d}.npz"
        if not path.exists():
            if time.time() > deadline:
                raise OutOfTime
            began, budget = time.monotonic(), parse(self.of.variant.budget)
            rows = train.take(range(start, min(start + PART_ROWS, len(train))))
            batches = (b.to(ctx.device) for b in rows.batches(_batch_size(train, ctx.device)))
            made = torch.cat([protect(crafter, budget, batch).cpu() for batch in batches])
            save = partial(_save_part, pixels=made.numpy(), seconds=time.monotonic() - began)
            whole(path, save)
        with np.load(path) as read:
            return read["pixels"], float(read["seconds"])


@dataclass(frozen=True)
class Training:
    """A victim's training on protected rows, or on the clean ones of `data` where it has no
    protection: then every method's victims have it for their twin."""

    place: Path
    data: Path
    spec: TrialSpec
    of: Protection | None = None

    @property
    def result(self) -> Path:
        learnt = digest_of(*_made_by(PROTOCOL), self.data.name) if self.of is None else self.of.key
        return self.place / f"trials/{self.spec.key(learnt)}.json"

    @property
    def needs(self) -> tuple[Path, ...]:
        return () if self.of is None else (Craft(self.place, self.of).result,)

    def __str__(self) -> str:
        spec, what = self.spec, "clean rows" if self.of is None else self.of.variant
        return f"{spec.victim} on {what}, {spec.countermeasure}, seed {spec.seed}"

    def run(self, deadline: float) -> None:
        learnt = self.data / "train" if self.of is None else Craft(self.place, self.of).folder
        train = replace(PixelSplit.load(learnt), seed=self.spec.seed)
        splits = Splits(train, PixelSplit.load(self.data / "test"))
        interrupted = _Interruptible(self.result.with_suffix(".interrupted"), deadline)
        resumable = self.spec.countermeasure.partition(":")[0] in RESUMABLE
        outcome = run(
            self.spec,
            splits,
            device=device(),
            progress=lambda share: None,
            keeper=interrupted if resumable else None,
        )
        whole(self.result, lambda path: path.write_text(json.dumps(outcome.to_json())))
        interrupted.path.unlink(missing_ok=True)

    def outcome(self) -> Outcome:
        return Outcome.from_json(json.loads(self.result.read_text()))


Work = Fit | Craft | Training


class _Interruptible(InFile):
    """Keeps every epoch of a training in a file, and stops it where the slice is over."""

    def __init__(self, path: Path, deadline: float) -> None:
        super().__init__(path)
        self.deadline = deadline

    def save(self, snapshot: Snapshot) -> None:
        super().save(snapshot)
        if time.time() > self.deadline:
            raise OutOfTime


class _Clock:
    """The seconds of a fit; where it resumes, those of earlier slices included, which lie in a
    file."""

    def __init__(self, path: Path | None = None, deadline: float = math.inf) -> None:
        self._path = path
        self._deadline = deadline
        self._before = float(path.read_text()) if path is not None and path.exists() else 0.0
        self._began = time.monotonic()

    def seconds(self) -> float:
        return self._before + time.monotonic() - self._began

    def tell(self, done: int, total: int) -> None:
        """OutOfTime where the slice is over, but not to a fit that is as good as finished."""
        if self._path is not None:  # at once, as the fit may be killed
            whole(self._path, lambda path: path.write_text(str(self.seconds())))
        if time.time() > self._deadline and done < total:
            raise OutOfTime


def _made_by(protocol: int) -> tuple[int, str, str]:
    """What work comes out by, beside what it is given."""
    where = device()
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else record.processor()
    return protocol, torch.__version__, name


def _order(seed: int) -> int:
    """The seed of the order in which a fit meets its rows."""
    return int.from_bytes(hashlib.sha256(f"order {seed}".encode()).digest()[:8], "big")


def device() -> torch.device:
    """Where nets run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def context(train: PixelSplit, seed: int, scratch: Path) -> Context:
    """What a method may know of these rows; scratch: where its fit leaves what crafting shares."""
    assert train.targets is not None
    labels = train.targets

    def row_key(row: int) -> bytes:
        shown = train.pixels[row].tobytes() + int(labels[row]).to_bytes(8, "big")
        return hashlib.sha256(shown).digest()

    return Context(
        num_classes=train.num_classes,
        shape=train.shape,
        net_size=net_size(train),
        device=device(),
        seed=hashlib.sha256(f"potency {seed}".encode()).digest(),
        row_key=row_key,
        scratch=scratch,
    )


def net_size(train: PixelSplit) -> int:
    """The side in pixels that nets resize to."""
    return min(224, *train.shape[1:])


def psnr(clean: np.ndarray, protected: np.ndarray) -> float | None:
    """Mean PSNR in dB over the images (N,C,H,W) uint8 that changed; None where none did."""
    found = []
    for start in range(0, len(clean), PART_ROWS):
        part = slice(start, start + PART_ROWS)
        delta = protected[part].astype(np.float32) - clean[part]
        errors = np.square(delta).reshape(len(delta), -1).mean(1)
        found.append(10 * np.log10(255**2 / errors[errors > 0]))
    changed = np.concatenate(found)
    return round(float(changed.mean()), 2) if len(changed) else None


def _starts(train: PixelSplit) -> range:
    return range(0, len(train), PART_ROWS)


def _batch_size(train: PixelSplit, where: torch.device) -> int:
    """A power of two: 64 on CPU; on a GPU 512 images of 32x32, fewer larger ones."""
    if where.type == "cpu":
        return 64
    fitting = max(16, 512 * 32 * 32 // (train.shape[1] * train.shape[2]))
    return 1 << (fitting.bit_length() - 1)


def _save_part(path: Path, pixels: np.ndarray, seconds: float) -> None:
    with path.open("wb") as file:
        np.savez(file, pixels=pixels, seconds=seconds)


def _read_state(path: Path) -> tuple[dict[str, torch.Tensor], float]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return state, float(file.metadata()["seconds"])
