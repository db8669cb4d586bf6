"""The facts of a made-up release, as a card gets them."""

from __future__ import annotations

from typing import Any

from cards.facts import CardFacts, Measured, Picture


def once(figure: float) -> tuple[float, float, float]:
    """A figure from one seed."""
    return figure, figure, figure


def measured(**changes: Any) -> Measured:
    plain: dict[str, Any] = {
        "victim": "resnet10-w16",
        "held_out": True,
        "countermeasure": "none",
        "seeds": 1,
        "clean": once(0.672),
        "protected": once(0.172),
        "peak": once(0.47),
        "renamed": once(0.33),
    }
    return Measured(**plain | changes)


def facts(**changes: Any) -> CardFacts:
    plain: dict[str, Any] = {
        "pretty_name": "Photographs",
        "repo_id": "museum/photographs-protected",
        "source_name": None,
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
        "pictures": [Picture("verification/images.png", "Images of this release.")],
        "tool": "protect-release 0.1.0",
    }
    return CardFacts(**plain | changes)
