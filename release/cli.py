"""The command line: options become a plan, and each command is one pipeline call.

Loads nothing heavy until a command runs, so that --help and completion are quick.
"""

from __future__ import annotations

import errno
import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from release import __version__
from release.errors import InputError, Interrupted, ReleaseError, StorageError
from release.options import ReleaseOptions, as_parameters

if TYPE_CHECKING:
    from rich.table import Table

    from release.pipeline import Pipeline
    from release.plan import ReleasePlan

app = typer.Typer(
    name="protect-release",
    help="Publish an image dataset to be seen but not trained on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
WorkdirOption = Annotated[
    str, typer.Option("--workdir", help="Folder that `protect-release plan` wrote its plan to.")
]


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Makes a function a command whose errors are one line on stderr and an exit code."""

    @functools.wraps(function)
    def guarded(*args: Any, **values: Any) -> None:
        try:
            function(*args, **values)
        except KeyboardInterrupt:
            _fail(Interrupted("stopped; run the same command again to go on"))
        except ReleaseError as problem:
            _fail(problem)
        except OSError as problem:
            if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            _fail(
                StorageError(
                    f"the disk is full ({problem.filename or 'while writing'}): make room, then "
                    "run the same command again; what is finished is kept"
                )
            )

    app.command()(guarded)
    return guarded


def _fail(problem: ReleaseError) -> None:
    typer.echo(f"error: {problem}", err=True)
    raise typer.Exit(problem.exit_code)


@command
@as_parameters(ReleaseOptions)
def push(
    options: ReleaseOptions,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan, sizes and hours; publish nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Protect SOURCE, verify the protection, and publish the release.

    Where the target holds an earlier release, only the rows that are new since are protected and
    added.

    Example: protect-release push org/flowers --method sep-fa-vr
    """
    with _pipeline(options, as_json) as pipeline:
        if pipeline is None:
            return
        if dry_run:
            made = pipeline.plan(options)
            if made is None:
                _say_unchanged(pipeline)
            else:
                _forecast(pipeline, made)
            return
        try:
            pipeline.run(options)
        finally:
            _summarise(pipeline)  # a missed gate has a report too
        if pipeline.made is None:
            _say_unchanged(pipeline)


@command
@as_parameters(ReleaseOptions)
def plan(options: ReleaseOptions, *, as_json: AsJson = False) -> None:
    """Read SOURCE once and write WORKDIR/plan.json, which the other stages work from."""
    with _pipeline(options, as_json) as pipeline:
        if pipeline is not None:
            made = pipeline.plan(options)
            if made is None:
                _say_unchanged(pipeline)
                return
            pipeline.terminal.result(f"plan in {pipeline.workdir.plan}")
            told = {"workdir": made.workdir, "not_published": made.not_published}
            pipeline.terminal.json(told | made.public_view())


@command
def fit(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Train what the planned method needs."""
    _stage(workdir, as_json, lambda pipeline, plan: pipeline.fit(plan))


@command
def craft(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Write the protected shards."""
    _stage(workdir, as_json, lambda pipeline, plan: pipeline.craft(plan))


@command
def verify(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Train held-out victims on the finished shards and judge the release."""
    _stage(workdir, as_json, lambda pipeline, plan: pipeline.verify(plan))


@command
def card(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Write the card, the manifest and the pictures of a release that holds."""
    _stage(workdir, as_json, lambda pipeline, plan: pipeline.card(plan))


@command
def publish(
    target: Annotated[
        str | None,
        typer.Argument(metavar="[TARGET]", help="A reviewed Hub release, to be opened."),
    ] = None,
    workdir: Annotated[
        str | None,
        typer.Option(
            "--workdir", help="Folder of a planned release, to be published as it was planned."
        ),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="Let everybody see TARGET.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put the release that `card` made where readers find it, in one step; or, with TARGET and
    --public, open a release that was published privately to everybody."""
    if workdir is not None and target is None and not public:
        _stage(workdir, as_json, lambda pipeline, plan: pipeline.publish(plan))
        return
    if target is None or workdir is not None or not public:
        raise InputError("publish takes --workdir, or a Hub TARGET with --public: choose one")
    from release.published import open_to_everybody
    from release.terminal import Terminal

    terminal = Terminal(as_json)
    open_to_everybody(target)
    terminal.result(f"{target} is public")
    terminal.json({"release": target, "public": True})


@command
def status(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="Hub id or folder of a published dataset.")
    ],
    as_json: AsJson = False,
) -> None:
    """Show a dataset's releases: rows, methods, and how protection fared over time."""
    from release.published import chain_of
    from release.tables import releases_table

    _show(releases_table(chain_of(release)), as_json)


@command
@as_parameters(ReleaseOptions)
def preview(
    options: ReleaseOptions,
    *,
    out: Annotated[str, typer.Option(help="PNG file to write.")] = "preview.png",
    images: Annotated[int, typer.Option(min=1, max=64, help="Rows to draw.")] = 8,
    as_json: AsJson = False,
) -> None:
    """Draw rows of SOURCE before and after protection, and their difference times 16.

    The picture holds clean pixels: it is for you, not for publishing. Fits on the first 500 rows
    unless --rows says otherwise.
    """
    from release.preview import draw_preview, preview_options

    options = preview_options(options)
    with _pipeline(options, as_json) as pipeline:
        if pipeline is not None:
            draw_preview(pipeline, options, Path(out), images)
            pipeline.terminal.result(f"{out}: {images} rows (it holds clean pixels: keep it)")
            pipeline.terminal.json({"picture": out})


@command
def check(
    release: Annotated[
        str, typer.Argument(metavar="RELEASE", help="Hub id or folder of a published dataset.")
    ],
    as_json: AsJson = False,
) -> None:
    """Check that every file of every release is whole and every row is there; trains nothing."""
    from release.check import check as check_release
    from release.published import local_copy
    from release.terminal import Terminal

    terminal = Terminal(as_json)
    with terminal.stage("check") as tell:
        chain = check_release(local_copy(release), progress=tell)
    files = sum(len(manifest.files) for manifest in chain.manifests)
    found = {"release": release, "releases": len(chain), "rows": chain.num_rows, "files": files}
    many = "1 release" if len(chain) == 1 else f"{len(chain)} releases"
    terminal.result(f"{release}: {chain.num_rows} rows in {files} files of {many}, whole")
    terminal.json(found)


@command
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the protection methods, or the options of one."""
    from release.tables import methods_table, options_table

    try:
        _show(methods_table() if name is None else options_table(name), as_json)
    except ValueError as problem:
        raise InputError(str(problem)) from None


@command
def victims(as_json: AsJson = False) -> None:
    """List the victims that releases can be tested with."""
    from release.tables import victims_table

    _show(victims_table(), as_json)


@command
def countermeasures(as_json: AsJson = False) -> None:
    """List what an appropriator may try, as victims can be trained with it."""
    from release.tables import countermeasures_table

    _show(countermeasures_table(), as_json)


def _show(listed: tuple[Table, list[dict[str, Any]]], as_json: bool) -> None:
    """A table for people, the same facts for machines."""
    from release.terminal import Terminal

    terminal = Terminal(as_json)
    terminal.table(listed[0])
    terminal.json(listed[1])


@contextmanager
def _pipeline(options: ReleaseOptions, as_json: bool) -> Iterator[Pipeline | None]:
    """The pipeline of these options with its WORKDIR locked, or None on a rank that follows one."""
    from release.pipeline import open_pipeline
    from release.resolve import workdir_of
    from release.terminal import Terminal

    with open_pipeline(workdir_of(options), Terminal(as_json)) as pipeline:
        yield pipeline


def _stage(workdir: str, as_json: bool, run: Callable[[Pipeline, ReleasePlan], object]) -> None:
    from release.pipeline import open_pipeline
    from release.plan import ReleasePlan
    from release.publish import HeadMoved
    from release.terminal import Terminal
    from release.workdir import Workdir

    place = Workdir(Path(workdir).expanduser().resolve())
    made = ReleasePlan.load(place.plan)
    with open_pipeline(place, Terminal(as_json)) as pipeline:
        if pipeline is None:
            return
        try:
            run(pipeline, made)
        except HeadMoved:
            raise InputError(
                f"{made.target} was changed since this release was planned: run "
                f"`protect-release plan {made.source['spec']}` again, which keeps what is finished"
            ) from None
        pipeline.terminal.json({"workdir": str(place.path), "seconds": place.seconds()})


def _summarise(pipeline: Pipeline) -> None:
    from release.tables import summary, trials_table

    if pipeline.made is not None:
        terminal = pipeline.terminal
        if pipeline.made.report.trials:
            terminal.table(trials_table(pipeline.made.report))
        for flag in pipeline.made.report.flags:
            terminal.result(f"flag: {flag.text}")
        found = summary(pipeline.made)
        terminal.result(found["sentence"])
        terminal.json(found)


def _say_unchanged(pipeline: Pipeline) -> None:
    pipeline.terminal.result("nothing new: every row of the source is published already")
    pipeline.terminal.json({"changed": False})


def _forecast(pipeline: Pipeline, made: ReleasePlan) -> None:
    from release.forecast import forecast, forecast_table

    expected = forecast(made, pipeline.workdir)
    pipeline.terminal.table(forecast_table(expected))
    pipeline.terminal.json(expected)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"protect-release {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """The console script."""
    # An image too large to decode is quarantined with its reason; Pillow would say so once more.
    warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
    app()
