"""Whether a published dataset is whole: every release, every file, every row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path

from cards.kept import lacking
from release.chain import Chain
from release.errors import ShardCorrupt
from release.images import BadImage, decode
from release.manifest import Manifest, manifest_path, report_path
from release.publish import CARD
from release.shards import ReleasedRow, ShardFile, read_shard, sha256
from release.threads import in_order

Progress = Callable[[int, int], None]
_DATA_FOLDERS = ("data", "webdataset")
_VERIFIED = re.compile(r"verified-\d{4}-\d\d-\d\d-([0-9a-f]{8})")
"""What a report that was added later is called: by the digest of its report.json."""


def check(folder: Path, progress: Progress = lambda done, total: None) -> Chain:
    """The chain of a dataset that is whole: its releases continue one another, every file is there
    with its digest and no other, every row is there once and in order, decodes, and has a known
    label; README.md is a card of the newest release, and no report was changed.

    Raises InputError where `folder` holds no release, else ShardCorrupt with the first problem.
    """
    chain = Chain.in_folder(folder)
    _check_names(folder, chain)
    _check_card(folder / CARD, chain.last.release)
    _check_reports(folder, chain)
    total = sum(len(m.released_rows()) * len(m.formats) for m in chain.manifests)
    done = 0
    for manifest in chain.manifests:
        for _ in _checked_release(folder, manifest):
            done += 1
            progress(done, total)
    return chain


def _checked_release(folder: Path, manifest: Manifest) -> Iterator[int]:
    expected = manifest.released_rows()
    if manifest.num_rows != len(expected):
        name = folder / manifest_path(manifest.release)
        raise _corrupt(f"{name} counts {manifest.num_rows} rows, not {len(expected)}")
    for format in manifest.formats:
        files = manifest.of_format(format)
        for row, wanted in zip_longest(_checked_rows(folder, files, manifest), expected):
            if row != wanted:
                raise _corrupt(f"{folder} has row {row} in {format} where row {wanted} should be")
            yield wanted


def _check_names(folder: Path, chain: Chain) -> None:
    listed = {file.path for manifest in chain.manifests for file in manifest.files}
    for path in sorted(listed):
        # A manifest from elsewhere must not lead out of its folder.
        if not re.fullmatch(r"(data|webdataset)(/[\w-][\w.-]*)+", path):
            raise _corrupt(f"a manifest of {folder} lists {path!r}, which is no data file")
        if not (folder / path).is_file():
            raise _corrupt(f"{folder / path} is missing")
    there = {
        str(path.relative_to(folder))
        for name in _DATA_FOLDERS
        for path in (folder / name).rglob("*")
        if path.is_file()
    }
    if there - listed:
        raise _corrupt(f"{folder / min(there - listed)} is in no manifest")


def _check_card(path: Path, newest: str) -> None:
    """Its owner may have written on it, and later verifications add to it: it has no digest."""
    if not path.is_file():
        raise _corrupt(f"{path} is missing")
    if problem := lacking(path.read_text("utf-8", "replace"), newest):
        raise ShardCorrupt(f"{path} {problem}: restore it from a copy")


def _check_reports(folder: Path, chain: Chain) -> None:
    for manifest in chain.manifests:
        for path, digest in manifest.report_files.items():
            if not re.fullmatch(rf"reports/{re.escape(manifest.release)}/[\w-][\w.-]*", path):
                raise _corrupt(f"a manifest of {folder} lists {path!r}, which is no report")
            _check_digest(folder / path, digest)
        _check_digest(folder / report_path(manifest.release), manifest.report_sha256)
    for later in sorted((folder / "reports").glob("verified-*")):
        if named := _VERIFIED.fullmatch(later.name):
            _check_digest(later / "report.json", named[1])


def _check_digest(path: Path, digest: str) -> None:
    """The file is there, and its sha256 is this, or begins with these eight digits of it."""
    if not path.is_file():
        raise _corrupt(f"{path} is missing")
    if digest not in ((found := sha256(path)), found[:8]):
        raise _corrupt(f"{path} is not the file that its manifest describes")


def _checked_rows(folder: Path, files: Sequence[ShardFile], manifest: Manifest) -> Iterator[int]:
    look = partial(_checked_row, num_classes=len(manifest.class_names))
    for file in files:
        _check_digest(folder / file.path, file.sha256)
        rows = read_shard(folder / file.path)
        yield from in_order(look, rows, size=lambda row: len(row.image))


def _checked_row(row: ReleasedRow, num_classes: int) -> int:
    try:
        decode(row.image)
    except BadImage as problem:
        raise _corrupt(f"row {row.row} does not decode ({problem})") from None
    if num_classes and (row.label is None or not 0 <= row.label < num_classes):
        raise _corrupt(f"row {row.row} has the label {row.label}, not one of 0..{num_classes - 1}")
    return row.row


def _corrupt(problem: str) -> ShardCorrupt:
    return ShardCorrupt(f"{problem}: fetch or make the release again")
