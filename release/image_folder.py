"""A folder of images as `datasets` finds it: no image of it is lost without a word.

Every file is a row, is told as not published, or is named with what to do about it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from release.errors import InputError
from release.readers import class_folder, within

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar")
_CARD = "README.md"


@dataclass(frozen=True)
class ImageFolder:
    """A folder whose images `datasets` has found, by split.

    spec: what a person calls it; extensions: of the files that are read as images; by_owner: its
    card says which files belong to which split, so that others are left out on purpose.
    """

    spec: str
    root: str
    splits: Mapping[str, Sequence[str]]
    extensions: tuple[str, ...]
    by_owner: bool

    def images(self) -> dict[str, list[str]]:
        """Each split's image files, by the digest of their path within the source, so that the
        first N rows are not all of one class."""
        for urls in self.splits.values():
            self._refuse_metadata(urls)
        return {split: self._in_order(urls) for split, urls in self.splits.items()}

    def _in_order(self, urls: Sequence[str]) -> list[str]:
        images = [url for url in urls if self._is_image(url)]
        return sorted(images, key=lambda url: hashlib.sha256(self._path(url).encode()).digest())

    def _refuse_metadata(self, urls: Sequence[str]) -> None:
        for url in urls:
            if PurePosixPath(url).name in _METADATA or url.lower().endswith(_ARCHIVES):
                raise InputError(
                    f"{self._path(url)} lies among images, and only plain image files in class "
                    "folders are read: unpack archives; with metadata, convert to Parquet first"
                )

    def unread(self, there: Sequence[str]) -> list[str]:
        """How many files of each extension, of all those that are `there` (by their paths) and not
        hidden, are no rows. InputError where images are among them, or one is in two splits, unless
        the card says so."""
        paths = [self._path(url) for urls in self.splits.values() for url in urls]
        rows = {path for path in paths if self._is_image(path)}
        others = sorted(path for path in there if path not in rows and not _is_no_data(path))
        if not self.by_owner:
            self._refuse_lost([path for path in others if self._is_image(path)])
            self._refuse_shared(paths)
        return _by_extension(others)

    def _refuse_lost(self, lost: Sequence[str]) -> None:
        if not lost:
            return
        odd = next((part for part in lost[0].split("/") if _is_passed_over(part)), None)
        splits = ", ".join(self.splits)
        raise InputError(
            f"images of {self.spec} would be left out ({len(lost)}, first {lost[0]}): `datasets` "
            + (
                f"reads nothing that is called {odd}; rename it"
                if odd
                else f"finds them in no split beside {splits}; put every class folder into one "
                "called train, or take those images out of the source"
            )
        )

    def _refuse_shared(self, paths: Sequence[str]) -> None:
        twice = [path for path, count in Counter(paths).items() if count > 1]
        if twice:
            raise InputError(
                f"files of {self.spec} are in several of the splits {', '.join(self.splits)} "
                f"({len(twice)}, first {min(twice)}): rename the inner folder that is called like "
                "a split"
            )

    def _is_image(self, path: str) -> bool:
        return path.lower().endswith(self.extensions)

    def _path(self, url: str) -> str:
        return within(self.root, url)


def class_folders(
    spec: str, root: str, splits: Mapping[str, Sequence[str]], split: str | None
) -> tuple[str, ...]:
    """The classes of images: their folders in the split (train by default, else the first), where
    there are at least two, all at one depth, and those of other splits that are laid out alike.

    InputError names an image that lies elsewhere where most are in class folders.
    """
    paths = {name: [within(root, url) for url in urls] for name, urls in splits.items()}
    likely = next((name for name in (split, "train") if name in paths), next(iter(paths)))
    own = paths[likely]
    depths = Counter(path.count("/") for path in own)
    depth, count = depths.most_common(1)[0] if depths else (0, 0)
    names = {class_folder(path) for path in own if depth and path.count("/") == depth}
    if len(names) < 2:
        return ()
    astray = sorted(path for path in own if path.count("/") != depth)
    if astray and 2 * count > len(own):
        raise InputError(
            f"images of {spec} lie elsewhere than in class folders such as {min(names)}, where the "
            f"others are ({len(astray)}, first {astray[0]}): move them into class folders, or out "
            "of the source"
        )
    return () if astray else tuple(sorted(names.union(*_alike(paths.values(), depth, names))))


def _alike(splits: Iterable[Sequence[str]], depth: int, names: set[str]) -> Iterator[set[str]]:
    """The class folders of each split whose images all lie at this depth, some in these folders."""
    for paths in splits:
        folders = {class_folder(path) for path in paths}
        if folders & names and all(path.count("/") == depth for path in paths):
            yield folders


def files_below(folder: str) -> Iterator[str]:
    """The path within a local folder of every file, but for those in hidden folders."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (within(folder, os.path.join(parent, name)) for name in names)


def _is_no_data(path: str) -> bool:
    return path == _CARD or any(part.startswith(".") for part in path.split("/"))


def _is_passed_over(name: str) -> bool:
    """Whether `datasets` takes a folder or file of this name for no data."""
    return name.startswith("__") or "::" in name


def _by_extension(paths: Sequence[str]) -> list[str]:
    """Such as "2 .heic (first: a/x.heic)"."""
    alike: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        alike[PurePosixPath(path).suffix.lower() or "without extension"].append(path)
    return [f"{len(some)} {kind} (first: {some[0]})" for kind, some in sorted(alike.items())]
