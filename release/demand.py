"""What a release cannot do without, demanded before any hours are spent on it: each function raises
InputError (or TooManyBadRows) that says what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cards.kept import torn
from release import choices
from release.discover import is_hub_source
from release.encode import WEBP_SIDE
from release.errors import InputError, TooManyBadRows
from release.hub import readable_without_token
from release.hub_client import be_patient
from release.increment import DEFAULT_METHOD
from release.options import ReleaseOptions, is_never_published
from release.row_names import row_name
from release.source import Source
from release.survey import Survey
from release.workdir import Seed

if TYPE_CHECKING:
    from crafting.method import Method
    from evaluation.countermeasures import Countermeasure


def worth_public(options: ReleaseOptions, target: str) -> None:
    """What nobody can check, or anybody can make again, is not for everybody."""
    if not options.verify:
        raise InputError(
            f"a release for everybody must be verified: drop --no-verify, or keep {target} private"
        )
    if options.seed is not None:
        raise InputError(
            "a release for everybody needs a secret seed, and a typed one can be guessed: drop "
            f"--seed, or keep {target} private"
        )


def secret_seed(seed: Seed, target: str) -> None:
    """A seed that was typed before, and kept, is not that of a release for everybody either."""
    if seed.typed:
        raise InputError(
            f"a release for everybody needs a secret seed, and that of {target} was typed once and "
            "can be guessed: keep it private, or name another --to"
        )


def whole_card(readme: str, target: str) -> None:
    """What is left of a card that was cut would be taken for lines that the owner wrote."""
    if lost := torn(readme):
        raise InputError(
            f"the README.md of {target} has lost {lost}, so that what is left of it cannot be told "
            "from your own lines: restore it from a copy, or delete the rest of the card, then run "
            "the same command again"
        )


def hidden_source(options: ReleaseOptions) -> None:
    """Not everybody can read the clean source: clean minus protected is the noise."""
    if not is_hub_source(options.source):
        return
    be_patient(options.hub_patience)
    if options.source_is_public or is_never_published(options.to):
        return
    repo_id, _, revision = options.source.removeprefix("hf://datasets/").partition("@")
    if readable_without_token(repo_id, revision or None, options.hub_patience):
        raise InputError(
            f"anyone can read the clean {repo_id}, train on it and subtract it from the release: "
            "make it private first, or go on with --source-is-public, which the card will say"
        )


def few_bad_rows(
    found: Survey, source: Source, split: str, options: ReleaseOptions, remedy: str
) -> None:
    """No more rows of the split, which was read whole, are unreadable than the person allows."""
    allowed = choices.share("--max-bad", options.max_bad)
    if len(found.bad) > allowed * len(found):
        row, reason = found.bad[0]
        raise TooManyBadRows(
            f"{len(found.bad)} of {len(found)} rows of split {split} cannot be released (first: "
            f"{row_name(source, split, row)}, {reason}), more than --max-bad {options.max_bad}: "
            f"{remedy} or raise --max-bad"
        )


def one_size(shape: tuple[int, int, int] | None, method: Method, name: str) -> None:
    """Images are alike where the method needs that."""
    if shape is None and method.one_size:
        raise InputError(
            f"method {name} needs images of one size: choose one that does not "
            f"({_names(lambda m: not m.one_size)}), or resize the source"
        )


def encodable(rows: Survey, encoding: str) -> None:
    """Every image fits in the files that are released."""
    sides = rows.sizes[:, 1:].max(axis=1)
    if encoding == "webp" and sides.max() > WEBP_SIDE:
        raise InputError(
            f"row {int(sides.argmax())} of those to be released has a side of {int(sides.max())} "
            f"pixels, and those of WebP end at {WEBP_SIDE}: use --encoding png"
        )


def labels(source: Source, method: Method, options: ReleaseOptions) -> None:
    """There are the labels that the method needs."""
    if source.label_column is None and method.needs_labels:
        raise InputError(
            f"the rows of {source.spec} have no labels and method "
            f"{options.method or DEFAULT_METHOD} needs them: {_labelling(source)}, or choose "
            f"{_names(lambda m: not m.needs_labels)}"
        )


def scored(source: Source, tested: Source, options: ReleaseOptions) -> None:
    """There are labels to score victims by, even where the rows to protect have none."""
    if options.verify and source.label_column is None and tested.label_column is None:
        raise InputError(
            f"the rows of {source.spec} have no labels, and no test split has any to score victims "
            f"by: {_labelling(source)}, name a labelled split with --test-split, or add "
            "--no-verify"
        )


def _labelling(source: Source) -> str:
    """How its rows get labels."""
    if source.kind == "imagefolder":
        return "put the images of each class into a folder of its own, all at one depth"
    return "name their column with --label-column"


def possible(tried: Sequence[str], rows: choices.Rows) -> None:
    """Every countermeasure finds what it takes, and some victim trains on the rows as they ship."""
    from evaluation.countermeasures import parse

    parsed = [parse(text) for text in tried]
    for each in parsed:
        missing = rows.missing(each)
        if missing is not None:
            raise InputError(f"{missing}: drop it{_instead(each, rows)}")
    if all(each.is_setting for each in parsed):
        raise InputError(
            f"with {', '.join(tried)} no victim trains on the rows as they are released: add "
            "--countermeasure none"
        )


def _instead(tried: Countermeasure, rows: choices.Rows) -> str:
    """What else can be done where these rows lack what a countermeasure takes."""
    if not rows.labelled:
        return f", or try {choices.WITHOUT_LABELS[0]}"
    if tried.needs_twin and not rows.has_clean:
        return ", or give them with --clean"
    return ""


def examinable(analyses: Sequence[str], rows: choices.Rows) -> None:
    """Every analysis finds what it looks at."""
    from evaluation.analyses import parse

    for text in analyses:
        if parse(text).needs_clean and not rows.has_clean:
            raise InputError(
                f"{text} compares with the clean images that the release was made from: give them "
                "with --clean, or drop it"
            )
        if parse(text).needs_labels and not rows.labelled:
            raise InputError(f"{text} goes by labels, and the release has none: drop it")


def several_classes(
    source: Source, rows: Survey, what: str = "rows", more: str = "take more rows"
) -> None:
    """Where there are labels, at least two classes have rows; what: these rows are."""
    if source.label_column is None:
        return
    counts = rows.class_counts(len(source.class_names))
    filled = [name for name, count in zip(source.class_names, counts, strict=True) if count]
    if len(filled) < 2:
        raise InputError(
            f"the {what} of {source.spec} have only one class ({', '.join(filled) or 'none'}): "
            f"there is nothing to classify; {more}"
        )


def classes(source: Source, rows: Survey, method: Method, options: ReleaseOptions) -> None:
    """Where there are labels, and the method or a victim learns from them, at least two classes
    have rows, and none has a single one."""
    if source.label_column is None or not (method.needs_labels or options.verify):
        return
    limit = options.rows
    among = "" if limit is None else f" among the first {limit:,} rows"
    more = "take more rows" if limit is None else f"take more than {limit:,} with --rows"
    what = "rows" if limit is None else f"first {limit:,} rows"
    several_classes(source, rows, what, more)
    counts = rows.class_counts(len(source.class_names))
    small = [n for n, count in zip(source.class_names, counts, strict=True) if count < 2]
    if small:
        raise InputError(
            f"class {small[0]} of {source.spec} has fewer than 2 rows{among} ({len(small)} such): "
            f"{more}, or leave the class out of the source"
        )


def _names(accepts: object) -> str:
    from crafting.registry import methods

    assert callable(accepts)
    return ", ".join(name for name, method in methods().items() if accepts(method.paper))
