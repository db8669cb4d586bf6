"""The release as readers will find it, put together in WORKDIR/release from finished shards:

    README.md   releases/NAME.json   data/ webdataset/   reports/NAME/report.json and its pictures

Only what this release adds, and README.md, which speaks for all of them. Everything in it is
public. What shows clean pixels goes to WORKDIR/private instead.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cards.card import render
from evaluation.integrity import Visibility
from evaluation.report import Gate, Report, Sample, Subject, report_on
from release import __version__, demand, machine
from release.chain import Chain
from release.errors import InputError, StorageError
from release.facts import RELEASES_PLOT, card_facts
from release.images import decode
from release.linking import place_file, write_apart
from release.manifest import Manifest, manifest_path, report_path
from release.pages import CHOSEN, COMPARED, PUBLISHED, write_page, write_report
from release.plan import ReleasePlan
from release.shards import ShardRecord, read_shard, sha256
from release.source import Source
from release.survey import Survey
from release.workdir import Workdir, write_private

if TYPE_CHECKING:
    import numpy as np

    from cards.facts import CardFacts, Picture
    from evaluation.trial import Outcome

_SHOWN = 16
_COMPARED = 8


def judge(
    plan: ReleasePlan,
    workdir: Workdir,
    records: Sequence[ShardRecord],
    outcomes: list[Outcome],
    chain: Chain,
) -> Report:
    """The report of these shards and trainings, kept with its plots in WORKDIR/report."""
    report = report_on(
        outcomes,
        _subject(plan, records, chain),
        gate=Gate(max_accuracy=plan.max_accuracy),
        visibility=_visibility(records),
        hardware=machine.hardware(plan.device, plan.workers),
        versions=plan.versions,
    )
    shutil.rmtree(workdir.report, ignore_errors=True)
    workdir.report.mkdir(parents=True)
    write_report(report, workdir.report, {})
    _draw_plots(plan, report, workdir.report)
    return report


def _subject(plan: ReleasePlan, records: Sequence[ShardRecord], chain: Chain) -> Subject:
    added = sum(len(record.rows) for record in records)
    return Subject(
        name=public_name(plan.target, plan.on_hub),
        date=plan.date,
        class_names=plan.scored_names,
        facts=plan.public_view(),
        preset=plan.preset,
        test_split=plan.test_split,
        license=plan.license,
        surrogates=plan.configured().surrogates,
        sample=Sample(plan.old_rows, chain.num_rows, added) if plan.is_increment else None,
        labelled=plan.is_labelled,
        source_is_public=plan.source_is_public,
        typed_seed=plan.typed_seed,
    )


def public_name(target: str, on_hub: bool) -> str:
    """What everybody may call it: where a folder lies is nobody's business."""
    return target if on_hub else Path(target).name


def stage_release(
    plan: ReleasePlan,
    workdir: Workdir,
    records: Sequence[ShardRecord],
    report: Report,
    chain: Chain,
) -> None:
    """WORKDIR/release is complete: it appears under that name only then. `chain` holds the releases
    before this one."""
    making = workdir.release.with_name("release.making")
    reports = f"reports/{plan.release}"
    shutil.rmtree(making, ignore_errors=True)
    shutil.copytree(workdir.report, making / reports)
    _link_shards(plan, workdir, records, making)
    pictures = _draw_images(plan, workdir, records, making / reports)
    _write_pages(workdir, report, making, pictures)
    manifest = _manifest(plan, workdir, records, report, making, chain)
    facts = card_facts(plan, records, report, chain.with_last(manifest), pictures)
    _draw_releases(facts, making)
    drawn = {f"{reports}/{path.name}": sha256(path) for path in (making / reports).iterdir()}
    path = making / manifest_path(plan.release)
    path.parent.mkdir()
    path.write_bytes(replace(manifest, report_files=dict(sorted(drawn.items()))).to_bytes())
    write_private(workdir.card, render(facts))
    workdir.staged.unlink(missing_ok=True)
    shutil.rmtree(workdir.release, ignore_errors=True)
    making.rename(workdir.release)
    write_private(workdir.staged, plan.fingerprint())


def _write_pages(
    workdir: Workdir, report: Report, making: Path, pictures: Sequence[Picture]
) -> None:
    """The report as a page: with the pictures that everybody may see, and, for the owner alone,
    with clean pixels."""
    if not pictures:
        return
    shown = {picture.caption: (making / picture.path).read_bytes() for picture in pictures}
    write_report(report, (making / pictures[0].path).parent, shown)
    compared = {COMPARED: (workdir.private / "compared.png").read_bytes()}
    write_page(report, workdir.private / "report.html", compared)


def demand_staged(plan: ReleasePlan, workdir: Workdir) -> None:
    """InputError where `stage_release` did not end for this very plan."""
    mark = workdir.staged
    if not mark.exists() or mark.read_text() != plan.fingerprint():
        raise InputError(
            f"no finished release of this plan in {workdir.path}: run `protect-release card "
            f"--workdir {workdir.path}` first"
        )


def staged_release(workdir: Workdir, readme: str, target: str) -> Path:
    """The folder of the staged release, with its card laid over `readme`, the target's own;
    InputError where that was cut."""
    from cards.kept import merge

    demand.whole_card(readme, target)
    card = merge(readme, workdir.card.read_text())
    write_apart(workdir.release / "README.md", card.encode())
    return workdir.release


def _visibility(records: Sequence[ShardRecord]) -> Visibility:
    total = Visibility()
    for record in records:
        total = total.merge(Visibility.from_json(record.measured["visibility"]))
    return total


def _unprotected(records: Sequence[ShardRecord]) -> list[int]:
    return [row for record in records for row in record.measured["unprotected"]]


def _draw_plots(plan: ReleasePlan, report: Report, folder: Path) -> None:
    from cards.plots import Curve, accuracy_plot, confusion_plot

    if report.verdict is None:
        return
    found = {(*_key(o.spec), o.spec.data): o for o in report.outcomes}
    curves = [
        Curve(trial.victim, *(_curve(found[*_key(trial), data]) for data in ("clean", "protected")))
        for trial in report.trials
        if trial.is_plain and trial.seed == 0 and trial.rows == "release"
    ]
    worst = report.verdict.worst
    if curves:
        accuracy_plot(curves, worst.chance, folder / "accuracy.png")
    outcome = found[*_key(worst), "protected"]
    title = f"{worst.victim} on this release"
    confusion_plot(outcome.confusion, plan.scored_names, title, folder / "confusion.png")


def _key(trained: Any) -> tuple[str, str, str, int]:
    return trained.rows, trained.victim, trained.countermeasure, trained.seed


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
        place_file(shards / file.path, making / file.path)


def _draw_images(
    plan: ReleasePlan, workdir: Workdir, records: Sequence[ShardRecord], folder: Path
) -> list[Picture]:
    """Pictures of protected rows for everyone, of clean ones for the owner, and of the clean rows
    that the owner chose to show. Of large images no more than what is shown is held."""
    from cards.facts import Picture
    from cards.plots import contact_sheet, protected_sheet

    protected = dict(_protected(plan, workdir, records, _SHOWN))
    if not protected:
        return []
    protected_sheet(list(protected.values()), folder / "images.png")
    pictures = [Picture(f"reports/{plan.release}/images.png", PUBLISHED)]
    compared = list(protected)[:_COMPARED]
    clean = _clean(plan, compared)
    workdir.private.mkdir(exist_ok=True, mode=0o700)
    contact_sheet(clean, [protected[row] for row in compared], workdir.private / "compared.png")
    if plan.show_rows:
        numbers = [plan.first_row + row for row in plan.show_rows]
        shown = dict(_rows_of(plan, workdir, records, set(numbers)))
        after = [shown[row] for row in numbers]
        contact_sheet(_clean(plan, numbers), after, folder / "shown.png")
        pictures.append(Picture(f"reports/{plan.release}/shown.png", CHOSEN))
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
    from cards.plots import middle

    folder = workdir.shards(plan.craft_key())
    for record in records:
        if rows & set(record.rows):
            for released in read_shard(folder / record.files[0].path):
                if released.row in rows:
                    yield released.row, middle(decode(released.image).pixels)


def _clean(plan: ReleasePlan, rows: Sequence[int]) -> list[np.ndarray]:
    """The clean pixels of rows numbered as released, as far as they are shown."""
    from cards.plots import middle

    source, places = Source.from_json(plan.source), [row - plan.first_row for row in rows]
    return [
        middle(decode(found.image).pixels)
        for place in places
        for found in source.rows(plan.split, place, place + 1)
    ]


def _draw_releases(facts: CardFacts, making: Path) -> None:
    """How protection fared over the releases, where there are several that were verified."""
    from cards.plots import releases_plot

    if any(picture.path.endswith(RELEASES_PLOT) for picture in facts.pictures):
        releases_plot(facts.releases, making / f"reports/{facts.release}/{RELEASES_PLOT}")


def _manifest(
    plan: ReleasePlan,
    workdir: Workdir,
    records: Sequence[ShardRecord],
    report: Report,
    making: Path,
    chain: Chain,
) -> Manifest:
    bad = Survey.load(workdir.survey(plan.survey)).bad
    return Manifest.build(
        version=__version__,
        release=plan.release,
        id=plan.release_id(),
        date=plan.date,
        previous=chain.last_digest,
        plan=plan.public_view(),
        class_names=plan.class_names,
        first_row=plan.first_row,
        source_rows=plan.num_rows,
        records=records,
        quarantined=[(plan.first_row + row, reason) for row, reason in bad],
        unprotected=len(_unprotected(records)),
        removed=plan.removed,
        source_is_public=plan.source_is_public,
        report_sha256=sha256(making / report_path(plan.release)),
        measured=[summary._asdict() for summary in report.summaries],
    )
