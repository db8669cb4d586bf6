"""Adding to a published dataset: which rows of the source are new, and how they are protected.

A row is known by its image bytes and label, through the ledger; where it stands in the source and
how the source is cut into files do not matter. Of those that are new, the ones whose picture is
public under another label, or once more, are left out; so is all but one of several labels that new
rows give one picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np

from release import choices, repeats
from release.arrays import digest_of_arrays
from release.chain import Chain
from release.columns import demand_continued
from release.errors import InputError, SecondNoise
from release.ledger import Comparison
from release.manifest import Manifest
from release.options import ReleaseOptions
from release.plan import ReleasePlan
from release.public_rows import REASON, public_rows, told
from release.row_names import row_name
from release.source import Source
from release.survey import Survey, restricted
from release.vault import Vault
from release.workdir import Seed, Workdir, typed_seed

DEFAULT_METHOD = "sep-fa-vr"
DEFAULT_INCREMENTAL = "alignment-online"


@dataclass(frozen=True)
class Increment:
    """The rows that a release adds. source and rows: the source and the survey of the new rows
    alone; survey: the name of that survey in WORKDIR; pairs: names the array of (row of the whole
    source, released row) that victims train on; old_rows: how many of them were published before;
    removed: published rows that the source no longer has."""

    source: Source
    rows: Survey
    survey: str
    pairs: str
    old_rows: int
    removed: int


def find(
    chain: Chain,
    vault: Vault,
    source: Source,
    split: str,
    survey: Survey,
    options: ReleaseOptions,
    seed: str,
    workdir: Workdir,
    tell: Callable[[str], None],
    *,
    one_each: bool = False,
) -> Increment | None:
    """What the source has that the dataset has not, with its survey in WORKDIR; None where that is
    nothing. one_each: copies are left out too (see `repeats`)."""
    ledger = vault.ledger(chain.ids)
    compared = ledger.compare(vault.marks(np.asarray(survey.digests)))
    removed = _released_only(compared.removed, chain)
    if len(removed):
        shown = ", ".join(map(str, removed[:5])) + (", ..." if len(removed) > 5 else "")
        tell(f"{len(removed)} published rows are no longer in the source: {shown}; they stay")
    if not len(compared.new):
        return None
    good = compared.new[survey.good[compared.new]].tolist()
    if len(good) < len(compared.new):
        tell(_unreadable(source, split, survey, compared.new))
    released = ledger.without(_quarantined(chain))
    public = list(public_rows(source, split, good, released, vault.marks))
    if public:
        tell(told(source, split, public))
    if len(public) == len(good):
        return None
    left_out = {row.place: REASON for row in public}
    rest = np.setdiff1d(good, list(left_out))
    left_out |= repeats.left_out(source, split, survey, rest, one_each, tell)
    name, folder = restricted(survey, split, compared.new, left_out, workdir)
    rows = Survey.load(folder)
    old = _sampled(_usable(compared, chain, survey), options.verify_rows, seed)
    pairs = np.concatenate([old, _numbered(compared.new, rows, chain.next_row)])
    pairs = pairs[np.argsort(pairs[:, 0])]
    key = digest_of_arrays(pairs)
    workdir.save_pairs(key, pairs)
    chosen = source.only(split, folder / "rows.npy")
    return Increment(chosen, rows, name, key, len(old), len(removed))


def _unreadable(source: Source, split: str, survey: Survey, new: np.ndarray) -> str:
    """What a person is told of new rows that cannot be released."""
    among = set(new.tolist())
    bad = [(row, reason) for row, reason in survey.bad if row in among]
    row, reason = bad[0]
    return (
        f"{len(bad)} of {len(new)} new rows cannot be released (first: "
        f"{row_name(source, split, row)}, {reason}): mend them in the source, or take them out"
    )


def demand_options(options: ReleaseOptions) -> None:
    """InputError where what is said for later releases cannot be, though this may be the first."""
    from crafting.registry import registration

    if choices.share("--fit-share", options.fit_share) == 0:
        raise InputError("--fit-share is above 0: a fit needs rows, such as 1%")
    choices.settings(options.incremental_set, "--incremental-set")
    try:
        registration(options.incremental_method or DEFAULT_INCREMENTAL)
    except ValueError as problem:
        raise InputError(f"--incremental-method: {problem}") from None


def continued(options: ReleaseOptions, chain: Chain) -> ReleaseOptions:
    """The options of a release that follows others: method, nets and formats as they have to be.

    InputError where the options would protect rows once more that are public already: two noises
    average out.
    """
    first = chain.manifests[0]
    if options.method not in (None, first.method):
        raise InputError(
            f"the dataset was protected with {first.method}, and protecting public rows again with "
            f"{options.method} would let anyone average the two: leave --method out; for new rows "
            f"alone use --incremental-method {options.method}, for another dataset another --to"
        )
    chosen = method_for_new_rows(first, options)
    formats = ",".join(first.formats)
    if options.format is not None and choices.formats(options.format) != first.formats:
        raise InputError(f"the dataset is published as {formats}: leave --format out")
    same = chosen == first.method
    return replace(
        options,
        method=chosen,
        preset=first.plan["preset"],
        budget=first.budget if same or options.budget is None else options.budget,
        set_=[f"{k}={v}" for k, v in first.plan["settings"].items()]
        if same and not options.incremental_set
        else options.incremental_set,
        format=formats,
        net_size=first.plan["net_size"],
    )


def method_for_new_rows(first: Manifest, options: ReleaseOptions) -> str:
    """The one that is named; else the default one, or the dataset's own where that cannot work
    within the budget. InputError where neither can protect these rows."""
    from crafting.budget import parse
    from crafting.registry import configure

    if options.incremental_method or options.incremental_set:  # these are the default's options
        return options.incremental_method or DEFAULT_INCREMENTAL
    budget = parse(options.budget or first.budget)
    try:
        configure(DEFAULT_INCREMENTAL, first.plan["preset"], budget)
    except ValueError as problem:
        if not _serves_new_rows(first.method):
            raise InputError(
                f"new rows are protected with {DEFAULT_INCREMENTAL} unless told otherwise, but "
                f"{problem}; and {first.method}, as the dataset was protected, serves no rows "
                "that it was not fitted on: name an --incremental-method with its --budget"
            ) from None
        return first.method
    return DEFAULT_INCREMENTAL


def own_method(chain: Chain, options: ReleaseOptions) -> str | None:
    """The dataset's own method where it could protect these rows instead of the one that did;
    None where a person chose that one, or the dataset's takes no rows that its fit never saw."""

    name = chain.manifests[0].method
    if options.incremental_method is not None or name == DEFAULT_INCREMENTAL:
        return None
    return name if _serves_new_rows(name) else None


def keeping(
    noise: SecondNoise, chain: Chain, plan: ReleasePlan, options: ReleaseOptions
) -> ReleaseOptions:
    """The options with the dataset's own method, where rows that nobody chose a method for have
    its noise already, as of a pull request that waits; raises `noise` otherwise."""
    own = own_method(chain, options) if plan.is_increment else None
    if own in (None, plan.method) or own != noise.method:
        raise noise
    return replace(options, incremental_method=own, incremental_set=[])


def _serves_new_rows(name: str) -> bool:
    """Whether the method takes rows that its fit never saw, each by itself."""
    from crafting.registry import registration

    entry = registration(name).quick
    return entry.unseen != "refused" and entry.scope == "sample"


def with_classes(chain: Chain, source: Source) -> Source:
    """The source, with the classes of the dataset where it is a folder that has images of some of
    them only: folders alone cannot say that there are more."""
    if source.kind != "imagefolder" or not chain.manifests:
        return source
    urls = [PurePosixPath(url) for files in source.splits.values() for url in files]
    names, at_one_depth = chain.last.class_names, len({len(url.parts) for url in urls}) == 1
    if not at_one_depth or not {url.parent.name for url in urls} <= set(names):
        return source
    return replace(source, label_column="label", class_names=names)


def demand_same_rows(chain: Chain, source: Source, split: str, columns: list[str]) -> None:
    """InputError where rows of this source cannot follow those of the dataset."""
    last = chain.last
    if split != last.split:
        raise InputError(f"the dataset holds split {last.split}, not {split}: name another --to")
    strange = [name for name in source.class_names if name not in last.class_names]
    if strange:
        raise InputError(
            f"class {strange[0]!r} of {source.spec} is not one of the dataset's "
            f"({', '.join(last.class_names)}): a new class needs a new dataset; leave its rows "
            "out, or name another --to"
        )
    if tuple(source.class_names) != last.class_names:
        raise InputError(
            f"the classes of {source.spec} are {', '.join(source.class_names)}, those of the "
            f"dataset {', '.join(last.class_names)}: declare the same ones in the same order"
        )
    if columns != last.plan["columns"]:
        raise InputError(
            f"the dataset has the columns {', '.join(last.plan['columns'])}, this release would "
            f"have {', '.join(columns)}: keep the same ones with --keep-column"
        )
    demand_continued(last.plan.get("kept", {}), source.kept)


def demand_same_seed(options: ReleaseOptions, kept: Seed | None) -> None:
    """InputError where --seed is not the seed that public rows were made with."""
    if options.seed is not None and kept not in (None, typed_seed(options.seed)):
        raise InputError(
            f"--seed {options.seed} is not the seed that this dataset was made with: leave --seed "
            "out, or name another --to"
        )


def _usable(compared: Comparison, chain: Chain, survey: Survey) -> np.ndarray:
    """(M,2) of the rows that are published and still in the source."""
    old = compared.old
    bad = _quarantined(chain)
    usable: np.ndarray = old[survey.good[old[:, 0]] & ~np.isin(old[:, 1], bad)]
    return usable


def _released_only(rows: np.ndarray, chain: Chain) -> list[int]:
    bad = set(_quarantined(chain))
    return [int(row) for row in rows if int(row) not in bad]


def _quarantined(chain: Chain) -> list[int]:
    """The rows that releases left out."""
    return [row for manifest in chain.manifests for row, _ in manifest.quarantined]


def _sampled(pairs: np.ndarray, most: int, seed: str) -> np.ndarray:
    if len(pairs) <= most:
        return pairs
    generator = np.random.default_rng(int(seed[:16], 16))
    chosen: np.ndarray = pairs[np.sort(generator.choice(len(pairs), most, replace=False))]
    return chosen


def _numbered(new: np.ndarray, rows: Survey, first_row: int) -> np.ndarray:
    """(L,2): each good new row of the source with the number that it is released under."""
    places = rows.rows()
    return np.stack([new[places], first_row + places], axis=1)
