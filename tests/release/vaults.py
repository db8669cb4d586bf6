"""A vault as tests open it, and what they keep in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from release.ledger import LedgerEntry
from release.store import FolderStore
from release.vault import Vault
from release.workdir import Seed

KEY = "sixteen letters!"
SEED = Seed("5eed" * 16, typed=False)
DIGESTS = np.random.default_rng(0).integers(0, 256, (10, 32), dtype=np.uint8)


def open_vault(store: FolderStore, target: str = "org/name", **more: Any) -> Vault:
    settings = {"key_file": store.path.with_name("keys") / "key", "tell": lambda line: None} | more
    return Vault.open(store, target=target, **settings)


def keep(vault: Vault, number: int = 1, id: str = "a1", **more: Any) -> None:
    """Two rows for each release, of the digests of these numbers."""
    first = 2 * (number - 1)
    kept = {
        "seed": SEED,
        "states": {},
        "release": f"r{number:04d}",
        "release_id": id,
        "rows": LedgerEntry.of(first, vault.marks(DIGESTS[first : first + 2])),
        "confirmed": False,
    }
    vault.keep(**kept | more)
