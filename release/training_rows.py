"""What fit and victims train on, as decoded rows at net size: clean ones from the source, and
released ones from finished shards, read back as any reader would, together with rows that earlier
releases published."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from release import cache
from release.chain import Chain
from release.errors import ShardCorrupt
from release.manifest import Manifest
from release.plan import ReleasePlan
from release.publish import Target
from release.shards import (
    ReleasedRow,
    ShardFile,
    ShardRecord,
    read_shard,
    sha256,
    write_parquet,
    write_webdataset,
)
from release.source import Source
from release.survey import Survey
from release.terminal import Terminal
from release.workdir import Workdir


def cache_clean(plan: ReleasePlan, workdir: Workdir, part: str, terminal: Terminal) -> None:
    """Clean rows are on disk at net size: for part "train" those whose released twins victims
    train on, for "fit" a sample for the surrogate of an increment, for "test" the test split."""
    folder = workdir.cache(plan.cache_key(), part)
    split = plan.test_split if part == "test" else plan.split
    if split is None or folder.exists():
        return
    survey = Survey.load(workdir.survey(split if part == "test" else plan.read_survey))
    source = (part == "test" and plan.test_source) or plan.source
    with terminal.stage(f"cache {split}") as tell:
        cache.build(
            Source.from_json(source).whole().bare(),
            split=split,
            survey=survey,
            rows=_clean_rows(plan, workdir, part, survey),
            net_size=plan.net_size,
            folder=folder,
            num_classes=plan.num_classes,
            seed=int(plan.seed[:8], 16),
            progress=tell,
        )


def _clean_rows(plan: ReleasePlan, workdir: Workdir, part: str, survey: Survey) -> np.ndarray:
    if part == "test":
        return survey.rows()
    if part == "train" and plan.pairs is not None:
        rows: np.ndarray = workdir.pairs(plan.pairs)[:, 0]
        return rows
    return cache.sample(survey, plan.fit_rows, plan.seed)


def read_back(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], target: Target
) -> None:
    """WORKDIR/protected holds the released rows that victims train on, at net size."""
    import datasets

    from evaluation.released import read_release

    folder = workdir.protected(plan.protected_key())
    if folder.exists():
        return
    datasets.disable_progress_bars()
    shards, chosen = workdir.shards(plan.craft_key()), plan.formats[0]
    files = [shards / file.path for record in records for file in record.of_format(chosen)]
    if plan.old_rows:
        files = [_old_rows(plan, workdir, target), *files]
    try:
        read_release(
            files,
            chosen,
            image_column=plan.source["image_column"],
            label_column=plan.source["label_column"],
            num_classes=plan.num_classes,
            net_size=plan.net_size,
            folder=folder,
            pairs=_wanted(plan, workdir),
        )
    except ValueError as problem:
        raise ShardCorrupt(f"shards of {shards} do not read back: {problem}") from None


def _wanted(plan: ReleasePlan, workdir: Workdir) -> np.ndarray | None:
    """(M,2): of each row that victims train on, its number in the source and in the release; None
    where these are all rows of a first release, whose numbers are the same."""
    if plan.pairs is not None:
        return workdir.pairs(plan.pairs)
    if plan.fit_rows >= plan.num_rows:
        return None
    survey = Survey.load(workdir.survey(plan.read_survey))
    rows = cache.sample(survey, plan.fit_rows, plan.seed)
    return np.stack([rows, rows], axis=1)


def _old_rows(plan: ReleasePlan, workdir: Workdir, target: Target) -> Path:
    """One file of the rows published before that victims train on; shards are fetched one at a
    time, so that no more than one is on the disk."""
    assert plan.pairs is not None
    suffix = "parquet" if plan.formats[0] == "parquet" else "tar"
    path = workdir.published / f"{plan.old_key()}.{suffix}"
    if not path.exists():
        wanted = {int(row) for row in workdir.pairs(plan.pairs)[:, 1] if row < plan.first_row}
        write = write_parquet if suffix == "parquet" else write_webdataset
        columns = Source.from_json(plan.source).columns
        rows = _published_rows(plan, workdir, target, wanted)
        write(workdir.published, path.name, rows, columns, plan.encoding)
    return path


def _published_rows(
    plan: ReleasePlan, workdir: Workdir, target: Target, wanted: set[int]
) -> Iterator[ReleasedRow]:
    published = target.published()
    chain = Chain.of(published.releases, target.name)
    fetched = workdir.published / "fetched"
    for manifest in chain.manifests:
        for file in _files_with(manifest, plan.formats[0], wanted):
            path = target.fetch(file.path, published.head, fetched)
            if sha256(path) != file.sha256:
                raise ShardCorrupt(
                    f"{target.name}/{file.path} is not the file that its manifest describes: "
                    "restore it before rows are added"
                )
            yield from (row for row in read_shard(path) if row.row in wanted)
            shutil.rmtree(fetched)


def _files_with(manifest: Manifest, format: str, wanted: set[int]) -> Iterator[ShardFile]:
    """The shards that hold some of the wanted rows."""
    rows = iter(manifest.released_rows())
    for file in manifest.of_format(format):
        if wanted & {next(rows) for _ in range(file.num_rows)}:
            yield file
