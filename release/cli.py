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
    """Protect SOURCE, verify the protection, and write the release.

    Example: protect-release push ./flowers --to ./flowers-protected --method sep-fa-vr
    """
    with _pipeline(options, as_json) as pipeline:
        if pipeline is None:
            return
        if dry_run:
            _forecast(pipeline, pipeline.plan(options))
            return
        try:
            pipeline.run(options)
        finally:
            _summarise(pipeline)  # a missed gate has a report too


@command
@as_parameters(ReleaseOptions)
def plan(options: ReleaseOptions, *, as_json: AsJson = False) -> None:
    """Read SOURCE once and write WORKDIR/plan.json, which the other stages work from."""
    with _pipeline(options, as_json) as pipeline:
        if pipeline is not None:
            made = pipeline.plan(options)
            pipeline.terminal.result(f"plan in {pipeline.workdir.plan}")
            told = {"workdir": made.workdir, "not_published": made.not_published}
            pipeline.terminal.json(told | made.public())


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
def publish(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Put the release that `card` made where readers find it, in one step."""
    _stage(workdir, as_json, lambda pipeline, plan: pipeline.publish(plan))


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
    release: Annotated[str, typer.Argument(metavar="RELEASE", help="Folder of a release.")],
    as_json: AsJson = False,
) -> None:
    """Check that every file of a release is whole and every row is there; trains nothing."""
    from release.manifest import check as check_release
    from release.terminal import Terminal

    terminal = Terminal(as_json)
    with terminal.stage("check") as tell:
        manifest = check_release(Path(release), progress=tell)
    terminal.result(f"{release}: {manifest.num_rows} rows in {len(manifest.files)} files, whole")
    terminal.json({"release": release, "rows": manifest.num_rows, "files": len(manifest.files)})


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
    from release.terminal import Terminal
    from release.workdir import Workdir

    place = Workdir(Path(workdir).expanduser().resolve())
    made = ReleasePlan.load(place.plan)
    with open_pipeline(place, Terminal(as_json)) as pipeline:
        if pipeline is not None:
            run(pipeline, made)
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
