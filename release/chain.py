"""The releases of one dataset, oldest first, each naming the digest of the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from release.errors import InputError, ShardCorrupt
from release.manifest import FOLDER, Manifest, digest, manifest_path

_NAME = "r{:04d}"


@dataclass(frozen=True)
class Chain:
    """Every manifest of a dataset, and the digest of each file."""

    manifests: tuple[Manifest, ...] = ()
    digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, releases: Mapping[str, bytes], where: str) -> Chain:
        """The chain of the files releases/NAME.json of the dataset that people call `where`;
        ShardCorrupt where a release is missing or was changed."""
        names = sorted(releases)
        if names != [_NAME.format(number) for number in range(1, len(names) + 1)]:
            raise ShardCorrupt(
                f"{where} has the releases {', '.join(names)}, and not every one from r0001 on: "
                "fetch the dataset again, or restore the missing files of releases/"
            )
        manifests = tuple(
            Manifest.from_bytes(releases[name], f"{where}/{manifest_path(name)}") for name in names
        )
        chain = cls(manifests, tuple(digest(releases[name]) for name in names))
        chain._demand_links(where)
        return chain

    @classmethod
    def in_folder(cls, folder: Path) -> Chain:
        """The chain of a dataset in a folder; InputError where there is no release."""
        found = read_manifests(folder)
        if not found:
            raise InputError(f"{folder} is no release: it has no {manifest_path('r0001')}")
        return cls.of(found, str(folder))

    def __len__(self) -> int:
        return len(self.manifests)

    @property
    def last(self) -> Manifest:
        """The newest release."""
        return self.manifests[-1]

    @property
    def last_digest(self) -> str | None:
        """What the next release names as its previous one."""
        return self.digests[-1] if self.digests else None

    @property
    def ids(self) -> list[str]:
        return [manifest.id for manifest in self.manifests]

    @property
    def next_name(self) -> str:
        """What the next release is called."""
        return _NAME.format(len(self) + 1)

    @property
    def next_row(self) -> int:
        """The number of the next release's first row."""
        return self.last.next_row if self.manifests else 0

    @property
    def num_rows(self) -> int:
        """The rows that readers get."""
        return sum(manifest.num_rows for manifest in self.manifests)

    @property
    def typed_seed(self) -> bool:
        """Whether the seed of its rows, which those of later releases share, was ever typed."""
        return any(manifest.plan.get("typed_seed", False) for manifest in self.manifests)

    def before(self, release: str) -> Chain:
        """The releases before the one of this name."""
        count = sum(manifest.release < release for manifest in self.manifests)
        return Chain(self.manifests[:count], self.digests[:count])

    def with_last(self, manifest: Manifest) -> Chain:
        """The chain with one more release."""
        added = digest(manifest.to_bytes())
        return Chain((*self.manifests, manifest), (*self.digests, added))

    def _demand_links(self, where: str) -> None:
        wanted, row = None, 0
        for manifest, sha256 in zip(self.manifests, self.digests, strict=True):
            if manifest.previous != wanted or manifest.first_row != row:
                raise ShardCorrupt(
                    f"{where}/{manifest_path(manifest.release)} does not continue the release "
                    "before it: one of them was changed; fetch the dataset again"
                )
            wanted, row = sha256, manifest.next_row
        for before, after in pairwise(self.manifests):
            if (before.split, before.class_names) != (after.split, after.class_names):
                raise ShardCorrupt(
                    f"{where}/{manifest_path(after.release)} has other classes or another split "
                    "than the release before it: fetch the dataset again"
                )


def read_manifests(folder: Path) -> dict[str, bytes]:
    """The bytes of each releases/NAME.json of a folder, by NAME, in order."""
    return {path.stem: path.read_bytes() for path in sorted((folder / FOLDER).glob("r*.json"))}
