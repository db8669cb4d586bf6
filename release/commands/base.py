"""What all commands share: the app, and errors as one line on stderr and an exit code.

Loads nothing heavy until a command runs, so that --help and completion are quick.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from release.errors import InputError, Interrupted, ReleaseError, StorageError
from release.options import ReleaseOptions
from release.paths import absolute

if TYPE_CHECKING:
    from rich.table import Table

    from evaluation.report import Report
    from release.pipeline import Pipeline
    from release.plan import ReleasePlan
    from release.terminal import Terminal

app = typer.Typer(
    name="protect-release",
    help="Publish an image dataset to be seen but not trained on.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON value on stdout; talk goes to stderr.")
]
WorkdirOption = Annotated[
    str, typer.Option("--workdir", help="Folder that `protect-release plan` wrote its plan to.")
]
Dataset = Annotated[
    str,
    typer.Argument(
        metavar="RELEASE",
        help="Folder of a published dataset, or its Hub id, org/name or org/name@revision.",
    ),
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


def show(listed: tuple[Table, list[dict[str, Any]]], as_json: bool) -> None:
    """A table for people, the same facts for machines."""
    from release.terminal import Terminal

    terminal = Terminal(as_json)
    terminal.table(listed[0])
    terminal.json(listed[1])


@contextmanager
def pipeline_of(options: ReleaseOptions, as_json: bool) -> Iterator[Pipeline | None]:
    """The pipeline of these options with its WORKDIR locked, or None on a rank that follows one."""
    from release.pipeline import open_pipeline
    from release.resolve import workdir_of
    from release.terminal import Terminal

    with open_pipeline(workdir_of(options), Terminal(as_json)) as pipeline:
        yield pipeline


def tell_report(terminal: Terminal, report: Report) -> None:
    """People see what victims came to, what analyses found, and every flag."""
    from release.results import trials_table

    if report.trials:
        terminal.table(trials_table(report))
    for found in report.analyses.values():
        terminal.result(found.sentence)
    for flag in report.flags:
        terminal.result(f"flag: {flag.text}")


def stage(
    workdir: str,
    as_json: bool,
    run: Callable[[Pipeline, ReleasePlan], object],
    tell: Callable[[Pipeline], dict[str, Any]] = lambda pipeline: {},
) -> None:
    """One stage of the release that is planned in this WORKDIR has run; `tell` shows people what
    it came to, and gives machines the same."""
    from release.pipeline import open_pipeline
    from release.plan import ReleasePlan
    from release.publish import HeadMoved
    from release.terminal import Terminal
    from release.workdir import Workdir

    place = Workdir(absolute(workdir))
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
        told = tell(pipeline)
        pipeline.terminal.json({"workdir": str(place.path), "seconds": place.seconds()} | told)
