"""What protection looks like on a few rows, before anything is released."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from release.images import decode
from release.options import NEVER_PUBLISHED, ReleaseOptions
from release.shards import read_parquet
from release.source import Source
from release.survey import Survey
from release.workdir import default_workdir

if TYPE_CHECKING:
    import numpy as np

    from release.pipeline import Pipeline
    from release.plan import ReleasePlan

DEFAULT_ROWS = 500


def preview_options(options: ReleaseOptions) -> ReleaseOptions:
    """The options of a small release that is never verified nor published."""
    workdir = options.workdir or str(default_workdir(options.source, "preview"))
    return replace(
        options,
        to=str(Path(workdir) / NEVER_PUBLISHED),
        workdir=workdir,
        rows=options.rows or DEFAULT_ROWS,
        format="parquet",
        verify=False,
    )


def draw_preview(pipeline: Pipeline, options: ReleaseOptions, out: Path, images: int) -> int:
    """`out` is a PNG of the first rows: before, after, and their difference times 16; returns how
    many."""
    from cards.plots import contact_sheet, middle

    plan = pipeline.plan(options)
    assert plan is not None, "nothing was ever published there"
    pipeline.craft(plan)
    clean = [middle(image) for image in islice(_clean(plan, pipeline), images)]
    shards = sorted(pipeline.workdir.shards(plan.craft_key()).rglob("*.parquet"))
    protected = (
        middle(decode(row.image).pixels) for shard in shards for row in read_parquet(shard)
    )
    contact_sheet(clean, list(islice(protected, len(clean))), out)
    return len(clean)


def _clean(plan: ReleasePlan, pipeline: Pipeline) -> Iterator[np.ndarray]:
    survey = Survey.load(pipeline.workdir.survey(plan.survey))
    for row in Source.from_json(plan.source).rows(plan.split, 0, plan.num_rows):
        if survey.good[row.number]:
            yield decode(row.image).pixels
