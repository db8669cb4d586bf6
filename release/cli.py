"""The command line: each command is in a module of `release.commands`."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

from release import __version__
from release.commands import making, verifying, viewing
from release.commands.base import app
from release.ending import end_at_once
from release.launch import is_joined

__all__ = ["app", "main", "making", "verifying", "viewing"]


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
    if not is_joined():
        app()
        return
    code = 1
    end_at_once(lambda: code)
    try:
        app()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        raise
