"""What a person may say on the command line, once: each field is an option of every command that
takes it, with its help. Loads nothing heavy.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

Options = TypeVar("Options")

SOURCE = "Source"
METHOD = "Method"
SHARDS = "Shards"
TARGET = "Target"
VERIFICATION = "Verification"
RUN = "Run"


def option(*names: str, help: str, panel: str, **more: Any) -> Any:
    """An option of a command, shown in the panel of that title."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


NEVER_PUBLISHED = "never-published"
"""The folder in WORKDIR that nothing is ever written to, as --to of what only looks."""


@dataclass(frozen=True, kw_only=True)
class ReleaseOptions:
    """A release as a person asks for it: SOURCE and everything that has a default."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Clean dataset: a local folder (Parquet, class folders of images, WebDataset "
            "tars), a Hub id org/name or org/name@revision, or sample:mnist5k.",
        ),
    ]
    to: Annotated[
        str | None,
        option(
            "--to",
            help="Hub repository org/name, or a folder such as ./out/name-protected. (default: "
            "SOURCE-protected where SOURCE is on the Hub)",
            panel=TARGET,
        ),
    ] = None
    public: Annotated[
        bool,
        option("--public", help="Let everybody see it. (default: private)", panel=TARGET),
    ] = False
    gated: Annotated[
        str | None, option(help="Readers ask for access: auto or manual.", panel=TARGET)
    ] = None
    create_pr: Annotated[
        bool, option("--create-pr", help="Open a pull request for review.", panel=TARGET)
    ] = False
    revision: Annotated[
        str | None, option(help="Branch of the target. (default: main)", panel=TARGET)
    ] = None
    state: Annotated[
        str | None,
        option(
            help="Where seed, surrogates and the ledger of released rows are kept, encrypted: a "
            "private repository or a folder. (default: TARGET-state; a folder of yours where the "
            "target is one)",
            panel=TARGET,
        ),
    ] = None
    hub_patience: Annotated[
        float,
        option(min=0.1, help="Seconds to wait for a Hub that does not answer.", panel=RUN),
    ] = 600.0

    source_is_public: Annotated[
        bool,
        option(
            "--source-is-public",
            help="Go on although anyone can read the clean SOURCE, and say so first on the card.",
            panel=SOURCE,
        ),
    ] = False
    config: Annotated[str | None, option(help="Configuration of SOURCE.", panel=SOURCE)] = None
    split: Annotated[
        str | None,
        option(help="Split to protect; nothing else is published. (default: train)", panel=SOURCE),
    ] = None
    test_split: Annotated[
        str | None,
        option(
            help="Clean split that victims are scored on, never published. (default: test, else "
            "validation, else 10 % of the rows, kept out of the victims' training)",
            panel=SOURCE,
        ),
    ] = None
    rows: Annotated[
        int | None, option(min=1, help="Only the first N rows of the split.", panel=SOURCE)
    ] = None
    image_column: Annotated[
        str | None, option(help="(default: found from the features)", panel=SOURCE)
    ] = None
    label_column: Annotated[
        str | None, option(help="(default: found from the features)", panel=SOURCE)
    ] = None
    keep_column: Annotated[
        list[str], option(metavar="NAME", help="Publish this column too; repeat.", panel=SOURCE)
    ] = field(default_factory=list)
    keep_clean_column: Annotated[
        list[str],
        option(
            metavar="NAME",
            help="Publish this column although it may carry the originals (thumbnails, "
            "embeddings, URLs); repeat.",
            panel=SOURCE,
        ),
    ] = field(default_factory=list)
    max_bad: Annotated[str, option(help="Share of rows that may be unreadable.", panel=SOURCE)] = (
        "1%"
    )

    method: Annotated[
        str | None,
        option(
            help="Protection method, or several joined by +; see `protect-release methods`. "
            "(default: sep-fa-vr)",
            panel=METHOD,
        ),
    ] = None
    preset: Annotated[
        str | None,
        option(
            help="paper: the papers' figures; quick: minutes on 2 CPU cores. (default: paper where "
            "there is a GPU, else quick)",
            panel=METHOD,
        ),
    ] = None
    budget: Annotated[
        str | None,
        option(
            help="linf:LEVELS, l2:RADIUS, l0:PIXELS, unbounded, or several joined by +. (default: "
            "the method's)",
            panel=METHOD,
        ),
    ] = None
    set_: Annotated[
        list[str],
        option("--set", metavar="NAME=VALUE", help="Set a method's option; repeat.", panel=METHOD),
    ] = field(default_factory=list)
    incremental_method: Annotated[
        str | None,
        option(
            help="Method for rows added to a published dataset. (default: alignment-online, and "
            "the dataset's own where that does not hold or cannot work within the budget)",
            panel=METHOD,
        ),
    ] = None
    incremental_set: Annotated[
        list[str],
        option(metavar="NAME=VALUE", help="Set an option of that method; repeat.", panel=METHOD),
    ] = field(default_factory=list)
    fit_share: Annotated[
        str,
        option(help="Share of SOURCE that an incremental method is fitted on.", panel=METHOD),
    ] = "10%"
    protect_classes: Annotated[
        str | None, option(help="Protect only these classes: a,b,c.", panel=METHOD)
    ] = None
    protect_share: Annotated[
        float | None,
        option(min=0.0, max=1.0, help="Protect only this share of the rows.", panel=METHOD),
    ] = None
    target_map: Annotated[
        str | None,
        option(help="Class each class is pulled towards: a:b,c:d.", panel=METHOD),
    ] = None
    net_size: Annotated[
        int | None,
        option(
            min=8,
            help="Side in pixels that nets resize to. (default: the commonest short side, at most "
            "224)",
            panel=METHOD,
        ),
    ] = None
    fit_rows: Annotated[
        int | None,
        option(
            min=2,
            help="Rows that surrogates and victims train on, at most. (default: as many as fit in "
            "--cache-gb)",
            panel=METHOD,
        ),
    ] = None
    seed: Annotated[
        int | None,
        option(
            help="Repeatable noise: anyone who guesses the number can make it too. (default: drawn "
            "once and kept secret)",
            panel=METHOD,
        ),
    ] = None

    format: Annotated[
        str | None,
        option(help="parquet, webdataset, or both: a,b. (default: parquet)", panel=SHARDS),
    ] = None
    encoding: Annotated[str, option(help="png or webp (lossless both).", panel=SHARDS)] = "png"
    rows_per_shard: Annotated[
        int | None, option(min=1, help="(default: by size)", panel=SHARDS)
    ] = None
    license: Annotated[
        str | None,
        option(help="Licence of the release. (default: the source's, else unknown)", panel=SHARDS),
    ] = None
    show_rows: Annotated[
        str | None,
        option(
            help="Rows whose clean image the card may show, numbered as in the dataset: 3,14,15; "
            "where they are in an earlier release, without effect.",
            panel=SHARDS,
        ),
    ] = None

    victim: Annotated[
        list[str],
        option(
            help="Victim to train; repeat. See `protect-release victims`. (default: the preset's)",
            panel=VERIFICATION,
        ),
    ] = field(default_factory=list)
    countermeasure: Annotated[
        list[str],
        option(
            help="Countermeasure NAME:KEY=VALUE, beside plain training, which the gate judges; "
            "repeat; `all` for every one. (default: none; without labels simclr:clean=1000)",
            panel=VERIFICATION,
        ),
    ] = field(default_factory=list)
    victim_seeds: Annotated[
        int, option(min=1, help="Trainings of each victim.", panel=VERIFICATION)
    ] = 1
    victim_epochs: Annotated[
        int | None, option(min=1, help="(default: the preset's)", panel=VERIFICATION)
    ] = None
    max_accuracy: Annotated[
        float | None,
        option(
            min=0.0,
            max=1.0,
            help="Gate: the worst held-out victim's accuracy. (default: half of what its clean "
            "twin has above chance)",
            panel=VERIFICATION,
        ),
    ] = None
    verify_rows: Annotated[
        int,
        option(
            min=1,
            help="Rows published before that victims of an increment train on, at most.",
            panel=VERIFICATION,
        ),
    ] = 20_000
    verify: Annotated[
        bool,
        option("--verify/--no-verify", help="Train victims before release.", panel=VERIFICATION),
    ] = True

    workers: Annotated[
        int | None, option(min=1, help="(default: the GPUs, else the cores)", panel=RUN)
    ] = None
    fit_workers: Annotated[
        int | None, option(min=1, help="(default: the GPUs, else 1)", panel=RUN)
    ] = None
    max_restarts: Annotated[int, option(min=0, help="Restarts after a worker died.", panel=RUN)] = 1
    cache_gb: Annotated[
        float, option(min=0.01, help="Disk for decoded images at net size.", panel=RUN)
    ] = 20.0
    workdir: Annotated[
        str | None, option(help="(default: in the user's cache, by source and target)", panel=RUN)
    ] = None


OF_RELEASES = (
    *("to", "public", "gated", "create_pr", "revision", "state", "format", "license", "show_rows"),
    *("incremental_method", "incremental_set", "fit_share", "verify", "verify_rows"),
    *("keep_column", "keep_clean_column", "source_is_public", "encoding", "rows_per_shard"),
)
"""What says nothing where nothing is ever released."""
OF_VERIFICATION = (
    *("test_split", "victim", "countermeasure", "victim_seeds", "victim_epochs", "max_accuracy"),
)


def is_never_published(to: str | None) -> bool:
    """Whether this is the --to of what only looks."""
    return to is not None and Path(to).name == NEVER_PUBLISHED


def as_parameters(
    kind: type[Options], without: Collection[str] = ()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes `command(options, **own)` a Typer command with one parameter per field of `kind`, but
    those `without` which it goes, before its own."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        shown = [f for f in fields(kind) if f.name not in without]  # type: ignore[arg-type]
        declared = [_parameter(kind, f) for f in shown]
        names = [parameter.name for parameter in declared]

        def with_parameters(**values: Any) -> None:
            options = kind(**{name: values.pop(name) for name in names})
            command(options, **values)

        with_parameters.__name__ = command.__name__
        with_parameters.__doc__ = command.__doc__
        with_parameters.__signature__ = inspect.Signature(declared + own)  # type: ignore[attr-defined]
        return with_parameters

    return decorate


def changed(options: Any) -> list[str]:
    """The options, as they are typed, that are not what they are by default."""
    return [
        f"--{each.name.strip('_').replace('_', '-')}"
        for each in fields(options)
        if getattr(options, each.name) != _default(each)
    ]


def _default(declared: Any) -> Any:
    if declared.default_factory is not MISSING:
        return declared.default_factory()
    return declared.default


def _parameter(kind: type, declared: Any) -> inspect.Parameter:
    default = _default(declared)
    return inspect.Parameter(
        declared.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=get_type_hints(kind, include_extras=True)[declared.name],
    )
