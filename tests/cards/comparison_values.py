"""The values of a made-up comparison of methods, as `protect-release compare` writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from report_values import LEFT_BY, VICTIMS

METHODS: dict[str, tuple[float, float, float | None, float]] = {
    "sep-fa-vr": (0.02, 61.0, 33.1, 410.0),
    "sep-fa-mi": (0.1, 3.1, 33.0, 95.0),
    "tap": (0.08, 22.0, 34.6, 38.0),
    "em": (0.3, 8.5, 32.2, 900.0),
    "rem": (0.18, 95.0, 31.9, 2400.0),
    "ar": (0.24, 0.4, 35.1, 0.0),
    "ops": (0.28, 0.9, 36.8, 2.0),
    "lsp": (0.37, 0.05, 32.6, 0.1),
    "random-noise": (0.95, 0.02, 33.9, 0.0),
    "none": (1.0, 0.01, None, 0.0),
}
"""What share of the clean accuracy above chance each leaves, its seconds, PSNR and fit."""


def span(figure: float, spread: float = 0.0) -> list[float]:
    return [figure, figure - spread, figure + spread]


def summary(**changes: Any) -> dict[str, Any]:
    """What one victim came to under one countermeasure."""
    plain: dict[str, Any] = {
        "victim": "resnet18",
        "held_out": True,
        "countermeasure": "none",
        "rows": "release",
        "seeds": 1,
        "clean": span(0.7),
        "protected": span(0.12),
        "peak": span(0.3),
        "renamed": span(0.2),
    }
    return plain | changes


def method(**changes: Any) -> dict[str, Any]:
    summaries = changes.pop("summaries", [summary()])
    plain: dict[str, Any] = {
        "method": "sep-fa-vr",
        "budget": "linf:8",
        "passes": 900,
        "craft_seconds_per_1000": 61.0,
        "fit_seconds": 410.0,
        "psnr": 33.1,
        "ssim": 0.951,
        "max_level": 8,
        "worst": {
            "victim": "resnet18",
            "countermeasure": "none",
            "protected": summaries[0]["protected"][0],
            "clean": summaries[0]["clean"] and summaries[0]["clean"][0],
        },
        "holds": True,
        "summaries": summaries,
    }
    return plain | changes


def comparison(*methods: dict[str, Any], **changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "schema_version": 1,
        "source": "uoft-cs/cifar10",
        "rows": 5000,
        "budget": "linf:8",
        "preset": "quick",
        "victims": ["resnet18"],
        "countermeasures": ["none"],
        "methods": list(methods) or [method()],
        "hardware": {"processor": "EPYC", "cores": 2},
        "versions": {"protect-release": "0.4.0"},
    }
    return plain | changes


def full() -> dict[str, Any]:
    """Ten methods, three victims, twelve countermeasures, three seeds."""
    generator = np.random.default_rng(3)
    found = []
    for name, (left, seconds, psnr, fit) in METHODS.items():
        summaries = []
        for victim in VICTIMS:
            for countermeasure, gives in LEFT_BY.items():
                clean = 0.67 - 0.05 * gives
                share = max(left, gives * (0.6 + 0.4 * left)) + generator.uniform(-0.02, 0.02)
                figure = max(0.1 + share * (clean - 0.1), 0.05)
                summaries.append(
                    summary(
                        victim=victim,
                        held_out=victim != "vgg16",
                        countermeasure=countermeasure,
                        seeds=3,
                        clean=span(clean, 0.004),
                        protected=span(figure, 0.015),
                        peak=span(min(figure + 0.15, 1), 0.01),
                        renamed=span(min(figure + 0.1, 1), 0.01),
                    )
                )
        plain = [s for s in summaries if s["held_out"] and s["countermeasure"] == "none"]
        worst = max(plain, key=lambda s: s["protected"][0])
        found.append(
            method(
                method=name,
                summaries=summaries,
                craft_seconds_per_1000=seconds,
                fit_seconds=fit,
                psnr=psnr,
                passes=round(15 * seconds),
                max_level=0 if psnr is None else 8,
                holds=worst["protected"][0] < 0.38,
                worst={
                    "victim": worst["victim"],
                    "countermeasure": "none",
                    "protected": worst["protected"][0],
                    "clean": worst["clean"][0],
                },
            )
        )
    return comparison(*found, victims=list(VICTIMS), countermeasures=list(LEFT_BY))
