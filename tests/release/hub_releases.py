"""Staged releases for tests of the Hub, with real bytes but no images in them."""

from __future__ import annotations

import json
from pathlib import Path

CARD = "---\nlicense: mit\n---\n"


def staged(folder: Path, release: str) -> Path:
    """The files that a release adds: large ones and small ones, and the card."""
    files = {
        f"data/train/{release}-00000.parquet": _bytes(release, 3 << 19),
        f"data/train/{release}-00001.parquet": _bytes(f"{release} again", 3000),
        f"webdataset/train/{release}-00000.tar": _bytes(f"{release} tar", 4000),
        f"releases/{release}.json": manifest(release),
        f"reports/{release}/report.json": b"{}",
        f"reports/{release}/accuracy.png": _bytes(f"{release} plot", 500),
        "README.md": f"{CARD}card of {release}\n".encode(),
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def manifest(release: str) -> bytes:
    return json.dumps({"made_by": "protect-release", "release": release}).encode()


def added(release: str) -> set[str]:
    """The paths that only this release has."""
    return {
        *(f"data/train/{release}-0000{i}.parquet" for i in range(2)),
        f"webdataset/train/{release}-00000.tar",
        f"releases/{release}.json",
        f"reports/{release}/report.json",
        f"reports/{release}/accuracy.png",
    }


def large(folder: Path) -> list[Path]:
    """The staged files that go to the storage of large files."""
    return sorted(p for p in folder.rglob("*") if p.suffix in (".parquet", ".tar", ".png"))


def _bytes(name: str, size: int) -> bytes:
    """Bytes that no other name has."""
    return (name.encode() * (size // len(name) + 1))[:size]
