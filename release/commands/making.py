"""Making a release: `push`, its stages one by one, and a look before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from release.commands.base import AsJson, WorkdirOption, command, pipeline_of, stage, tell_report
from release.errors import InputError
from release.options import OF_RELEASES, OF_VERIFICATION, ReleaseOptions, as_parameters

if TYPE_CHECKING:
    from release.pipeline import Pipeline
    from release.plan import ReleasePlan


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
    with pipeline_of(options, as_json) as pipeline:
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
    with pipeline_of(options, as_json) as pipeline:
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
    stage(workdir, as_json, lambda pipeline, plan: pipeline.fit(plan))


@command
def craft(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Write the protected shards."""
    stage(workdir, as_json, lambda pipeline, plan: pipeline.craft(plan))


@command
def card(workdir: WorkdirOption, as_json: AsJson = False) -> None:
    """Write the card, the manifest and the pictures of a release that holds."""
    stage(workdir, as_json, lambda pipeline, plan: pipeline.card(plan))


@command
def publish(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="A reviewed Hub release, to be opened."),
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
    """Put a planned release where readers find it, or open a private one.

    With --workdir the release that `card` made is published in one step; with TARGET and --public
    one that was published privately is opened to everybody.
    """
    if workdir is not None and target is None and not public:
        stage(workdir, as_json, lambda pipeline, plan: pipeline.publish(plan))
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
@as_parameters(ReleaseOptions, without=(*OF_RELEASES, *OF_VERIFICATION))
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
    with pipeline_of(options, as_json) as pipeline:
        if pipeline is not None:
            drawn = draw_preview(pipeline, options, Path(out), images)
            many = "1 row" if drawn == 1 else f"{drawn} rows"
            pipeline.terminal.result(f"{out}: {many} (it holds clean pixels: do not publish it)")
            pipeline.terminal.json({"picture": out})


def _summarise(pipeline: Pipeline) -> None:
    from release.results import summary

    if pipeline.made is not None:
        terminal = pipeline.terminal
        tell_report(terminal, pipeline.made.report)
        found = summary(pipeline.made)
        terminal.result(found["sentence"])
        terminal.result(f"report: {found['report']}/report.html")
        terminal.json(found)


def _say_unchanged(pipeline: Pipeline) -> None:
    pipeline.terminal.result(
        "nothing new: every row of the source that can be released is published already"
    )
    pipeline.terminal.json({"changed": False})


def _forecast(pipeline: Pipeline, made: ReleasePlan) -> None:
    from release.forecast import forecast, forecast_table

    expected = forecast(made, pipeline.workdir, fitted=pipeline.is_fitted(made))
    pipeline.terminal.table(forecast_table(expected))
    pipeline.terminal.json(expected)
