"""From what a person asked for to a plan: reads the source once, fills in every default, and
refuses what cannot work before any hours are spent on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from release import choices, demand, increment, machine, repeats
from release.chain import Chain
from release.committed import demand_one_noise
from release.encode import Encoding
from release.errors import InputError, SecondNoise
from release.existing import Existing, look
from release.increment import Increment
from release.opening import opened, tested
from release.options import ReleaseOptions, is_never_published
from release.paths import absolute, demand_outside, written
from release.plan import ReleasePlan
from release.publish import Target, target_of
from release.shards import default_rows_per_shard
from release.source import Source, protected_split, test_splits_of
from release.survey import Survey, survey
from release.terminal import Terminal
from release.unused import of_settings, without_effect
from release.workdir import Workdir, default_workdir

if TYPE_CHECKING:
    from crafting.method import Method


def workdir_of(options: ReleaseOptions) -> Workdir:
    """Where this release is made; InputError where others would read what is secret there."""
    target, source = _target(options), written(options.source)
    if options.workdir is not None:
        chosen = absolute(options.workdir)
    else:
        chosen = default_workdir(options.source, target.name)
    if source.exists():
        clean = "the source, which would hold protected images beside clean ones"
        demand_outside(chosen, source, clean)
    if not target.is_hub:
        target.refuse(options.source)  # what is wrong with the target itself is said first
        readers = "the target, whose readers would get the secret seed and clean images"
        demand_outside(chosen, Path(target.name), readers)
    return Workdir(chosen)


def resolve(options: ReleaseOptions, workdir: Workdir, terminal: Terminal) -> ReleasePlan | None:
    """The plan for these options, with the source surveyed; None where the target has every row of
    the source already. InputError says what cannot work."""
    existing = look(options, _target(options), terminal)
    chain = existing.chain
    unused, asked = without_effect(options, chain), options
    if chain.manifests:
        options = increment.continued(options, chain)
    method = _method(options)
    demand.hidden_source(options)
    source = opened(options)
    split = protected_split(source, options.split)
    source = increment.with_classes(chain, source.labelled_as(split))
    _tell_start(source, split, existing.target, chain, terminal)
    if unused:
        terminal.line(f"without effect here: {', '.join(unused)}")
    if chain.manifests:
        increment.demand_same_rows(chain, source, split, list(source.columns.features()))
    whole = _survey(source, split, options.rows, options, workdir, terminal)
    demand.labels(source, method, options)
    name = split
    if not chain.manifests:
        one_each = repeats.one_each(method)
        name, whole = repeats.first_release(source, split, whole, one_each, workdir, terminal.line)
        demand.classes(source, whole, method, options)
    scored = _scored(source, split, options, workdir, terminal)
    found = _Found(options, workdir, existing, source, split, name, whole, scored, method)
    plan = _increment(found, terminal) if chain.manifests else _plan(found, None)
    if plan is None:
        return None
    try:
        demand_one_noise(plan, workdir, existing.vault, chain.ids, reads=True)
    except SecondNoise as noise:
        kept = increment.keeping(noise, chain, plan, asked)
        terminal.line(f"the new rows keep the noise that they have from {noise.method}")
        return resolve(kept, workdir, terminal)
    return plan


def _increment(found: _Found, terminal: Terminal) -> ReleasePlan | None:
    """The plan for the rows that are new; None where none is."""
    existing, options = found.existing, found.options
    step = increment.find(
        existing.chain,
        existing.vault,
        found.source,
        found.split,
        found.whole,
        options,
        existing.seed.digits,
        found.workdir,
        terminal.line,
        one_each=repeats.one_each(found.method),
    )
    if step is not None:
        demand.several_classes(found.source, found.whole)
        return _plan(found, step)
    # A pull request that was merged, or a run that was killed, left no tag.
    existing.target.name_releases([manifest.release for manifest in existing.chain.manifests])
    idle = of_settings(options, existing.target.name)
    if idle:
        terminal.line(f"without effect where nothing is new: {', '.join(idle)}")
    return None


@dataclass(frozen=True)
class _Scored:
    """What victims are scored on; split and rows are None where there is nothing."""

    source: Source
    split: str | None
    rows: Survey | None


def _scored(
    whole: Source, split: str, options: ReleaseOptions, workdir: Workdir, terminal: Terminal
) -> _Scored:
    source, test = tested(whole, split, options)
    demand.scored(whole, source, options)
    unlabelled = [name for name in test_splits_of(whole, split)[:1] if name != test]
    if unlabelled and options.test_split is None:
        terminal.line(f"split {unlabelled[0]} has no labels to score victims by")
    if test is None:
        return _Scored(source, None, None)
    rows = _survey(
        source.bare(), test, None, options, workdir, terminal, "name another with --test-split"
    )
    if options.verify:
        demand.several_classes(source, rows, "test rows", "take more test rows")
    return _Scored(source, test, rows)


@dataclass(frozen=True)
class _Found:
    """What was asked for and what was found, before the rest is decided; survey: the name of
    `whole` in WORKDIR."""

    options: ReleaseOptions
    workdir: Workdir
    existing: Existing
    source: Source
    split: str
    survey: str
    whole: Survey
    scored: _Scored
    method: Method


def _plan(found: _Found, step: Increment | None) -> ReleasePlan:
    """The plan's values, each filled in from the options, the source or this machine; `step` says
    which rows are added to a dataset that is there already."""
    options, source = found.options, found.source if step is None else step.source
    rows = found.whole if step is None else step.rows
    encoding: Encoding = choices.one_of("--encoding", options.encoding, ("png", "webp"))
    demand.encodable(rows, encoding)
    shape = rows.one_shape()
    demand.one_size(shape, found.method, str(options.method))
    net_size = options.net_size or max(8, min(224, rows.common_short_side()))
    fit_rows = _fit_rows(found, net_size)
    preset = choices.preset(options.preset)
    return ReleasePlan(
        **_place_in_chain(found, step),  # type: ignore[arg-type]
        **_where(found),  # type: ignore[arg-type]
        source=source.to_json(),
        source_is_public=options.source_is_public,
        columns=list(source.columns.features()),
        not_published=_not_published(source, found.split),
        split=found.split,
        test_split=found.scored.split,
        test_source=None if found.scored.source is found.source else found.scored.source.to_json(),
        limit=options.rows,
        num_rows=len(rows),
        test_rows=0 if found.scored.rows is None else len(found.scored.rows.rows()),
        class_names=list(source.class_names),
        shape=None if shape is None else list(shape),
        method=options.method or increment.DEFAULT_METHOD,
        preset=preset,
        budget=str(found.method.budget),
        settings=choices.settings(options.set_),
        target_map=_target_map(options, source, found.method),
        protect_classes=_protected_classes(options, source),
        protect_share=options.protect_share,
        net_size=net_size,
        fit_rows=fit_rows,
        fit_share=1.0 if step is None else min(1.0, fit_rows / len(found.whole.rows())),
        seed=found.existing.seed.digits,
        typed_seed=found.existing.seed.typed or found.existing.chain.typed_seed,
        formats=choices.formats(options.format or "parquet"),
        encoding=encoding,
        rows_per_shard=options.rows_per_shard or _rows_per_shard(rows),
        batch_size=_batch_size(net_size),
        license=options.license or source.license,
        show_rows=_show_rows(options.show_rows, rows, found.existing.chain.next_row),
        verify=options.verify,
        victims=choices.victims(options.victim, preset),
        countermeasures=_countermeasures(options, source, found.scored.source),
        victim_seeds=options.victim_seeds,
        victim_epochs=options.victim_epochs,
        max_accuracy=options.max_accuracy,
        **_run(options),  # type: ignore[arg-type]
    )


def _place_in_chain(found: _Found, step: Increment | None) -> dict[str, object]:
    """Which release of the dataset it is, and what it adds."""
    chain = found.existing.chain
    first = chain.manifests[0].num_rows if chain.manifests else len(found.whole.rows())
    return {
        "release": chain.next_name,
        "previous": chain.last_digest,
        "first_row": chain.next_row,
        "first_rows": min(first, found.options.verify_rows),
        "date": datetime.now(UTC).date().isoformat(),
        "removed": 0 if step is None else step.removed,
        "survey": found.survey if step is None else step.survey,
        "pairs": None if step is None else step.pairs,
        "old_rows": 0 if step is None else step.old_rows,
    }


def _where(found: _Found) -> dict[str, object]:
    """Where it goes, and where it is made."""
    options = found.options
    return {
        "target": found.existing.target.name,
        "on_hub": found.existing.target.is_hub,
        "revision": options.revision,
        "create_pr": options.create_pr,
        "public": found.existing.for_everybody,
        "gated": options.gated,
        "hub_patience": options.hub_patience,
        "state": found.existing.state,
        "workdir": str(found.workdir.path),
    }


def _target(options: ReleaseOptions) -> Target:
    return target_of(
        options.to,
        options.source,
        revision=options.revision,
        create_pr=options.create_pr,
        public=options.public,
        gated=options.gated,
        patience=options.hub_patience,
    )


def _tell_start(
    source: Source, split: str, target: Target, chain: Chain, terminal: Terminal
) -> None:
    there = f"{chain.next_name}, after {chain.num_rows:,} rows" if chain.manifests else "new"
    goes = "" if is_never_published(target.name) else f" -> {target.name} ({there})"
    terminal.line(f"clean {source.spec}{goes}")
    if source.label_column is None:
        terminal.line(f"the rows of split {split} have no labels")
    left = [f"{kind} {', '.join(names)}" for kind, names in _not_published(source, split).items()]
    if left:
        terminal.line(f"not published: {'; '.join(left)}")


def _not_published(source: Source, split: str) -> dict[str, list[str]]:
    """What the source has and the release has not, by kind."""
    left = {
        "configs": list(source.other_configs),
        "splits": [name for name in source.splits if name != split],
        "columns": list(source.dropped),
        "files": list(source.unread),
    }
    return {kind: names for kind, names in left.items() if names}


def _run(options: ReleaseOptions) -> dict[str, object]:
    """Where and by how many the work is done."""
    fit_workers = options.fit_workers or machine.gpus() or 1
    allowed = int(os.environ.get("OMP_NUM_THREADS") or machine.cores())
    return {
        "device": machine.device(),
        "workers": options.workers or machine.gpus() or machine.cores(),
        "max_restarts": options.max_restarts,
        "fit_workers": fit_workers,
        "fit_threads": max(1, allowed // fit_workers),
        "versions": machine.versions(),
    }


def _method(options: ReleaseOptions) -> Method:
    from crafting.budget import parse
    from crafting.registry import configure, registration

    name, listed = options.method or increment.DEFAULT_METHOD, "protect-release methods"
    try:
        registration(name)
        listed = f"{listed} {name}"
        budget = None if options.budget is None else parse(options.budget)
        return configure(
            name, choices.preset(options.preset), budget, choices.settings(options.set_)
        )
    except ValueError as problem:
        raise InputError(f"{problem} (see `{listed}`)") from None


def _countermeasures(options: ReleaseOptions, source: Source, tested: Source) -> list[str]:
    """What victims try: plain training, which the gate judges, and what was asked for; without
    labels nothing that learns from them."""
    rows = choices.Rows(tested.num_classes, labelled=source.label_column is not None)
    asked = options.countermeasure
    wanted = ["none", *asked] if rows.labelled else asked or choices.WITHOUT_LABELS
    tried = choices.countermeasures(wanted, rows)
    if options.verify:
        demand.possible(tried, rows)
    return tried


def _survey(
    source: Source,
    split: str,
    limit: int | None,
    options: ReleaseOptions,
    workdir: Workdir,
    terminal: Terminal,
    remedy: str = "mend the source",
) -> Survey:
    with terminal.stage(f"survey {split}") as tell:
        found = survey(source, split, workdir.survey(split), limit=limit, progress=tell)
    demand.few_bad_rows(found, source, split, options, remedy)
    if found.bad:
        terminal.line(f"split {split}: {len(found.bad)} of {len(found)} rows are left out")
    return found


def _protected_classes(options: ReleaseOptions, source: Source) -> list[int] | None:
    if options.protect_classes is None:
        return None
    return choices.classes("--protect-classes", options.protect_classes, source.class_names)


def _target_map(options: ReleaseOptions, source: Source, method: Method) -> list[int] | None:
    if options.target_map is None:
        return None
    if not method.target_shift:
        raise InputError(f"method {options.method} pulls towards no class: drop --target-map")
    protected = _protected_classes(options, source) or range(source.num_classes)
    return choices.target_map(options.target_map, source.class_names, protected)


def _fit_rows(found: _Found, net_size: int) -> int:
    """As many rows as were asked for, or as fit in the cache at net size in colour; for an
    increment a share of the source."""
    options, there = found.options, len(found.whole.rows())
    room = int(options.cache_gb * 1e9 / (3 * net_size * net_size))
    if found.existing.chain.manifests:
        share = choices.share("--fit-share", options.fit_share)
        return max(2 * found.source.num_classes, min(room, round(share * there)))
    return min(options.fit_rows or room, there)


def _rows_per_shard(rows: Survey) -> int:
    return default_rows_per_shard(len(rows), rows.bytes_per_row())


def _batch_size(net_size: int) -> int:
    """Images crafted together, where they are not large: on CPU more than 128 are slower, since
    each batch then asks the system for fresh memory; a GPU wants to be filled."""
    wanted = 64 if machine.device() == "cpu" else 512 * 32 * 32 // (net_size * net_size)
    return max(16, wanted)


def _show_rows(text: str | None, rows: Survey, first_row: int) -> list[int]:
    """The chosen rows, numbered as in the dataset, that are among those of this release, counted
    from its first; what earlier releases show was chosen then."""
    chosen = choices.row_numbers("--show-rows", text)
    shown = [row - first_row for row in chosen if row >= first_row]
    for row in shown:
        if row >= len(rows) or not rows.good[row]:
            raise InputError(
                f"--show-rows: row {first_row + row} is not released (rows {first_row} to "
                f"{first_row + len(rows) - 1})"
            )
    return shown
