"""The values of a made-up report.json, as `Report.to_json` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cards.figures import is_setting

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
VICTIMS = {"resnet18": 11_173_962, "vgg16": 14_728_266, "densenet121": 6_956_298}
LEFT_BY = {
    "none": 0.02,
    "cutout:size=0.5": 0.03,
    "cutmix": 0.08,
    "mixup": 0.1,
    "gaussian-smoothing:kernel=3,sigma=0.8": 0.22,
    "random-noise:levels=8": 0.12,
    "bit-depth:bits=2": 0.31,
    "grayscale": 0.05,
    "jpeg:quality=10": 0.93,
    "ueraser-max:draws=5": 0.85,
    "at-linf:radius=4,steps=10": 0.9,
    "trimmed-loss:keep=0.9": 0.015,
}
"""What share of the clean twin's accuracy above chance each leaves."""
SETTINGS = {"mix-percent:share=80": 0.86, "class-wise:classes=half": 0.3}


def curve(final: float, epochs: int, bump: float = 0.0, noise: float = 0.012) -> list[float]:
    """Accuracies that climb to `final`, by way of a peak about a fifth of the way."""
    generator = np.random.default_rng(round(1e6 * (final + bump)) + epochs)
    progress = np.linspace(0, 1, epochs)
    values = 0.1 + (final - 0.1) * (1 - np.exp(-5 * progress))
    values += bump * np.exp(-(((progress - 0.15) / 0.12) ** 2))
    values += generator.normal(0, noise, epochs) * (1 - 0.8 * progress)
    values[-1] = final
    return [round(float(value), 4) for value in values.clip(0.01, 0.99)]


def confusion(final: float, classes: int, shift: int, rows: int) -> list[list[int]]:
    """Counts of classes that are mostly taken for the one `shift` further on."""
    counts = []
    for true in range(classes):
        shares = np.full(classes, 0.15 / classes)
        shares[true] += final
        shares[(true + shift) % classes] += max(0.85 - final, 0)
        counts.append([round(value) for value in rows * shares / shares.sum()])
    return counts


def training(
    victim: str, countermeasure: str, seed: int, data: str, final: float, **changes: Any
) -> dict[str, Any]:
    epochs = changes.pop("epochs", 30)
    bump = changes.pop("bump", 0.25 if data == "protected" else 0.0)
    accuracies = curve(final, epochs, bump)
    classes = changes.pop("num_classes", 10)
    spec = {"victim": victim, "countermeasure": countermeasure, "seed": seed, "data": data}
    return {
        "spec": spec | {"preset": "paper", "epochs": None, "rows": "release", "net_size": 32},
        "curve": [
            {"loss": 1.0, "train_accuracy": 0.9, "test_accuracy": accuracy}
            for accuracy in accuracies
        ],
        "final": final,
        "peak": max(accuracies),
        "peak_epoch": 1 + int(np.argmax(accuracies)),
        "renamed": min(1.0, final + 0.2),
        "train_accuracy": 0.995,
        "confusion": confusion(final, classes, classes // 2, 1000),
        "dominant_shift": {"classes": classes // 2, "share": round(max(0.85 - final, 0), 3)},
        "train_rows": 50_000,
        "test_rows": 10_000,
        "owned_rows": 0,
        "num_parameters": VICTIMS.get(victim, 72_788),
        "recipe": {
            "epochs": epochs,
            "batch_size": 128,
            "lr": 0.1,
            "momentum": 0.9,
            "nesterov": False,
            "weight_decay": 0.0005,
            "schedule": "multistep",
            "milestones": [0.625, 0.75],
            "augment": True,
        },
        "seconds": 1830.5,
    } | changes


def trial(protected: dict[str, Any], clean: dict[str, Any] | None) -> dict[str, Any]:
    """The trial of two such trainings, or of one without a clean twin."""
    spec = protected["spec"]
    return {
        "victim": spec["victim"],
        "held_out": spec["victim"] != "vgg16",
        "countermeasure": spec["countermeasure"],
        "rows": spec["rows"],
        "num_classes": len(protected["confusion"]),
        "chance": 1 / len(protected["confusion"]),
        "train_rows": protected["train_rows"],
        "seed": spec["seed"],
        "epochs": len(protected["curve"]),
        "clean": None if clean is None else clean["final"],
        "protected": protected["final"],
        "peak": protected["peak"],
        "peak_epoch": protected["peak_epoch"],
        "renamed": protected["renamed"],
        "train_accuracy": protected["train_accuracy"],
        "clean_peak": None if clean is None else clean["peak"],
        "clean_renamed": None if clean is None else clean["renamed"],
        "clean_train_accuracy": None if clean is None else clean["train_accuracy"],
        "drift": 0.01 if protected["curve"] else None,
        "clean_drift": None if clean is None else 0.01,
    }


def pairs(
    victims: Sequence[str], left_by: dict[str, float], seeds: int, **changes: Any
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Trainings on protected rows with their clean twins."""
    generator = np.random.default_rng(1)
    made = []
    for victim in victims:
        for countermeasure, left in left_by.items():
            for seed in range(seeds):
                clean = 0.92 - 0.1 * left + generator.normal(0, 0.006)
                final = max(0.1 + left * (clean - 0.1) + generator.normal(0, 0.015), 0.01)
                made.append(
                    tuple(
                        training(victim, countermeasure, seed, data, round(value, 4), **changes)
                        for data, value in (("protected", final), ("clean", clean))
                    )
                )
    return made  # type: ignore[return-value]


def verdict(trials: Sequence[dict[str, Any]], threshold: float = 0.5) -> dict[str, Any]:
    plain = [one for one in trials if one["countermeasure"] == "none" and one["held_out"]]
    worst = max(plain or trials, key=lambda one: one["protected"])
    return {
        "holds": worst["protected"] <= threshold,
        "worst": worst,
        "threshold": threshold,
        "ratio": 0.04,
        "reason": f"a {worst['victim']} trained on this release scored something",
    }


def report(
    victims: Sequence[str] = ("resnet18",), seeds: int = 1, left_by: Any = None, **changes: Any
) -> dict[str, Any]:
    """A report on these victims under these countermeasures."""
    found = pairs(victims, left_by or {"none": 0.02, "jpeg:quality=10": 0.93}, seeds)
    return of(found) | changes


def of(found: Sequence[tuple[dict[str, Any], dict[str, Any] | None]]) -> dict[str, Any]:
    """The report on these trainings."""
    trials = [trial(protected, clean) for protected, clean in found]
    return {
        "schema_version": 4,
        "name": "photographs-protected",
        "date": "2026-11-20",
        "class_names": [],
        "delivered_as": None,
        "test_split": "test",
        "settings": sorted(
            {one["countermeasure"] for one in trials if is_setting(one["countermeasure"])}
        ),
        "left_out": [],
        "unexamined": [],
        "analyses": [],
        "release": {
            "split": "train",
            "num_rows": 50_000,
            "net_size": 32,
            "method": "sep-fa-vr",
            "preset": "paper",
            "budget": "linf:8",
            "settings": {"checkpoints": 15, "steps": 30},
            "formats": ["parquet"],
            "typed_seed": False,
            "max_accuracy": None,
            "versions": {"torch": "2.15.0"},
        },
        "sample": None,
        "verdict": verdict(trials) if any(one["clean"] is not None for one in trials) else None,
        "gate": {"max_ratio": 0.5, "max_accuracy": None},
        "flags": [],
        "trials": trials,
        "trainings": [one for pair in found for one in pair if one is not None],
        "visibility": {
            "rows": 50_000,
            "changed": 50_000,
            "values": 153_600_000,
            "max_level": 8,
            "squared_error": 4_300_000_000,
            "level_sum": 1_000,
            "psnr_sum": 1_650_000.0,
            "ssim_sum": 47_500.0,
            "psnr": 33.1,
            "ssim": 0.9513,
            "shift": -0.012,
            "rms_level": 5.31,
        },
        "hardware": {"device": "cuda", "processor": "NVIDIA H200", "cores": 16, "workers": 1},
        "versions": {"protect-release": "0.4.0", "torch": "2.15.0", "torchvision": "0.29.0"},
    }


def full() -> dict[str, Any]:
    """Three victims under twelve countermeasures from three seeds, with all that a report may
    have."""
    made = report(tuple(VICTIMS), 3, LEFT_BY | SETTINGS)
    return made | {
        "name": "Photographs (protected), r0001",
        "date": "2026-11-23",
        "class_names": list(CLASSES),
        "flags": [
            {
                "id": "countermeasure-above-gate",
                "text": "The protection does not hold against jpeg:quality=10, "
                "ueraser-max:draws=5, at-linf:radius=4,steps=10.",
            },
            {
                "id": "victim-not-held-out",
                "text": "The noise was made with the architecture of vgg16, which flatters its "
                "figure; the gate looks at the others.",
            },
            {
                "id": "peak-above-gate",
                "text": "At its best epoch resnet18 scored above what the gate allows at the end: "
                "whoever owns clean labelled images can stop there.",
            },
        ],
        "analyses": analyses(),
        "left_out": [
            {
                "victim": "wide-resnet-34-10",
                "countermeasure": "at-linf:radius=4,steps=10",
                "seed": seed,
                "data": "protected",
                "preset": "paper",
                "epochs": None,
                "rows": "release",
            }
            for seed in range(3)
        ],
    }


def analyses() -> list[dict[str, Any]]:
    return [
        {
            "analysis": "learning-curves",
            "figures": {"gap": 0.883, "train": 0.995, "held_out_protected": 0.964},
            "sentence": "At the end the victim knew 96.4 % of protected images that it never saw "
            "and 11.2 % of clean ones; such a gap also tells an attentive appropriator.",
            "curves": {
                "train": curve(0.995, 30),
                "held-out protected": curve(0.964, 30),
                "clean test": curve(0.112, 30, 0.2),
            },
            "matrix": None,
            "labels": [],
        },
        {
            "analysis": "gradient-cosine:images=1000",
            "figures": {"mean_cosine": 0.041, "between_nets": None},
            "sentence": "Input gradients of five checkpoints have a mean |cos| of 0.041.",
            "curves": {},
            "matrix": [[1.0 if i == k else 0.02 * (i + k) for i in range(5)] for k in range(5)],
            "labels": ["epoch 24", "epoch 48", "epoch 72", "epoch 96", "epoch 120"],
        },
    ]
