"""How countermeasures are named, written and plugged into training."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from crafting.training import Hooks, Recipe
from evaluation.countermeasures import COUNTERMEASURES, Countermeasure, Setting, parse
from evaluation.countermeasures.base import countermeasures

SETTING = Setting(4, "protected", Recipe(epochs=1), torch.device("cpu"), seed=0)


@dataclass(frozen=True)
class Dimmed(Countermeasure):
    """Makes images darker."""

    name = "dimmed"
    share: float = 0.5
    rounds: int = 1

    def hooks(self, setting: Setting) -> Hooks:
        return Hooks(augment=lambda x, y: (x * self.share**self.rounds, y))


@pytest.fixture
def dimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(countermeasures()) | {"dimmed": Dimmed}
    monkeypatch.setattr("evaluation.countermeasures.base.countermeasures", lambda: known)


@pytest.mark.usefixtures("dimmed")
@pytest.mark.parametrize("text", ["none", "grayscale", "dimmed", "dimmed:share=0.25,rounds=3"])
def test_a_countermeasure_is_written_in_one_way(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.usefixtures("dimmed")
def test_defaults_need_not_be_written() -> None:
    assert str(parse("dimmed:share=0.5,rounds=2")) == "dimmed:rounds=2"


@pytest.mark.usefixtures("dimmed")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dimed", "did you mean dimmed"),
        ("dimmed:shar=1", "did you mean share"),
        ("dimmed:rounds=x", "dimmed rounds is a value of type int, not 'x'"),
        ("dimmed:share", "dimmed share is a value of type float, not ''"),
        ("dimmed:share=0.1,share=0.2", "dimmed has share twice, '0.1' and '0.2'"),
        ("dimmed:share=inf", "dimmed share is a finite number, not 'inf'"),
        ("none:x=1", "no parameters: write none alone"),
    ],
)
def test_mistakes_are_told_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.usefixtures("dimmed")
def test_parameters_reach_the_hooks() -> None:
    hooks = parse("dimmed:share=0.5,rounds=2").hooks(SETTING)
    x, _ = hooks.augment(torch.ones(1, 3, 2, 2), torch.ones(1))
    assert x.max() == 0.25


def test_grayscale_leaves_no_colour() -> None:
    x = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    grey, labels = _augmented(x)
    assert torch.equal(grey[:, 0], grey[:, 1])
    assert torch.equal(grey[:, 0], grey[:, 2])
    assert torch.allclose(
        grey[:, 0], x.mul(torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    )
    assert labels.tolist() == [0, 1, 2, 3]


def test_grayscale_keeps_images_of_one_channel() -> None:
    x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_augmented(x)[0], x)


def _augmented(x: Tensor) -> tuple[Tensor, Tensor]:
    return parse("grayscale").hooks(SETTING).augment(x, torch.arange(4))


def test_every_countermeasure_has_defaults_and_says_what_it_does() -> None:
    for name, kind in COUNTERMEASURES.items():
        assert str(kind()) == name
        assert (kind.__doc__ or "").strip()


def test_the_package_can_be_imported_first() -> None:
    """Its modules are found while it is itself being imported."""
    code = "from evaluation.countermeasures import COUNTERMEASURES as C; print(*C)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(COUNTERMEASURES)
