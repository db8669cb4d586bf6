"""How analyses are named, what they demand, and what all of them promise."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from materials import coloured, ignored, material

from crafting.batch import PixelSplit
from evaluation.analyses import ANALYSES, Findings, Material, parse, randomness, trainings
from evaluation.analyses.trainings import recipe
from evaluation.victims import victim

QUICK = {
    "gradient-cosine": "gradient-cosine:images=8,checkpoints=2,nets=vgg-w16",
    "linear-separability": "linear-separability:outer=2",
    "premise": "premise:nets=vgg-w16",
}
"""How those are written that would otherwise take seconds."""


def grey(split: PixelSplit) -> PixelSplit:
    return replace(split, pixels=split.pixels[:, :1])


@pytest.fixture(scope="module")
def small() -> Material:
    return material(coloured(24, 1, turned=1), coloured(24, 2), epochs=2)


@pytest.mark.parametrize(
    "text",
    ["csd", "linear-separability:outer=500", "gradient-cosine:images=50,loss=cross-entropy"],
)
def test_an_analysis_is_written_in_one_way(text: str) -> None:
    assert str(parse(text)) == text


def test_defaults_need_not_be_written() -> None:
    assert str(parse("linear-separability:rows=5000,outer=9")) == "linear-separability:outer=9"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("premises", "did you mean premise"),
        ("premise:image=1", "did you mean images"),
        ("premise:images=x", "premise images is a value of type int, not 'x'"),
        ("premise:images", "premise images is a value of type int, not ''"),
        ("premise:images=2,images=3", "premise has images twice, '2' and '3'"),
        ("premise:images=0", "premise images is a count of at least 1, not 0"),
        ("premise:nets=vgg-w61", "did you mean vgg-w16"),
        ("premise:nets=vgg-w16+vgg-w16", "names a net twice"),
        ("randomness:net=vgg-w61", "did you mean vgg-w16"),
        ("gradient-cosine:loss=x", "is one of alignment, cross-entropy"),
        ("learning-curves:held_out=1", "held_out is a share between 0 and 1, not 1.0"),
        ("csd:x=1", "no parameters: write csd alone"),
    ],
)
def test_mistakes_are_told_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_the_package_can_be_imported_first() -> None:
    """Its modules are found while it is itself being imported."""
    code = "from evaluation.analyses import ANALYSES as A; print(*A)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == sorted(ANALYSES)


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_every_analysis_has_defaults_a_cost_and_says_what_it_tells(name: str) -> None:
    analysis = ANALYSES[name]()
    assert str(analysis) == name
    assert analysis.cost > 0
    assert (analysis.__doc__ or "").startswith("Tells ")


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_findings_are_plain_finite_values_and_the_same_each_time(
    name: str, small: Material
) -> None:
    analysis = parse(QUICK.get(name, name))
    told: list[float] = []
    first = analysis.run(small, told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    torch.manual_seed(5)
    np.random.seed(5)
    again = analysis.run(small, ignored)
    assert again == first
    assert _finite(first)
    assert json.loads(json.dumps(first.to_json(), allow_nan=False)) == first.to_json()
    assert re.fullmatch(r"[A-Z].*[a-z)%0-9]\.", first.sentence), first.sentence
    assert not re.search(r"secure|safe|unlearnable|\bnan\b", first.sentence)


def _finite(found: Findings) -> bool:
    values = [*found.figures.values(), *(v for curve in found.curves.values() for v in curve)]
    return all(value is None or (type(value) is float and math.isfinite(value)) for value in values)


@pytest.mark.parametrize("text", [*sorted(set(ANALYSES) - set(QUICK)), *QUICK.values()])
def test_findings_are_finite_where_every_net_diverges(
    text: str, small: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = victim("vgg-w16")
    wild = replace(entry, recipe_quick=replace(entry.recipe_quick, lr=1e30))
    monkeypatch.setattr(trainings, "victim", lambda name: wild)
    found = parse(text).run(small, ignored)
    assert _finite(found)
    json.dumps(found.to_json(), allow_nan=False)
    assert not re.search(r"\bnan\b|None", found.sentence), found.sentence


def test_what_could_not_be_measured_is_told(
    small: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the training on protected rows goes well, and that on clean ones does not."""
    diverged = (torch.full((8, 4), float("nan")), torch.arange(8) % 4)
    answers = iter([(torch.eye(4).repeat(2, 1).double(), torch.arange(8) % 4), diverged])
    monkeypatch.setattr(randomness, "probabilities", lambda *_: next(answers))
    found = parse("randomness").run(small, ignored)
    assert found.figures["protected dar"] == 0.1875
    assert (found.figures["clean dar"], found.figures["clean r_p"]) == (None, None)
    assert "training on the clean images: not measured, since it diverged)" in found.sentence


def test_findings_are_rid_of_what_is_not_finite() -> None:
    nan = float("nan")
    found = Findings(
        {"one": nan, "two": 2.0, "three": None},
        "A sentence.",
        {"whole": [0.1, 0.2], "torn": [0.1, nan]},
        [[1.0, nan], [nan, 1.0]],
        ["a", "b"],
    )
    figures = {"one": None, "two": 2.0, "three": None}
    assert found.finite == Findings(figures, "A sentence.", {"whole": [0.1, 0.2]})
    whole = replace(found, figures={}, curves={}, matrix=[[1.0]], labels=["a"])
    assert whole.finite == whole


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_images_of_one_channel_are_analysed_too(name: str, small: Material) -> None:
    assert small.clean is not None
    alone = replace(
        small, protected=grey(small.protected), clean=grey(small.clean), test=grey(small.test)
    )
    assert parse(QUICK.get(name, name)).run(replace(alone, epochs=1), ignored).figures


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_without_clean_images_an_analysis_needs_none_or_says_so(name: str, small: Material) -> None:
    analysis = parse(QUICK.get(name, name))
    alone = replace(small, clean=None, epochs=1)
    if not analysis.needs_clean:
        assert analysis.run(alone, ignored).figures
        return
    with pytest.raises(ValueError, match=f"{name} compares with the clean images"):
        analysis.run(alone, ignored)


@pytest.mark.parametrize("name", sorted(ANALYSES))
def test_without_labels_an_analysis_needs_none_or_says_so(name: str, small: Material) -> None:
    analysis = parse(QUICK.get(name, name))
    alone = replace(small, protected=replace(small.protected, targets=None))
    if not analysis.needs_labels:
        assert analysis.run(alone, ignored).figures
        return
    with pytest.raises(ValueError, match=f"{name} goes by labels, and the release has none"):
        analysis.run(alone, ignored)


def test_clean_images_of_other_rows_are_refused(small: Material) -> None:
    other = replace(small, clean=coloured(24, 2, first=1))
    with pytest.raises(ValueError, match="not those of the 24 protected rows"):
        parse("csd").run(other, ignored)


def test_a_sample_takes_the_same_rows_of_both_splits_and_no_more_than_there_are() -> None:
    given = material(coloured(50, 1), coloured(50, 2))
    assert given.clean is not None
    protected, clean = (given.sample(s, 10).numbered()[0] for s in (given.protected, given.clean))
    assert len(protected) == 10
    assert protected.tolist() == clean.tolist()
    assert protected.tolist() != list(range(10))
    assert len(given.sample(given.protected, 60)) == 50


def test_large_images_are_learnt_by_the_recipe_for_them(small: Material) -> None:
    rates = [
        recipe(replace(small, preset="paper", net_size=size), "vgg16").lr for size in (32, 224)
    ]
    assert rates == [0.1, 0.01]
