"""Asking whether a release holds: `verify` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from release.commands.base import AsJson, command, pipeline_of, stage
from release.errors import InputError
from release.options import ReleaseOptions, as_parameters
from release.verification.options import VerifyOptions

if TYPE_CHECKING:
    from release.terminal import Terminal
    from release.verification.verifier import Verified


@command
@as_parameters(VerifyOptions)
def verify(options: VerifyOptions, *, as_json: AsJson = False) -> None:
    """Train victims on RELEASE, which is published already, under countermeasures, and report what
    they learn; or, with --workdir alone, on the finished shards of a planned release.

    Example: protect-release verify org/flowers-protected --clean org/flowers --budget-minutes 60
    """
    if options.release is None:
        if options.workdir is None:
            raise InputError("verify takes a published RELEASE, or --workdir of a planned one")
        stage(options.workdir, as_json, lambda pipeline, plan: pipeline.verify(plan))
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


@command
@as_parameters(ReleaseOptions)
def compare(
    options: ReleaseOptions,
    *,
    methods: Annotated[str, typer.Option(help="Methods to compare: a,b,c.")],
    out: Annotated[
        str | None, typer.Option(help="Folder for the comparison. (default: in WORKDIR)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Protect the same rows of SOURCE by several methods, let the same victims learn from each, and
    show what protection costs and how far it is seen. Publishes nothing.

    Example: protect-release compare ./flowers --methods sep-fa-vr,tap,random-noise --rows 5000
    """
    from release.tables import comparison_table
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


def _tell_verified(terminal: Terminal, verified: Verified, published: str | None) -> None:
    from release.tables import trials_table, verification

    terminal.table(trials_table(verified.report))
    for found in verified.report.analyses.values():
        terminal.result(found.sentence)
    for flag in verified.report.flags:
        terminal.result(f"flag: {flag.text}")
    told = verification(verified, published)
    terminal.result(told["sentence"])
    terminal.result(f"report: {published or verified.folder / 'report.html'}")
    terminal.json(told)
