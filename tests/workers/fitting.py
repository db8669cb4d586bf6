"""One rank of several that fit methods twice: `torchrun ... -m tests.workers.fitting OUT NAME...`
leaves OUT/RANK.json, with digests of both States of each method."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator

from crafting.method import State
from tests.contract import test_methods as contract


def main(out: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    digests = {
        name: [_fitted(name, out / f"{name}-{k}", accelerator) for k in (0, 1)] for name in names
    }
    (out / f"{accelerator.process_index}.json").write_text(json.dumps(digests))


def _fitted(name: str, scratch: Path, accelerator: Accelerator) -> str:
    ctx = replace(
        contract._context(),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        accelerator=accelerator,
        scratch=scratch,
    )
    return _digest(contract._tiny(name).fit(contract.SPLIT, ctx))


def _digest(state: State) -> str:
    found = hashlib.sha256()
    for name, value in sorted(state.items()):
        found.update(
            name.encode() + value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        )
    return found.hexdigest()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
