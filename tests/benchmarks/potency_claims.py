"""Made-up results of the potency benchmark."""

from __future__ import annotations

from typing import Any

from benchmarks.potency_results import Claim


def claim(name: str, finals: tuple[float, float], **changes: Any) -> Claim:
    """Measured with two seeds a point apart, against two victims and, with the first, jpeg."""
    trials = [
        {"victim": victim, "countermeasure": "none", "clean": 0.67, "peak": final + 0.1}
        | {"protected": final, "renamed": final + 0.02, "epochs": 20}
        for victim, final in zip(("vgg-w16", "resnet10-w16"), finals, strict=True)
    ]
    trials.append({**trials[0], "countermeasure": "jpeg", "protected": 0.6})
    costs = {"fit_passes": 0, "passes": 15, "fit_seconds": 30.0, "craft_seconds": 50.0}
    costs["psnr"] = 31.2
    seeds = [
        {
            "seed": n,
            **costs,
            "trials": [t | {"protected": t["protected"] + n / 100} for t in trials],
        }
        for n in range(2)
    ]
    here = {"gpus": [], "cores": 2, "processor": "a processor"}
    facts = {"method": name, "budget": "linf:8", "scale": "quick", "dataset": "cifar10"}
    facts |= {"settings": {}}
    figures = {"rows": 5000, "at_once": 1, "reported": None, "measured": seeds, "measured_on": here}
    return Claim(facts | figures | changes)
