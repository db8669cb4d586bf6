"""From what a person asked for to a plan: reads release and clean dataset once, fills in every
default, and refuses what cannot work before any hours are spent on it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from release import choices, demand, machine
from release.chain import Chain
from release.check import check
from release.errors import InputError
from release.hub_client import be_patient
from release.paths import absolute, demand_outside, written
from release.plan import digest_of
from release.publish import Target, release_names
from release.published import copy_of, named
from release.source import Source, known_split, open_source, protected_split, test_splits_of
from release.staging import public_name
from release.survey import Survey, survey
from release.terminal import Terminal
from release.verification.options import VerifyOptions
from release.verification.pairing import Reach, pair, reach_of
from release.verification.plan import VerificationPlan
from release.workdir import Workdir, default_workdir

DEFAULT_COUNTERMEASURES = (
    "none",
    "cutmix",
    "jpeg",
    "grayscale",
    "ueraser-lite",
    "at-linf:steps=3",
    "renamed",
)
"""One of each kind that minutes allow: mixing, compression, colour, strong augmentation, training
against perturbations, and renaming the outputs."""
_MOST, _HALF = 0.9, 0.5
"""Shares of the released rows whose clean image is there: from the first on, victims train on these
alone; below the second it is another dataset."""


def workdir_of(options: VerifyOptions) -> Workdir:
    """Where this verification is made; InputError where its pictures and clean pixels would be read
    as part of the release or of the clean dataset."""
    clean, release = options.clean or "", options.release or ""
    if options.workdir is not None:
        chosen = absolute(options.workdir)
    else:
        chosen = default_workdir(clean, f"verify {options.release}")
    for text, what in (
        (release, "the release, whose readers would get clean images"),
        (clean, "the clean dataset, where its pictures would be taken for rows"),
    ):
        if text and written(text).exists():
            demand_outside(chosen, written(text), what)
    return Workdir(chosen)


def resolve(options: VerifyOptions, workdir: Workdir, terminal: Terminal) -> VerificationPlan:
    """The plan for these options, with everything surveyed; InputError says what cannot work,
    ShardCorrupt which file of one of our releases is not what it was."""
    assert options.release is not None
    be_patient(options.hub_patience)
    found = _find(options, options.release, workdir, terminal)
    chosen = _chosen(options, found)
    return VerificationPlan(
        **_what(found),
        **_rows(found, options, workdir),
        **chosen,
        seeds=options.seeds,
        epochs=options.epochs,
        max_accuracy=options.max_accuracy,
        budget_minutes=options.budget_minutes,
        date=datetime.now(UTC).date().isoformat(),
        device=machine.device(),
        workers=options.workers or machine.gpus() or machine.cores(),
        max_restarts=options.max_restarts,
        hub_patience=options.hub_patience,
        versions=machine.versions(),
    )


@dataclass(frozen=True)
class _Found:
    """A release and the clean rows it is held against; pairs (M,2): released rows and the clean row
    of each, None where there are no clean ones."""

    target: Target
    chain: Chain
    source: Source
    split: str
    released: Survey
    clean: Source | None
    clean_split: str
    pairs: np.ndarray | None
    test: Source
    test_split: str
    test_rows: Survey


def _find(options: VerifyOptions, release: str, workdir: Workdir, terminal: Terminal) -> _Found:
    target = named(release, options.hub_patience)
    folder = copy_of(target, options.hub_patience)
    chain = _whole_chain(folder, release, terminal)
    if options.publish and not chain.manifests:
        raise InputError(
            f"{release} is not a release of this tool, so its card stays as it is: drop --publish"
        )
    source = _opened(str(folder), release, options)
    split = protected_split(source, options.split)
    source = source.labelled_as(split)
    clean = None if options.clean is None else _opened(options.clean, options.clean, options)
    test, scored = _tested(clean or source, source, split, options)
    surveyed = _Surveys(workdir, terminal)
    released = surveyed.of(source, split, "released", thumbs=clean is not None)
    demand.several_classes(source, released)
    test_rows = surveyed.of(test, scored, "test")
    demand.several_classes(test, test_rows, "test rows", "take more test rows")
    pairs, clean_split = None, None
    if clean is not None:
        clean_split = _clean_split(clean, split, scored, options)
    if clean is not None and clean_split is not None:
        clean = clean.labelled_as(clean_split)
        originals = surveyed.of(clean, clean_split, "clean", thumbs=True)
        pairs = _paired(source, released, clean, originals, reach_of(chain, released), terminal)
    return _Found(
        target, chain, source, split, released, clean, clean_split or "", pairs, test, scored,
        test_rows,
    )  # fmt: skip


def _tested(
    test: Source, released: Source, split: str, options: VerifyOptions
) -> tuple[Source, str]:
    """The source and split of labelled clean rows to score victims on, in the release's own
    classes."""
    scored = _test_split(test, split, options)
    if not test.is_labelled(scored):
        where = options.clean or str(options.release)
        test = _opened(test.spec, where, options, looked_at=scored)
    if not test.is_labelled(scored):
        raise InputError(
            f"the test rows of {test.spec} have no labels, so victims cannot be scored: name the "
            "column with --label-column, a labelled split with --test-split, or another --clean"
        )
    if released.class_names and released.class_names != test.class_names:
        raise InputError(
            f"the classes of {test.spec} ({_few(test.class_names)}) are not those of the release "
            f"({_few(released.class_names)}): give the dataset that it was made from"
        )
    return test, scored


def _clean_split(clean: Source, split: str, scored: str, options: VerifyOptions) -> str | None:
    """The split with the clean images of the released rows: the one of the same name, else train,
    else the only one that victims are not scored on; None where there is none."""
    if split in clean.splits:
        return split
    others = [name for name in clean.splits if name != scored]
    if options.split is not None or not others:
        return None
    if len(others) == 1 or "train" in others:
        return "train" if "train" in others else others[0]
    raise InputError(
        f"{clean.spec} has no split {split}: say with --split which of {', '.join(others)} the "
        "release was made from"
    )


def _whole_chain(folder: Path, name: str, terminal: Terminal) -> Chain:
    """The releases of ours that lie there, each file what its manifest says; none for others'."""
    paths = [f"releases/{path.name}" for path in (folder / "releases").glob("*.json")]
    if not release_names(paths):
        terminal.line(f"{name} is not a release of this tool: it is taken as it is")
        return Chain()
    with terminal.stage("check") as tell:
        return check(folder, progress=tell)


def _opened(where: str, spec: str, options: VerifyOptions, looked_at: str | None = None) -> Source:
    try:
        return open_source(
            where,
            image_column=options.image_column,
            label_column=options.label_column,
            ours_too=spec == options.release,
            split=options.split,
            looked_at=looked_at,
        )
    except InputError as problem:
        raise InputError(str(problem).replace(where, spec)) from None


def _test_split(test: Source, split: str, options: VerifyOptions) -> str:
    if options.test_split == split:
        raise InputError(
            f"--test-split {split} is the split that victims train on: name another to score them"
        )
    if options.test_split is not None:
        return known_split(test, "--test-split", options.test_split)
    found = test_splits_of(test, split)
    if not found:
        missing = "give the clean dataset with --clean" if options.clean is None else ""
        raise InputError(
            f"{options.clean or options.release} has no clean test split to score victims on: "
            f"{missing or 'name one of its splits with --test-split'}"
        )
    return next((name for name in found if test.is_labelled(name)), found[0])


@dataclass(frozen=True)
class _Surveys:
    """Surveys of whole splits, each kept under its own name."""

    workdir: Workdir
    terminal: Terminal

    def of(self, source: Source, split: str, name: str, *, thumbs: bool = False) -> Survey:
        """What each row of the split is, and looks like where that is asked for; InputError where
        it has none that can be used."""
        folder = self.workdir.survey(name)
        with self.terminal.stage(f"survey {name}") as tell:
            found = survey(source.bare(), split, folder, thumbs=thumbs, progress=tell)
        if not found.good.any():
            raise InputError(f"split {split!r} of {source.spec} has no row that can be read")
        return found


def _paired(
    source: Source,
    released: Survey,
    clean: Source,
    originals: Survey,
    reach: Reach,
    terminal: Terminal,
) -> np.ndarray | None:
    """Released rows and the clean row that each was made from: all but few of them, or None, which
    `terminal` is told. InputError where it is another dataset."""
    total, spec = len(released.rows()), clean.spec
    pairs = pair(released, originals, reach, labelled=source.label_column is not None)
    if len(pairs) < _HALF * total:
        _demand_same_rows(source, released, clean, originals)
        if reach.is_bounded:
            raise InputError(
                f"the images of {spec} are not those of the release (it has {len(pairs):,} of "
                f"{total:,}): give the dataset that it was made from"
            )
    if len(pairs) < _MOST * total:
        terminal.line(
            f"{spec} has the clean images of only {len(pairs):,} of {total:,} released rows: there "
            "are no clean twins, and nothing is compared with clean images"
        )
        return None
    if len(pairs) < total:
        terminal.line(
            f"{spec} has no clean image of {total - len(pairs):,} of {total:,} released rows: "
            "victims train on the others"
        )
    return pairs


def _demand_same_rows(source: Source, released: Survey, clean: Source, originals: Survey) -> None:
    """As far as counts and labels say, the clean rows can be those of the release."""
    ours, theirs = released.rows(), originals.rows()
    if len(theirs) < len(ours):
        raise InputError(
            f"{clean.spec} has {len(theirs)} rows and the release {len(ours)}: give the dataset "
            "that it was made from"
        )
    if source.label_column is None:
        return
    different = released.labels[ours] != originals.labels[theirs[: len(ours)]]
    if different.any():
        row = int(np.flatnonzero(different)[0])
        raise InputError(
            f"the labels of {clean.spec} are not those of the release, first in row {row}: give "
            "the dataset that it was made from"
        )


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _what(found: _Found) -> dict[str, Any]:
    """The release, and what it says of itself."""
    first = found.chain.manifests[0] if found.chain.manifests else None
    return {
        "release": public_name(found.target.name, found.target.is_hub),
        "target": found.target.name,
        "on_hub": found.target.is_hub,
        "branch": found.target.branch,
        "facts": {} if first is None else dict(found.chain.last.plan),
        "license": found.source.license,
        "source_is_public": any(m.source_is_public for m in found.chain.manifests),
        "surrogates": _surrogates(found.chain),
    }


def _surrogates(chain: Chain) -> list[str]:
    """The nets that noise of any of the releases was made with."""
    from crafting.budget import parse
    from crafting.registry import configure

    found: dict[str, None] = {}
    for manifest in chain.manifests:
        made = manifest.plan
        try:
            budget = parse(made["budget"])
            method = configure(made["method"], made["preset"], budget, made["settings"])
        except ValueError as problem:
            raise InputError(
                f"release {manifest.release} was made in a way that this version does not know "
                f"({problem}): verify it with the version that made it or a later one"
            ) from None
        found |= dict.fromkeys(method.surrogates)
    return list(found)


def _rows(found: _Found, options: VerifyOptions, workdir: Workdir) -> dict[str, Any]:
    """What victims train on and are scored on; who is whose clean row is in WORKDIR."""
    there = len(found.released.rows() if found.pairs is None else found.pairs)
    pairs = None
    if found.pairs is not None:
        pairs = digest_of(found.pairs.tolist())
        workdir.save_pairs(pairs, found.pairs)
    own = found.chain.last.plan.get("net_size") if found.chain.manifests else None
    return {
        "source": found.source.to_json(),
        "split": found.split,
        "clean": None if found.pairs is None else found.clean and found.clean.to_json(),
        "pairs": pairs,
        "clean_split": found.clean_split,
        "test_source": found.test.to_json(),
        "test_split": found.test_split,
        "class_names": list(found.source.class_names or found.test.class_names),
        "labelled": found.source.label_column is not None,
        "rows": min(options.rows or there, there),
        "delivered_as": _delivery(options.delivered_as),
        "net_size": options.net_size or own or min(224, found.released.common_short_side()),
    }


def _delivery(text: str) -> str:
    from evaluation.delivery import parse_delivery

    try:
        return str(parse_delivery(text))
    except ValueError as problem:
        raise InputError(f"--delivered-as: {problem}") from None


def _chosen(options: VerifyOptions, found: _Found) -> dict[str, Any]:
    """Who learns from the release, and by which means."""
    preset = choices.preset(options.preset)
    rows = choices.Rows(
        found.test.num_classes,
        labelled=found.source.label_column is not None,
        has_clean=found.pairs is not None,
    )
    usual = DEFAULT_COUNTERMEASURES if rows.labelled else choices.WITHOUT_LABELS
    tried = choices.countermeasures(options.countermeasure or usual, rows)
    analyses = choices.analyses(options.analysis, rows)
    demand.possible(tried, rows)
    demand.examinable(analyses, rows)
    return {
        "preset": preset,
        "victims": choices.victims(options.victim, preset),
        "countermeasures": tried,
        "analyses": analyses,
    }
