"""Several methods on the same rows, within the same budget, against the same victims: how an owner
chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release import machine
from release.errors import InputError
from release.options import NEVER_PUBLISHED, ReleaseOptions
from release.paths import written
from release.pipeline import Made, Pipeline
from release.plan import ReleasePlan
from release.staging import public_name
from release.terminal import now
from release.workdir import default_workdir, write_private

if TYPE_CHECKING:
    from evaluation.report import Report

SCHEMA_VERSION = 1
_BUDGET = "linf:8"
"""Where nobody names a budget and the method can work within it."""


def compare_options(options: ReleaseOptions) -> ReleaseOptions:
    """The options of releases that are verified and never published."""
    workdir = options.workdir or str(default_workdir(options.source, "compare"))
    return replace(
        options,
        to=str(Path(workdir) / NEVER_PUBLISHED),
        workdir=workdir,
        format="parquet",
        verify=True,
    )


def methods_named(text: str) -> list[str]:
    """Known methods, written a,b,c; InputError names the nearest ones."""
    from crafting.registry import registration

    names = [part.strip() for part in text.split(",") if part.strip()]
    try:
        for name in names:
            registration(name)
    except ValueError as problem:
        raise InputError(f"--methods: {problem} (see `protect-release methods`)") from None
    if not names:
        raise InputError("--methods takes the names of methods, such as sep-fa-vr,tap")
    return list(dict.fromkeys(names))


def compare(pipeline: Pipeline, options: ReleaseOptions, names: Sequence[str]) -> dict[str, Any]:
    """What came of each method, the one that victims learn least from first, as plain values
    (`cards.page` shows them); every finished shard and training is kept for the next run."""
    made = [_made(pipeline, replace(options, method=name)) for name in names]
    rows = sorted((_row(each, seconds) for each, seconds in made), key=_learnt)
    plan = made[0][0].plan
    return {
        "schema_version": SCHEMA_VERSION,
        "source": public_name(options.source, on_hub=not written(options.source).exists()),
        "rows": plan.num_rows,
        "budget": options.budget,
        "preset": plan.preset,
        "victims": plan.victims,
        "countermeasures": plan.public_view()["countermeasures"],
        "methods": rows,
        "hardware": machine.hardware(plan.device, plan.workers),
        "versions": plan.versions,
    }


def save(comparison: dict[str, Any], folder: Path) -> None:
    """comparison.json, and comparison.html for people, are in the folder."""
    from cards.comparison import render_comparison

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(comparison, indent=1) + "\n")
    (folder / "comparison.html").write_text(render_comparison(comparison))


def _made(pipeline: Pipeline, options: ReleaseOptions) -> tuple[Made, float]:
    """The verified release of one method, and the seconds that its fit took when it was made."""
    plan = pipeline.plan(replace(options, budget=options.budget or _budget(str(options.method))))
    assert plan is not None, "nothing was ever published there"
    seconds = _fitted(pipeline, plan)
    pipeline.verify(plan)
    assert pipeline.made is not None
    kept = pipeline.workdir.path / "reports" / str(options.method)
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(pipeline.workdir.report, kept)
    return pipeline.made, seconds


def _budget(name: str) -> str | None:
    from crafting.budget import parse
    from crafting.registry import registration

    fits = isinstance(parse(_BUDGET), registration(name).quick.allowed)
    return _BUDGET if fits else None


def _fitted(pipeline: Pipeline, plan: ReleasePlan) -> float:
    if not plan.configured().has_fit:
        pipeline.fit(plan)
        return 0.0
    note = pipeline.workdir.path / "fitted" / f"{plan.fit_key()}.json"
    began = now()
    pipeline.fit(plan)
    if not note.exists():
        write_private(note, json.dumps(now() - began))
    return float(json.loads(note.read_text()))


def _row(made: Made, fit_seconds: float) -> dict[str, Any]:
    plan, report = made.plan, made.report
    visibility, verdict = report.visibility, report.verdict
    assert visibility is not None, "whoever compares has the clean images"
    assert verdict is not None, "whoever compares has clean twins"
    released = sum(len(record.rows) for record in made.records)
    method = plan.configured()
    seconds = sum(record.seconds for record in made.records)
    return {
        "method": plan.method,
        "budget": plan.budget,
        "passes": method.fit_passes + method.passes,
        "craft_seconds_per_1000": 1000 * seconds / max(1, released),
        "fit_seconds": fit_seconds,
        "psnr": visibility.psnr,
        "ssim": visibility.ssim,
        "max_level": visibility.max_level,
        "worst": _worst(report),
        "holds": None if verdict.is_open else verdict.holds,
        "summaries": _summaries(report),
    }


def _worst(report: Report) -> dict[str, Any]:
    most = report.worst
    assert most is not None, "whoever compares trains victims"
    return {
        "victim": most.victim,
        "countermeasure": most.countermeasure,
        "protected": most.protected.mean,
        "clean": None if most.clean is None else most.clean.mean,
    }


def _summaries(report: Report) -> list[dict[str, Any]]:
    return [summary._asdict() for summary in report.summaries]


def _learnt(row: dict[str, Any]) -> float:
    return float(row["worst"]["protected"])
