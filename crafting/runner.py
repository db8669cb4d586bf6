"""Runs a crafter and holds it to its budget: a method proposes, this disposes."""

from __future__ import annotations

import torch
from torch import Tensor

from crafting.batch import Batch
from crafting.budget import Budget
from crafting.method import Crafter

_FEWEST = 4
"""With fewer rows some kernels sum in another order, and the same row would come out differently
in their company: measured in float32 on CPU, for batches of 1, 2 and 3."""


def protect(crafter: Crafter, budget: Budget, batch: Batch) -> Tensor:
    """Protected 8-bit pixels (B,C,H,W) of the batch, each within budget of its clean pixels; a
    batch of fewer than four rows is crafted with each of its rows repeated as often."""
    count = len(batch.rows)
    crafted = crafter(batch if count >= _FEWEST else _repeated(batch))[:count]
    assert crafted.shape == batch.x.shape, "a crafter keeps the shape of its batch"
    return budget.quantise(crafted.to(batch.x), batch.x)


def _repeated(batch: Batch) -> Batch:
    count = len(batch.rows)
    at = torch.arange(count).repeat(-(-_FEWEST // count))
    return Batch(batch.rows[at], batch.x[at], None if batch.y is None else batch.y[at])
