"""What tests of several countermeasures share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from misled import CPU, RECIPE, coloured, net, scored
from safetensors.torch import save_file

from crafting.batch import PixelSplit
from crafting.nets import Net
from crafting.training import train


@pytest.fixture(scope="module")
def misled() -> tuple[Net, PixelSplit]:
    """A net that learnt every colour under the next one's name, and what it learnt from."""
    victim, split = net(), coloured(400, 1, shift=1)
    train(victim, split, RECIPE, device=CPU, seed=1)
    assert scored(victim, coloured(80, 2)) < 0.1
    return victim, split


@pytest.fixture(scope="module")
def weights(misled: tuple[Net, PixelSplit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "net.safetensors"
    save_file({k: v.contiguous() for k, v in misled[0].state_dict().items()}, path)
    return path


@pytest.fixture
def seeded() -> None:
    """What countermeasures draw inside the training loop, whatever ran before."""
    torch.manual_seed(0)
