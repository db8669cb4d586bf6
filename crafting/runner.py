"""Runs a crafter and holds it to its budget: a method proposes, this disposes."""

from __future__ import annotations

import torch
from torch import Tensor

from crafting.batch import Batch
from crafting.budget import Budget
from crafting.method import Crafter


def protect(crafter: Crafter, budget: Budget, batch: Batch) -> Tensor:
    """Protected 8-bit pixels (B,C,H,W) of the batch, each within budget of its clean pixels.

    A batch of one is crafted as two equal rows: with one, some kernels sum in another order, and
    the same row would come out differently alone and in company.
    """
    crafted = crafter(_doubled(batch) if len(batch.rows) == 1 else batch)[: len(batch.rows)]
    assert crafted.shape == batch.x.shape, "a crafter keeps the shape of its batch"
    return budget.quantise(crafted.to(batch.x), batch.x)


def _doubled(batch: Batch) -> Batch:
    def twice(values: Tensor) -> Tensor:
        return torch.cat([values, values])

    return Batch(twice(batch.rows), twice(batch.x), None if batch.y is None else twice(batch.y))
