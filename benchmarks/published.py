"""Published figures of the methods, to stand beside what is measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_SEP = "Chen et al., ICLR 2023 (Self-Ensemble Protection)"
_ALIGNMENT = "Fowl et al., arXiv 2103.02683 (Preventing Unauthorized Use)"
_MIN_MAX_MIN = "Fang et al., CVPR 2024 (Re-thinking Data Availability Attacks)"


@dataclass(frozen=True)
class Published:
    """The test accuracy (a fraction) of a net trained on a protected data set."""

    accuracy: float
    source: str
    budget: str = "linf:8"
    net: str = "ResNet-18"
    dataset: str = "CIFAR-10"


PUBLISHED: Mapping[str, Published] = {
    "alignment": Published(0.3683, f"{_ALIGNMENT}, Table 2"),
    "alignment-online": Published(0.3642, f"{_ALIGNMENT}, Table 8, from a tenth of the rows"),
    "ar": Published(0.1175, "Sandoval-Segura et al., NeurIPS 2022 (Autoregressive)", "l2:1"),
    "cuda": Published(
        0.0896, "Sadasivan et al., CVPR 2023 (CUDA)", "unbounded", dataset="ImageNet-100"
    ),
    "deepconfuse": Published(0.2877, "Feng et al., NeurIPS 2019, as run by Fowl et al. 2021"),
    "em": Published(0.1993, f"{_SEP}, Table 1"),
    "ensemble": Published(0.1632, f"{_SEP}, Table 4", "linf:2"),
    "entf-push": Published(0.9465, f"{_MIN_MAX_MIN}, Table 3"),
    "hypo": Published(0.7154, "Liu et al., ICML 2023 (Image Shortcut Squeezing)"),
    "lsp": Published(0.1354, "Yu et al., KDD 2022 (Linearly Separable)", "l2:1.304"),
    "min-max-min": Published(0.1271, f"{_MIN_MAX_MIN}, Table 3"),
    "ntga": Published(0.3329, "the NTGA authors' README (Yuan and Wu, ICML 2021)"),
    "ops": Published(0.1469, "APBench leaderboard (Qin et al. 2023); 36.55 % in ISS", "l0:1"),
    "random-noise": Published(0.9052, f"{_ALIGNMENT}, Table 2"),
    "rem": Published(0.2709, f"{_SEP}, Table 1"),
    "sep": Published(0.1992, f"{_SEP}, Table 4", "linf:2"),
    "sep-fa": Published(0.1691, f"{_SEP}, Table 4", "linf:2"),
    "sep-fa-vr": Published(0.0473, f"{_SEP}, Table 1"),
    "sep-fa-vr+ops": Published(0.0343, f"{_SEP}, Table 3", "linf:8+l0:1"),
    "tap": Published(0.0625, f"{_SEP}, Table 1"),
    "tensorclog": Published(0.8424, f"{_ALIGNMENT}, Table 2"),
    "tue": Published(0.1067, "Ren et al., ICLR 2023 (Transferable Unlearnable Examples), Table 1"),
    "uc": Published(
        0.1221, "Zhang et al., CVPR 2023 (Unlearnable Clusters), Table 1", "linf:16", dataset="Pets"
    ),
}
