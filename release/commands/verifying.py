"""Asking whether a release holds: `verify` and `compare`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from release.commands.base import AsJson, command, pipeline_of, stage, tell_report
from release.errors import GateMissed, InputError
from release.options import OF_RELEASES, ReleaseOptions, as_parameters, changed
from release.verification.options import VerifyOptions

if TYPE_CHECKING:
    from release.pipeline import Pipeline
    from release.terminal import Terminal
    from release.verification.publishing import Added
    from release.verification.verifier import Verified


@command
@as_parameters(VerifyOptions)
def verify(options: VerifyOptions, *, as_json: AsJson = False) -> None:
    """Train victims on a published RELEASE and report what they learn.

    They train under countermeasures; with --workdir alone, on the finished shards of a planned
    release. Exit code 3 says that a published RELEASE does not hold, or that this cannot be judged.

    Example: protect-release verify org/flowers-protected --clean org/flowers --budget-minutes 60
    """
    if options.release is None:
        workdir = _planned(options)
        stage(workdir, as_json, lambda pipeline, plan: pipeline.verify(plan), _tell_planned)
        return
    from release.terminal import Terminal
    from release.verification.publishing import publish_verification
    from release.verification.resolve import workdir_of
    from release.verification.verifier import open_verifier

    terminal = Terminal(as_json)
    with open_verifier(workdir_of(options), terminal) as verifier:
        if verifier is None:
            return
        verified = verifier.run(options)
        published = publish_verification(verified, verifier.workdir) if options.publish else None
    _tell_verified(terminal, verified, published)
    _demand_gate(verified)


@command
@as_parameters(ReleaseOptions, without=(*OF_RELEASES, "method"))
def compare(
    options: ReleaseOptions,
    *,
    methods: Annotated[str, typer.Option(help="Methods to compare: a,b,c.")],
    out: Annotated[
        str | None, typer.Option(help="Folder for the comparison. (default: in WORKDIR)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show side by side what several methods protect, and what they cost.

    Each protects the same rows of SOURCE, the same victims learn from them, and how far the changes
    are seen is measured. Publishes nothing.

    Example: protect-release compare ./flowers --methods sep-fa-vr,tap,random-noise --rows 5000
    """
    from release.results import comparison_table
    from release.verification import compare as comparing

    names, options = comparing.methods_named(methods), comparing.compare_options(options)
    with pipeline_of(options, as_json) as pipeline:
        if pipeline is None:
            return
        found = comparing.compare(pipeline, options, names)
        folder = pipeline.workdir.path / "comparison" if out is None else Path(out)
        comparing.save(found, folder)
        pipeline.terminal.table(comparison_table(found))
        pipeline.terminal.result(f"comparison: {folder / 'comparison.html'}")
        pipeline.terminal.json(found)


def _planned(options: VerifyOptions) -> str:
    """The WORKDIR of the planned release; InputError where none is named, or more is asked for than
    its plan says already."""
    if options.workdir is None:
        raise InputError("verify takes a published RELEASE, or --workdir of a planned one")
    ignored = changed(replace(options, workdir=None))
    if ignored:
        raise InputError(
            f"a planned release is verified as its plan says, and {', '.join(ignored)} would "
            "change nothing: name a published RELEASE, or leave them out and plan it anew with "
            "what `protect-release plan` takes"
        )
    return options.workdir


def _demand_gate(verified: Verified) -> None:
    """GateMissed where the release does not hold, or that cannot be told."""
    release, verdict = verified.plan.release, verified.report.verdict
    if verdict is None or verdict.holds:
        return
    if verdict.is_open:
        raise GateMissed(
            f"{release}: {verdict.reason}; train for more --epochs, or another --victim"
        )
    raise GateMissed(f"{release} does not hold: {verdict.reason}")


def _tell_planned(pipeline: Pipeline) -> dict[str, Any]:
    from release.results import judged

    assert pipeline.made is not None, "it was verified"
    found = judged(pipeline.made, pipeline.workdir.report)
    tell_report(pipeline.terminal, pipeline.made.report)
    pipeline.terminal.result(found["sentence"])
    pipeline.terminal.result(f"report: {pipeline.workdir.report / 'report.html'}")
    return found


def _tell_verified(terminal: Terminal, verified: Verified, published: Added | None) -> None:
    """But for why it does not hold, which the error says."""
    from release.results import verification

    tell_report(terminal, verified.report)
    told = verification(verified, published)
    if told["holds"] is not False:
        terminal.result(told["sentence"])
    terminal.result(f"report: {told['report']}/report.html")
    terminal.json(told)
