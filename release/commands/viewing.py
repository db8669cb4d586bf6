"""Looking: at what is published, and at what this tool knows."""

from __future__ import annotations

from typing import Annotated

import typer

from release.commands.base import AsJson, Dataset, command, show
from release.errors import InputError


@command
def status(release: Dataset, as_json: AsJson = False) -> None:
    """Show a dataset's releases: rows, methods, and how protection fared over time."""
    from release.published import chain_of
    from release.tables import releases_table

    show(releases_table(chain_of(release)), as_json)


@command
def check(release: Dataset, as_json: AsJson = False) -> None:
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
    terminal.result(f"{release}: {chain.num_rows:,} rows in {files:,} files of {many}, whole")
    terminal.json(found)


@command
def methods(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show its options.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the protection methods, or the options of one."""
    from release.tables import methods_table, options_table

    try:
        show(methods_table() if name is None else options_table(name), as_json)
    except ValueError as problem:
        raise InputError(str(problem)) from None


@command
def victims(as_json: AsJson = False) -> None:
    """List the victims that releases can be tested with."""
    from release.tables import victims_table
    from release.terminal import Terminal

    with Terminal(as_json).stage("timing", "nets") as tell:
        found = victims_table(tell)
    show(found, as_json)


Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Explain its parameters.")]


@command
def countermeasures(name: Name = None, as_json: AsJson = False) -> None:
    """List what an appropriator may try, as victims can be trained with it, or explain one."""
    from release.tables import countermeasures_table

    try:
        show(countermeasures_table(name), as_json)
    except ValueError as problem:
        raise InputError(str(problem)) from None


@command
def analyses(name: Name = None, as_json: AsJson = False) -> None:
    """List what can be learnt about a release besides what victims come to, or explain one."""
    from release.tables import analyses_table

    try:
        show(analyses_table(name), as_json)
    except ValueError as problem:
        raise InputError(str(problem)) from None
