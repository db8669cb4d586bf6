"""What crosses from one device to another, seen without a second one: `meta` stands for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Moves(TorchDispatchMode):
    """While open, the type and bytes of every tensor that goes to another device, and how many of
    them work there is held up for."""

    seen: list[tuple[torch.dtype, int]] = field(default_factory=list)
    waited_for: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        to = kwargs.get("device")
        if func is torch.ops.aten._to_copy.default and to not in (None, args[0].device):
            self.seen.append((args[0].dtype, args[0].nbytes))
            self.waited_for += not kwargs.get("non_blocking")
        return func(*args, **kwargs)
