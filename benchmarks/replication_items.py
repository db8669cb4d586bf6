"""What an item of the replication page is, and how the commands that run one are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.trial import TrialSpec


@dataclass(frozen=True)
class Check:
    """One figure: what a victim learns (a fraction) from rows protected by a method."""

    method: str
    published: float
    budget: str = "linf:8"
    victim: str = "resnet18"
    countermeasure: str = "none"
    dataset: str = "cifar10"
    settings: tuple[tuple[str, str], ...] = ()
    """Of the method, where the paper has others than its preset."""

    @property
    def epochs(self) -> int:
        """For how many the victim is trained at paper scale."""
        spec = TrialSpec(
            victim=self.victim,
            countermeasure=self.countermeasure,
            seed=0,
            data="protected",
            preset="paper",
        )
        return spec.recipe.epochs


@dataclass(frozen=True)
class Item:
    """A table or figure of a paper. command: runs it, one command or several in turn, empty where
    nothing here does; checks: the figures that decide whether it is reproduced; shown_by: the quick
    measurements that show it, where it is no figure of what victims learn."""

    paper: str
    name: str
    what: str
    command: str
    checks: tuple[Check, ...] = ()
    shown_by: tuple[str, ...] = ()


def potency(dataset: str, methods: str, options: str = "") -> str:
    given = f" {options}" if options else ""
    return (
        f"python -m benchmarks.potency {dataset}.npz --workdir WORKDIR --scale paper "
        f"--methods {methods}{given}"
    )


def in_turn(*commands: str) -> str:
    return " && ".join(commands)


def push(method: str, options: str) -> str:
    return f"protect-release push SOURCE --to TARGET --method {method} --preset paper {options}"


def verify(options: str) -> str:
    return f"protect-release verify RELEASE --clean SOURCE {options}"


def row(
    method: str, victims: Sequence[str], figures: Iterable[float], **of: Any
) -> tuple[Check, ...]:
    pairs = zip(victims, figures, strict=True)
    return tuple(Check(method, figure / 100, victim=victim, **of) for victim, figure in pairs)
