"""The release as readers will find it, put together in WORKDIR/release from finished shards:

    README.md   manifest.json   data/ webdataset/   verification/report.json and its pictures

Everything in it is public. What shows clean pixels goes to WORKDIR/private instead.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.integrity import Visibility
from evaluation.report import Gate, Report, report_on
from release import __version__
from release.errors import InputError, StorageError
from release.images import decode
from release.manifest import REPORT, Manifest
from release.plan import ReleasePlan
from release.shards import ShardRecord, read_shard, sha256
from release.source import Source
from release.survey import Survey
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    import numpy as np

    from cards.facts import CardFacts, Measured, Picture
    from evaluation.released import Format
    from evaluation.verify import Outcome

_SHOWN = 16
_COMPARED = 8
_TOOL = f"protect-release {__version__}"


def judge(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], outcomes: list[Outcome]
) -> Report:
    """The report of these shards and trainings, kept with its plots in WORKDIR/report."""
    report = report_on(
        outcomes,
        surrogate_name=plan.configured().surrogate_name,
        num_classes=plan.num_classes,
        gate=Gate(max_accuracy=plan.max_accuracy),
        visibility=_visibility(records),
        preset=plan.preset,
        license=plan.license,
        release=plan.public(),
        hardware=_hardware(plan),
        versions=plan.versions,
    )
    shutil.rmtree(workdir.report, ignore_errors=True)
    workdir.report.mkdir(parents=True)
    report.save(workdir.report / "report.json")
    _draw_plots(plan, report, workdir.report)
    return report


def stage_release(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], report: Report
) -> None:
    """WORKDIR/release is complete: it appears under that name only then."""
    making = workdir.release.with_name("release.making")
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(workdir.report, making / "verification")
    _link_shards(plan, workdir, records, making)
    pictures = _draw_images(plan, workdir, records, making)
    (making / "README.md").write_text(_card(plan, workdir, records, report, pictures))
    _manifest(plan, workdir, records, making).save(making)
    workdir.staged.unlink(missing_ok=True)
    shutil.rmtree(workdir.release, ignore_errors=True)
    making.rename(workdir.release)
    write_private(workdir.staged, plan.fingerprint())


def staged_release(plan: ReleasePlan, workdir: Workdir) -> Path:
    """The folder that `stage_release` made for this very plan."""
    mark = workdir.staged
    if not mark.exists() or mark.read_text() != plan.fingerprint():
        raise InputError(
            f"no finished release of this plan in {workdir.path}: run `protect-release card "
            f"--workdir {workdir.path}` first"
        )
    return workdir.release


def _visibility(records: Sequence[ShardRecord]) -> Visibility:
    total = Visibility()
    for record in records:
        total = total.merge(Visibility.from_json(record.measured["visibility"]))
    return total


def _unprotected(records: Sequence[ShardRecord]) -> list[int]:
    return [row for record in records for row in record.measured["unprotected"]]


def _hardware(plan: ReleasePlan) -> dict[str, Any]:
    return {
        "device": plan.device,
        "processor": processor(),
        "cores": os.cpu_count(),
        "workers": plan.workers,
    }


def processor() -> str:
    """The processor's name, as far as it can be told."""
    import torch

    return str(torch.cpu.get_capabilities().get("cpu_name") or platform.processor())


def _draw_plots(plan: ReleasePlan, report: Report, folder: Path) -> None:
    from cards.plots import Curve, accuracy_plot, confusion_plot

    if report.verdict is None:
        return
    found = {(*_key(o.spec), o.spec.data): o for o in report.outcomes}
    curves = [
        Curve(trial.victim, *(_curve(found[*_key(trial), data]) for data in ("clean", "protected")))
        for trial in report.trials
        if trial.is_plain and trial.seed == 0
    ]
    accuracy_plot(curves, plan.num_classes, folder / "accuracy.png")
    worst = report.verdict.worst
    outcome = found[*_key(worst), "protected"]
    title = f"{worst.victim} on this release"
    confusion_plot(outcome.confusion, plan.class_names, title, folder / "confusion.png")


def _key(trained: Any) -> tuple[str, str, int]:
    return trained.victim, trained.countermeasure, trained.seed


def _curve(outcome: Outcome) -> list[float]:
    return [epoch.test_accuracy for epoch in outcome.curve]


def _link_shards(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], making: Path
) -> None:
    """The shards are in place, each still what its record says."""
    shards = workdir.shards(plan.craft_key())
    for file in (file for record in records for file in record.files):
        if sha256(shards / file.path) != file.sha256:
            raise StorageError(
                f"{shards / file.path} is not what was written: delete it and run the same "
                "command again"
            )
        (making / file.path).parent.mkdir(parents=True, exist_ok=True)
        os.link(shards / file.path, making / file.path)


def _draw_images(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], making: Path
) -> list[Picture]:
    """Pictures of protected rows for everyone, of clean ones for the owner, and of the clean rows
    that the owner chose to show."""
    from cards.facts import Picture
    from cards.plots import contact_sheet, protected_sheet

    protected = dict(_protected(plan, workdir, records, _SHOWN))
    if not protected:
        return []
    protected_sheet(list(protected.values()), making / "verification/images.png")
    pictures = [Picture("verification/images.png", "Images of this release, as published.")]
    compared = list(protected)[:_COMPARED]
    clean = _clean(plan, compared)
    workdir.private.mkdir(exist_ok=True, mode=0o700)
    contact_sheet(clean, [protected[row] for row in compared], workdir.private / "compared.png")
    if plan.show_rows:
        shown = dict(_rows_of(plan, workdir, records, set(plan.show_rows)))
        after = [shown[row] for row in plan.show_rows]
        contact_sheet(_clean(plan, plan.show_rows), after, making / "verification/shown.png")
        caption = "Chosen rows: clean, as published, and their difference times 16."
        pictures.append(Picture("verification/shown.png", caption))
    return pictures


def _protected(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], count: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The first protected rows: one that ships unchanged would show a clean image."""
    unchanged = set(_unprotected(records))
    wanted = [row for record in records for row in record.rows if row not in unchanged][:count]
    return _rows_of(plan, workdir, records, set(wanted))


def _rows_of(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], rows: set[int]
) -> Iterator[tuple[int, np.ndarray]]:
    folder = workdir.shards(plan.craft_key())
    for record in records:
        if rows & set(record.rows):
            for released in read_shard(folder / record.files[0].path):
                if released.row in rows:
                    yield released.row, decode(released.image).pixels


def _clean(plan: ReleasePlan, rows: Sequence[int]) -> list[np.ndarray]:
    source = Source.from_json(plan.source)
    return [
        decode(found.image).pixels
        for row in rows
        for found in source.rows(plan.split, row, row + 1)
    ]


def _manifest(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], making: Path
) -> Manifest:
    return Manifest.build(
        version=__version__,
        plan=plan.public(),
        class_names=plan.class_names,
        source_rows=plan.num_rows,
        records=records,
        quarantined=Survey.load(workdir.survey(plan.split)).bad,
        unprotected=len(_unprotected(records)),
        report_sha256=sha256(making / REPORT),
    )


def _card(
    plan: ReleasePlan,
    workdir: Workdir,
    records: Sequence[ShardRecord],
    report: Report,
    pictures: list[Picture],
) -> str:
    from cards.card import render

    return render(_facts(plan, workdir, records, report, pictures))


def _facts(
    plan: ReleasePlan,
    workdir: Workdir,
    records: Sequence[ShardRecord],
    report: Report,
    pictures: list[Picture],
) -> CardFacts:
    """What the card may claim, each from where it was decided or measured."""
    from cards.facts import CardFacts

    source = Source.from_json(plan.source)
    survey = Survey.load(workdir.survey(plan.split))
    method = plan.configured()
    num_bytes = {
        format: sum(file.num_bytes for record in records for file in record.of_format(format))
        for format in plan.formats
    }
    globs = {
        "parquet": [f"data/{plan.split}/r0001-*.parquet"],
        "webdataset": [f"webdataset/{plan.split}/r0001-*.tar"],
    }
    main: Format = "parquet" if "parquet" in plan.formats else "webdataset"
    return CardFacts(
        pretty_name=_pretty_name(source, plan),
        repo_id=None,
        source_name=None,
        source_citation=source.citation,
        license=plan.license or "unknown",
        split=plan.split,
        rows=plan.num_rows,
        released=sum(len(record.rows) for record in records),
        quarantined=Counter(reason for _, reason in survey.bad),
        conversions=survey.conversions,
        unprotected_rows=len(_unprotected(records)),
        class_names=plan.class_names,
        image_column=source.image_column,
        shown_clean_rows=plan.show_rows,
        method=plan.method,
        paper=method.paper,
        bibtex=method.bibtex,
        budget=plan.budget,
        preset=plan.preset,
        measured=[_measured(summary) for summary in report.summaries],
        gate=None if report.verdict is None else report.verdict.reason,
        flags=[flag.text for flag in report.flags],
        psnr=report.visibility.psnr,
        ssim=report.visibility.ssim,
        max_level=report.visibility.max_level,
        features=source.columns.features()._to_yaml_list() if main == "parquet" else None,
        data_files=globs[main],
        tar_files=globs["webdataset"] if "webdataset" in plan.formats else [],
        num_bytes=num_bytes[main],
        download_size=num_bytes[main],
        pictures=pictures + _plots(report),
        tool=_TOOL,
    )


def _pretty_name(source: Source, plan: ReleasePlan) -> str:
    """The source's own name, or else the target's: a source's path is nobody's business."""
    return f"{source.pretty_name} (protected)" if source.pretty_name else Path(plan.target).name


def _measured(summary: Any) -> Measured:
    from cards.facts import Measured

    return Measured(**summary._asdict())


def _plots(report: Report) -> list[Picture]:
    from cards.facts import Picture

    if report.verdict is None:
        return []
    curves = "Accuracy on clean test images after each epoch."
    confusion = f"What the {report.verdict.worst.victim} took clean test images for."
    return [
        Picture("verification/accuracy.png", curves),
        Picture("verification/confusion.png", confusion),
    ]
