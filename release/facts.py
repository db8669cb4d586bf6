"""What the card may claim, each fact from where it was decided or measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cards.facts import CardFacts, Measured, Picture, ReleaseEntry
from release import __version__
from release.chain import Chain
from release.publish import MAIN, tag_name
from release.source import Source

if TYPE_CHECKING:
    from evaluation.released import Format
    from evaluation.report import Report
    from release.manifest import Manifest
    from release.plan import ReleasePlan
    from release.shards import ShardRecord

RELEASES_PLOT = "releases.png"
_FOLDERS = {"parquet": "data", "webdataset": "webdataset"}
_SUFFIXES = {"parquet": "parquet", "webdataset": "tar"}


def card_facts(
    plan: ReleasePlan,
    records: Sequence[ShardRecord],
    report: Report,
    chain: Chain,
    pictures: Sequence[Picture],
) -> CardFacts:
    """The facts of the dataset once the last release of the chain, which is the planned one, is
    there."""
    visibility = report.visibility
    assert visibility is not None, "whoever makes a release has the clean images"
    source, method = Source.from_json(plan.source), plan.configured()
    main: Format = "parquet" if "parquet" in plan.formats else "webdataset"
    globs = {format: _globs(chain, format) for format in plan.formats}
    num_bytes = sum(file.num_bytes for m in chain.manifests for file in m.of_format(main))
    entries = releases(chain)
    return CardFacts(
        pretty_name=_pretty_name(source, plan),
        repo_id=plan.target if plan.on_hub else None,
        branch=None if plan.revision in (None, MAIN) else plan.revision,
        before=_tag_before(plan, entries),
        source_citation=source.citation,
        source_is_public=any(m.source_is_public for m in chain.manifests),
        license=plan.license or "unknown",
        split=plan.split,
        release=plan.release,
        releases=entries,
        rows=sum(m.source_rows for m in chain.manifests),
        released=chain.num_rows,
        quarantined=Counter(reason for m in chain.manifests for _, reason in m.quarantined),
        conversions=_conversions(records),
        unprotected_rows=sum(m.unprotected for m in chain.manifests),
        class_names=plan.class_names,
        image_column=source.image_column,
        shown_clean_rows=[plan.first_row + row for row in plan.show_rows],
        method=plan.method,
        paper=method.paper,
        bibtex=method.bibtex,
        budget=plan.budget,
        preset=plan.preset,
        measured=[Measured(**summary._asdict()) for summary in report.summaries],
        test_split=report.subject.test_split,
        only_small_networks=any(flag.id == "small-networks-only" for flag in report.flags),
        sampled=report.subject.sample,
        gate=None if report.verdict is None else report.verdict.reason,
        # That it was not verified is what the card begins with.
        flags=[flag.text for flag in report.flags if flag.id != "not-verified"],
        psnr=visibility.psnr,
        ssim=visibility.ssim,
        max_level=visibility.max_level,
        features=source.columns.features()._to_yaml_list() if main == "parquet" else None,
        data_files=globs[main],
        tar_files=globs.get("webdataset", []),
        num_bytes=num_bytes,
        download_size=num_bytes,
        pictures=[*pictures, *_plots(plan, report, entries)],
        tool=f"protect-release {__version__}",
    )


def _tag_before(plan: ReleasePlan, entries: Sequence[ReleaseEntry]) -> str | None:
    if len(entries) == 1 or not plan.on_hub:
        return None
    return tag_name(entries[-2].name, plan.revision)


def _conversions(records: Sequence[ShardRecord]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for record in records:
        total.update(record.measured["conversions"])
    return dict(total)


def releases(chain: Chain) -> list[ReleaseEntry]:
    """The release log, oldest first, from what the manifests say."""
    totals = [sum(m.num_rows for m in chain.manifests[: n + 1]) for n in range(len(chain))]
    return [_entry(m, total) for m, total in zip(chain.manifests, totals, strict=True)]


def _entry(manifest: Manifest, total: int) -> ReleaseEntry:
    return ReleaseEntry(
        name=manifest.release,
        date=manifest.date,
        method=manifest.method,
        budget=manifest.budget,
        rows=manifest.num_rows,
        total=total,
        measured=[Measured(**values) for values in manifest.measured],
    )


def _globs(chain: Chain, format: str) -> list[str]:
    """One glob a release, so that shards of a later one are seen only once the card lists them."""
    folder, suffix = _FOLDERS[format], _SUFFIXES[format]
    return [f"{folder}/{m.split}/{m.release}-*.{suffix}" for m in chain.manifests]


def _pretty_name(source: Source, plan: ReleasePlan) -> str:
    """The source's own name, or else the target's: a source's path is nobody's business."""
    return f"{source.pretty_name} (protected)" if source.pretty_name else Path(plan.target).name


def _plots(plan: ReleasePlan, report: Report, entries: Sequence[ReleaseEntry]) -> list[Picture]:
    if report.verdict is None:
        return []
    folder = f"reports/{plan.release}"
    worst = report.verdict.worst
    seed = worst.seed if plan.victim_seeds > 1 else None
    shown = confusion_caption(worst.victim, worst.countermeasure, seed)
    found = [Picture(f"{folder}/confusion.png", shown)]
    if any(trial.is_plain for trial in report.trials):
        after = accuracy_caption(plan.victim_seeds)
        found.insert(0, Picture(f"{folder}/accuracy.png", after))
    drawn = [entry for entry in entries if entry.learnt_most("release")]
    if len(drawn) > 1:
        over = "Accuracy on clean test images, release by release, of the victims listed with them."
        found.append(Picture(f"{folder}/{RELEASES_PLOT}", over))
    return found


def confusion_caption(victim: str, countermeasure: str, seed: int | None) -> str:
    """What the matrix shows; seed: of the victim, where there are several."""
    how = "" if countermeasure == "none" else f" with {countermeasure}"
    which = "" if seed is None else f" (seed {seed})"
    return f"What the {victim} trained on this release{how}{which} took clean test images for."


def accuracy_caption(seeds: int) -> str:
    """What the curves show, which are those of the first of so many seeds."""
    which = "" if seeds == 1 else f", from the first of {seeds} seeds"
    return f"Accuracy on clean test images after each epoch{which}."
