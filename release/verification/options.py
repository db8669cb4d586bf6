"""What a person may say to `verify RELEASE`. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from release.options import RUN, SOURCE, VERIFICATION, option


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """A verification as a person asks for it. release is None where a planned release is verified
    on its way out, which `workdir` then names."""

    release: Annotated[
        str | None,
        typer.Argument(
            metavar="RELEASE",
            help="A published dataset, ours or not: a folder, or org/name or org/name@revision of "
            "the Hub.",
        ),
    ] = None
    clean: Annotated[
        str | None,
        option(
            help="The clean dataset it was made from: its train split gives clean twins, its test "
            "split is what victims are scored on. (default: the test split of RELEASE, and no "
            "twins)",
            panel=SOURCE,
        ),
    ] = None
    split: Annotated[str | None, option(help="Protected split. (default: train)", panel=SOURCE)] = (
        None
    )
    test_split: Annotated[
        str | None,
        option(help="Clean split to score on. (default: test, else validation)", panel=SOURCE),
    ] = None
    image_column: Annotated[
        str | None, option(help="(default: found from the features)", panel=SOURCE)
    ] = None
    label_column: Annotated[
        str | None, option(help="(default: found from the features)", panel=SOURCE)
    ] = None
    rows: Annotated[
        int | None,
        option(min=2, help="Train on N rows, drawn at random. (default: all)", panel=SOURCE),
    ] = None
    delivered_as: Annotated[
        str,
        option(
            help="What your site does to images before people get them, such as "
            "resize:256,jpeg:90; done before victims meet them.",
            panel=SOURCE,
        ),
    ] = ""

    victim: Annotated[
        list[str],
        option(
            help="Victim to train; repeat. See `protect-release victims`. (default: the preset's)",
            panel=VERIFICATION,
        ),
    ] = field(default_factory=list)
    countermeasure: Annotated[
        list[str],
        option(
            help="Countermeasure NAME:KEY=VALUE; repeat; `all` for every one. The gate judges "
            "plain training, `none`, or without it what is named. (default: none, cutmix, jpeg, "
            "grayscale, ueraser-lite, at-linf:steps=3, and renamed)",
            panel=VERIFICATION,
        ),
    ] = field(default_factory=list)
    analysis: Annotated[
        list[str],
        option(help="Analysis NAME:KEY=VALUE; repeat; `all` for every one.", panel=VERIFICATION),
    ] = field(default_factory=list)
    seeds: Annotated[int, option(min=1, help="Trainings of each.", panel=VERIFICATION)] = 1
    epochs: Annotated[
        int | None, option(min=1, help="(default: the preset's)", panel=VERIFICATION)
    ] = None
    preset: Annotated[
        str | None,
        option(
            help="paper: the papers' victims and recipes; quick: small ones. (default: paper where "
            "there is a GPU, else quick)",
            panel=VERIFICATION,
        ),
    ] = None
    net_size: Annotated[
        int | None,
        option(
            min=8,
            help="Side in pixels that nets resize to. (default: the release's own, else the "
            "commonest short side, at most 224)",
            panel=VERIFICATION,
        ),
    ] = None
    max_accuracy: Annotated[
        float | None,
        option(
            min=0.0,
            max=1.0,
            help="Gate: the worst held-out victim's accuracy. (default: half of what its clean "
            "twin has above chance)",
            panel=VERIFICATION,
        ),
    ] = None
    budget_minutes: Annotated[
        float | None,
        option(
            min=0.0,
            help="After the first training begin none that would end later; what tells most comes "
            "first. Run again for the rest.",
            panel=VERIFICATION,
        ),
    ] = None

    publish: Annotated[
        bool,
        option(
            "--publish",
            help="Add the report, dated, and a row of the card to RELEASE.",
            panel=RUN,
        ),
    ] = False
    out: Annotated[
        str | None, option(help="Folder for the report. (default: in WORKDIR)", panel=RUN)
    ] = None
    workers: Annotated[
        int | None, option(min=1, help="(default: the GPUs, else the cores)", panel=RUN)
    ] = None
    max_restarts: Annotated[int, option(min=0, help="Restarts after a worker died.", panel=RUN)] = 1
    hub_patience: Annotated[
        float,
        option(min=0.1, help="Seconds to wait for a Hub that does not answer.", panel=RUN),
    ] = 600.0
    workdir: Annotated[
        str | None,
        option(
            help="Keeps what is finished. Without RELEASE: the folder of a planned release. "
            "(default: in the user's cache, by release)",
            panel=RUN,
        ),
    ] = None
