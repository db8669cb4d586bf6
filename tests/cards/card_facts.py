"""The facts of a made-up release, as a card gets them."""

from __future__ import annotations

from typing import Any

from cards.facts import CardFacts, Measured, Picture, ReleaseEntry, Verification


def once(figure: float) -> tuple[float, float, float]:
    """A figure from one seed."""
    return figure, figure, figure


def measured(**changes: Any) -> Measured:
    plain: dict[str, Any] = {
        "victim": "resnet10-w16",
        "held_out": True,
        "countermeasure": "none",
        "rows": "release",
        "seeds": 1,
        "clean": once(0.672),
        "protected": once(0.172),
        "peak": once(0.47),
        "renamed": once(0.33),
    }
    return Measured(**plain | changes)


def release(**changes: Any) -> ReleaseEntry:
    plain: dict[str, Any] = {
        "name": "r0001",
        "date": "2026-11-02",
        "method": "sep-fa-vr",
        "budget": "linf:8",
        "rows": 10,
        "total": 10,
        "measured": [measured()],
    }
    return ReleaseEntry(**plain | changes)


def verification(**changes: Any) -> Verification:
    plain: dict[str, Any] = {
        "date": "2026-12-01",
        "tool": "protect-release 0.4.0",
        "report": "reports/r0001/2026-12-01/report.json",
        "sentence": "The protection holds in plain training.",
        "measured": [
            measured(),
            measured(countermeasure="jpeg:quality=10", protected=once(0.61), clean=once(0.64)),
        ],
    }
    return Verification(**plain | changes)


def alone(**changes: Any) -> Measured:
    """A victim that trained on new rows alone."""
    return measured(rows="new", clean=once(0.38), protected=once(0.37), **changes)


def grown(**changes: Any) -> CardFacts:
    """The facts of a dataset of three releases, of which the second was not verified."""
    newest = [measured(victim="vgg-w16", protected=once(0.1)), measured(), alone()]
    plain: dict[str, Any] = {
        "release": "r0003",
        "before": "r0002",
        "releases": [
            release(rows=51_000, total=51_000),
            release(name="r0002", date="2026-11-09", rows=1_000, total=52_000, measured=[]),
            release(
                name="r0003",
                date="2026-11-16",
                method="sep-fa-mi",
                rows=500,
                total=52_500,
                measured=newest,
            ),
        ],
        "rows": 52_502,
        "released": 52_500,
        "method": "sep-fa-mi",
        "measured": newest,
        "sampled": (10_000, 52_000, 500),
        "data_files": [f"data/train/r000{number}-*.parquet" for number in (1, 2, 3)],
    }
    return facts(**plain | changes)


def facts(**changes: Any) -> CardFacts:
    plain: dict[str, Any] = {
        "release": "r0001",
        "releases": [release()],
        "source_is_public": False,
        "pretty_name": "Photographs",
        "repo_id": "museum/photographs-protected",
        "branch": None,
        "before": None,
        "source_citation": "@misc{museum2026,\n  title = {Photographs}\n}",
        "license": "cc-by-4.0",
        "split": "train",
        "rows": 12,
        "released": 10,
        "quarantined": {"unreadable: truncated": 2},
        "conversions": {"palette": 3},
        "unprotected_rows": 0,
        "class_names": ["cat", "dog"],
        "image_column": "image",
        "shown_clean_rows": [],
        "method": "sep-fa-vr",
        "paper": "Self-Ensemble Protection, ICLR 2023",
        "bibtex": "@inproceedings{chen2023,\n  title = {Self-Ensemble Protection}\n}",
        "budget": "linf:8",
        "preset": "quick",
        "measured": [measured()],
        "test_split": "test",
        "only_small_networks": True,
        "sampled": None,
        "gate": "a resnet10-w16 trained on this release scored 17.2 %, at most the 38.6 % allowed",
        "flags": ["Every victim was trained from one seed."],
        "psnr": 33.12,
        "ssim": 0.9513,
        "max_level": 8,
        "features": [
            {"name": "image", "dtype": "image"},
            {"name": "label", "dtype": {"class_label": {"names": {"0": "cat", "1": "dog"}}}},
        ],
        "data_files": ["data/train/r0001-*.parquet"],
        "tar_files": [],
        "num_bytes": 4321,
        "download_size": 4321,
        "pictures": [Picture("reports/r0001/images.png", "Images of this release.")],
        "tool": "protect-release 0.1.0",
    }
    return CardFacts(**plain | changes)
