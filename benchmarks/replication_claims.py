"""The tables and figures that protect-release can be held against, and the figures in them."""

from __future__ import annotations

from benchmarks.replication_items import Check, Item, in_turn, potency, push, row, verify

_SEP = "Self-Ensemble Protection"
_THREE = ("resnet18", "vgg16", "densenet121")
_FIVE = ("resnet18", "senet18", "vgg16", "densenet121", "googlenet")
_ON_FIVE = "--budget linf:2 --victims " + ",".join(_FIVE)
_AT = ("at-linf:radius=8.0", "at-l2")
_AGAINST_AT = "--victims resnet18 --countermeasure at-linf:radius=8.0 --countermeasure at-l2"


def _norms(method: str, budget: str, figures: tuple[float, float, float]) -> tuple[Check, ...]:
    tried = zip(("none", *_AT), figures, strict=True)
    return tuple(Check(method, f / 100, budget, countermeasure=name) for name, f in tried)


SEP = (
    Item(
        _SEP,
        "Table 1",
        "4 methods, 3 victims, linf:8 (CIFAR-10; CIFAR-100 and ImageNet with other files)",
        potency("cifar10", "em,rem,tap,sep-fa-vr"),
        row("em", _THREE, (19.93, 28.34, 20.25))
        + row("rem", _THREE, (27.09, 28.17, 24.96))
        + row("tap", _THREE, (6.25, 6.88, 6.22))
        + row("sep-fa-vr", _THREE, (4.73, 5.61, 3.76)),
    ),
    Item(
        _SEP,
        "Table 2",
        "5 victims, linf:2 (CIFAR-10; CIFAR-100 and ImageNet with other files)",
        potency("cifar10", "sep-fa-vr", _ON_FIVE),
        row("sep-fa-vr", _FIVE, (14.68, 15.93, 23.66, 15.02, 17.99), budget="linf:2"),
    ),
    Item(
        _SEP,
        "Table 3",
        "adversarial training against bounds on pixels, on length, and both",
        potency("cifar10", "ar,sep-fa-vr,sep-fa-vr+ops,ar+ops", _AGAINST_AT),
        _norms("ar", "l2:1", (12.99, 82.03, 82.86))
        + _norms("sep-fa-vr", "linf:8", (4.73, 82.51, 81.91))
        + _norms("sep-fa-vr+ops", "linf:8+l0:1", (3.43, 13.19, 71.01)),
    ),
    Item(
        _SEP,
        "Table 4",
        "what ensemble, features and variance reduction each bring, linf:2",
        in_turn(
            potency("cifar10", "tap", f"{_ON_FIVE} --set restarts=4"),
            potency("cifar10", "ensemble,sep,sep-fa,sep-fa-vr", _ON_FIVE),
        ),
        row(
            *("tap", _FIVE, (41.35, 40.54, 52.22, 43.28, 48.04)),
            budget="linf:2",
            settings=(("restarts", "4"),),  # as many passes as the others take
        )
        + row("ensemble", _FIVE, (16.32, 16.91, 29.19, 16.74, 20.34), budget="linf:2")
        + row("sep", _FIVE, (19.92, 17.81, 28.12, 18.07, 22.48), budget="linf:2")
        + row("sep-fa", _FIVE, (16.91, 17.01, 26.82, 16.88, 21.15), budget="linf:2")
        + row("sep-fa-vr", _FIVE, (14.68, 15.93, 23.66, 15.02, 17.99), budget="linf:2"),
    ),
    Item(
        _SEP,
        "Table 5",
        "weaker baselines, with the figures of Fowl et al. 2021",
        potency("cifar10", "random-noise,tensorclog,alignment,deepconfuse"),
        row("tensorclog", ("resnet18",), (84.24,))
        + row("random-noise", ("resnet18",), (90.52,))
        + row("alignment", ("resnet18",), (36.83,))
        + row("deepconfuse", ("resnet18",), (28.77,)),
    ),
    Item(
        _SEP,
        "Table 6",
        "more baselines, with figures of Fowl et al. 2021 that are not at hand",
        potency("cifar10", "random-noise,em,ntga,tap"),
    ),
    Item(
        _SEP,
        "Figure 1",
        "input gradients of checkpoints and of architectures are nearly orthogonal",
        verify("--analysis gradient-cosine"),
        shown_by=("gradient-cosine",),
    ),
    Item(
        _SEP,
        "Figure 2a",
        "protected rows are mistaken on the way by nets that learn from clean ones",
        verify("--analysis premise"),
        shown_by=("premise",),
    ),
    Item(
        _SEP,
        "Figures 2b, 2c",
        "whom classes are taken for that are pulled towards chosen ones",
        "python -m benchmarks.class_maps SOURCE",
        shown_by=("class_maps",),
    ),
    Item(
        _SEP,
        "Figure 3",
        "accuracy on training and test rows, epoch by epoch, linf:2",
        verify("--analysis learning-curves"),
    ),
    Item(
        _SEP,
        "Figure 4",
        "accuracy on held-out protected rows",
        verify("--analysis learning-curves --countermeasure early-stop"),
    ),
    Item(
        _SEP,
        "Figure 5",
        "3 to 120 checkpoints, linf:2 (once for each number)",
        potency("cifar10", "sep,sep-fa,sep-fa-vr", "--budget linf:2 --set checkpoints=3"),
    ),
)

_ALIGNMENT = "Preventing Unauthorized Use"
_BLACK_BOX = ("vgg19", "resnet18", "googlenet", "densenet121", "mobilenetv2")
_ON_BLACK_BOX = "--victims " + ",".join(_BLACK_BOX)
_FACES = "identification and verification of faces"


def _by_budget(method: str, columns: dict[str, tuple[float, ...]]) -> tuple[Check, ...]:
    return tuple(
        check
        for budget, figures in columns.items()
        for check in row(method, _BLACK_BOX, figures, budget=budget)
    )


ALIGNMENT = (
    Item(
        _ALIGNMENT,
        "Table 1",
        "ImageNet within linf:8 and linf:16",
        in_turn(
            *(
                potency("imagenet", "alignment", f"--victims resnet18 --budget {budget}")
                for budget in ("linf:8", "linf:16")
            )
        ),
        (
            Check("alignment", 0.3758, dataset="imagenet"),
            Check("alignment", 0.2749, "linf:16", dataset="imagenet"),
        ),
    ),
    Item(
        _ALIGNMENT,
        "Table 2",
        "alignment beside TensorClog and random noise",
        potency("cifar10", "tensorclog,random-noise,alignment", "--victims resnet18"),
        row("tensorclog", ("resnet18",), (84.24,))
        + row("random-noise", ("resnet18",), (90.52,))
        + row("alignment", ("resnet18",), (36.83,)),
    ),
    Item(
        _ALIGNMENT,
        "Table 3",
        "5 victims within linf:4, linf:8 and linf:16",
        in_turn(
            *(
                potency("cifar10", "alignment", f"{_ON_BLACK_BOX} --budget {budget}")
                for budget in ("linf:4", "linf:8", "linf:16")
            )
        ),
        _by_budget(
            "alignment",
            {
                "linf:4": (66.58, 68.15, 71.02, 70.12, 66.71),
                "linf:8": (48.27, 55.34, 55.49, 49.23, 51.03),
                "linf:16": (31.86, 43.14, 45.37, 38.51, 39.19),
            },
        ),
    ),
    Item(
        _ALIGNMENT,
        "Table 4",
        "the same with the target gradient of a tenth of the rows",
        push("alignment", "--set gradient_share=0.1"),
    ),
    Item(
        _ALIGNMENT,
        "Table 5",
        "differential privacy, random noise and smoothing against alignment",
        potency(
            "cifar10",
            "alignment",
            "--victims resnet18 --countermeasure dpsgd --countermeasure random-noise "
            "--countermeasure gaussian-smoothing",
        ),
        (
            Check("alignment", 0.4482),
            Check("alignment", 0.4418, countermeasure="dpsgd"),
            Check("alignment", 0.4836, countermeasure="random-noise"),
            Check("alignment", 0.2426, countermeasure="gaussian-smoothing"),
        ),
    ),
    Item(_ALIGNMENT, "Table 6", f"{_FACES}, 3 budgets", ""),
    Item(_ALIGNMENT, "Table 7", f"{_FACES}, 2 surrogates", ""),
    Item(
        _ALIGNMENT,
        "Table 8",
        "surrogate and target gradient of a share of the rows, images together or alone",
        push("alignment-online", "--set fit_share=0.1"),
    ),
    Item(
        _ALIGNMENT,
        "Table 9",
        "regularisers: length, SSIM, total variation",
        push("alignment", "--set ssim=1"),
    ),
)

_MIN_MAX_MIN = "Re-thinking Data Availability Attacks"
_RADII = ("none", "at-linf:radius=1.0", "at-linf:radius=2.0", "at-linf:radius=3.0", "at-linf")
_ALL_RADII = "--victims resnet18" + "".join(f" --countermeasure {name}" for name in _RADII[1:])
_ARCHITECTURES = ("vgg16", "resnet18", "resnet50", "densenet121", "wide-resnet-34-10")


def _radii(method: str, figures: tuple[float, ...]) -> tuple[Check, ...]:
    tried = zip(_RADII, figures, strict=True)
    return tuple(Check(method, figure / 100, countermeasure=name) for name, figure in tried)


MIN_MAX_MIN = (
    Item(
        _MIN_MAX_MIN,
        "Table 3",
        "adversarial training with radii 0 to 4 (CIFAR-10; others with other files)",
        potency("cifar10", "em,rem,min-max-min,entf-push", _ALL_RADII),
        _radii("rem", (22.93, 30.00, 30.04, 31.75, 48.16))
        + _radii("min-max-min", (12.71, 14.71, 15.38, 15.51, 23.12))
        + _radii("entf-push", (94.65, 93.56, 92.00, 91.04, 89.52)),
    ),
    Item(
        _MIN_MAX_MIN,
        "Table 4",
        "5 victims trained adversarially with radius 4",
        potency(
            "cifar10",
            "min-max-min",
            f"--victims {','.join(_ARCHITECTURES)} --countermeasure at-linf",
        ),
        row(
            "min-max-min",
            _ARCHITECTURES,
            (37.78, 23.12, 19.30, 72.42, 18.67),
            countermeasure="at-linf",
        ),
    ),
    Item(
        _MIN_MAX_MIN,
        "Table 5",
        "other nets as surrogates",
        push("min-max-min", "--set surrogate=NET"),
    ),
    Item(
        _MIN_MAX_MIN,
        "Table 6",
        "a part of the rows protected",
        verify("--countermeasure none --countermeasure mix-percent:share=80"),
    ),
)

_LECTURE = "Lecture on unlearnable examples"
_PETS = ("none", "mixup", "gaussian-smoothing", "cutmix", "cutout")
_PETS_RADII = (
    "--victims resnet18 --countermeasure at-linf:radius=1.0 --countermeasure at-linf:radius=2.0"
)
_ON_PETS = "--victims resnet18" + "".join(f" --countermeasure {name}" for name in _PETS[1:])


def _pets(method: str, figures: tuple[float, ...]) -> tuple[Check, ...]:
    pairs = zip(_PETS, figures, strict=True)
    return tuple(
        Check(method, f / 100, "linf:16", countermeasure=name, dataset="pets") for name, f in pairs
    )


LECTURE = (
    Item(
        _LECTURE,
        "Unlearnable clusters, Table 1",
        "label-agnostic protection of Pets (and 5 data sets more), 3 victims, without CLIP",
        potency("pets", "uc", "--budget linf:16 --victims resnet18"),
        (Check("uc", 0.1221, "linf:16", dataset="pets"),),
    ),
    Item(
        _LECTURE,
        "Unlearnable clusters, Table 3",
        "augmentations against it, without CLIP",
        potency("pets", "uc", f"--budget linf:16 {_ON_PETS}"),
        _pets("uc", (12.21, 14.34, 24.26, 14.50, 12.35)),
    ),
    Item(
        _LECTURE,
        "Unlearnable clusters, Figure 4",
        "other labels, and training without labels",
        verify("--countermeasure relabel --countermeasure simclr"),
    ),
    Item(
        _LECTURE,
        "Adversarial training, Table 1",
        "radii 1 and 2 against 5 of 7 protections of Pets",
        in_turn(
            potency("pets", "em,tap,deepconfuse,uc", f"--budget linf:16 {_PETS_RADII}"),
            potency("pets", "lsp", _PETS_RADII),
        ),
        (
            Check("uc", 0.2223, "linf:16", "resnet18", "at-linf:radius=1.0", "pets"),
            Check("uc", 0.2258, "linf:16", "resnet18", "at-linf:radius=2.0", "pets"),
        ),
    ),
    Item(
        _LECTURE,
        "Linearly separable perturbations",
        "8 methods beside synthetic noise",
        potency("cifar10", "tensorclog,alignment,deepconfuse,ntga,em,tap,lsp"),
        row("tensorclog", ("resnet18",), (48.07,))
        + row("alignment", ("resnet18",), (56.65,))
        + row("deepconfuse", ("resnet18",), (28.77,))
        + row("ntga", ("resnet18",), (33.29,))
        + row("em", ("resnet18",), (19.93,))
        + row("tap", ("resnet18",), (6.25,))
        + (Check("lsp", 0.1354, "l2:1.304"),),
    ),
    Item(
        _LECTURE,
        "Linear separability of the noise",
        "linear and two-layer nets tell the classes from the noise alone",
        verify("--analysis linear-separability --analysis csd"),
        shown_by=("linear-separability", "csd"),
    ),
    Item(
        _LECTURE,
        "Transferable unlearnable examples, Tables 2 and 5",
        "noise swapped within and between classes",
        verify(
            "--countermeasure none --countermeasure noise-swap "
            "--countermeasure noise-swap:between=other-class"
        ),
    ),
    Item(
        _LECTURE,
        "Transferable unlearnable examples, training-wise",
        "supervised and contrastive training",
        potency("cifar10", "em,lsp,tue", "--victims resnet18 --countermeasure simclr"),
        (
            Check("tue", 0.1067),
            Check("tue", 0.5238, countermeasure="simclr"),
            Check("em", 0.1474),
            Check("em", 0.8979, countermeasure="simclr"),
        ),
    ),
    Item(
        _LECTURE,
        "Transferable unlearnable examples, Table 6",
        "noise made on one data set added to another",
        "",
    ),
)

_CUDA = "CUDA"
CUDA = (
    Item(
        _CUDA,
        "figures of the abstract",
        "ImageNet-100: plain training, and adversarial training of either kind",
        potency(
            "imagenet100",
            "cuda",
            "--victims resnet18 --countermeasure at-linf --countermeasure at-l2",
        ),
        (
            Check("cuda", 0.0896, "unbounded", dataset="imagenet100"),
            Check("cuda", 0.4008, "unbounded", "resnet18", "at-linf", "imagenet100"),
            Check("cuda", 0.2058, "unbounded", "resnet18", "at-l2", "imagenet100"),
        ),
    ),
)

ITEMS = SEP + ALIGNMENT + MIN_MAX_MIN + LECTURE + CUDA
