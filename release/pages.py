"""A report as files: for machines, and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cards.page import render_report
from release.workdir import write_private

if TYPE_CHECKING:
    from evaluation.report import Report

PUBLISHED = "Images of this release, as published (of large ones, the middle)."
CHOSEN = (
    "Chosen rows: clean, as published, and their difference times 16 (of large ones, the middle)."
)
COMPARED = (
    "Clean, as published, and their difference times 16 (of large ones, the middle). This page is "
    "for the owner alone."
)


def write_report(report: Report, folder: Path, pictures: Mapping[str, bytes]) -> None:
    """report.json and report.html are in the folder; pictures are PNG files by caption."""
    report.save(folder / "report.json")
    (folder / "report.html").write_text(render_report(report.to_json(), pictures))


def write_page(report: Report, path: Path, pictures: Mapping[str, bytes]) -> None:
    """`path` is the report as a page that its owner alone can read."""
    write_private(path, render_report(report.to_json(), pictures))
