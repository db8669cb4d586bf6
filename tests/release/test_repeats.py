"""One picture under two labels is released once: its two noises would average out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clean_data import Run
from growing import Growing, noises
from hypothesis import given
from hypothesis import strategies as st
from source_files import png, write_parquet_file

from crafting.registry import methods
from release.chain import Chain
from release.plan import ReleasePlan
from release.repeats import COPY, OTHER_LABEL, one_each, repeated
from release.survey import Survey

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20)


def _survey(pictures: list[int], labels: list[int]) -> Any:
    drawn = np.random.default_rng(0).integers(0, 256, (4, 16), dtype=np.uint8)
    drawn[1, :15] = drawn[0, :15]  # told apart by the last byte alone
    none = np.empty(0)
    return Survey(np.array(labels, np.int64), none, none, drawn[pictures], none, [])


@given(rows, st.booleans())
def test_the_first_row_of_a_picture_stays_and_those_with_its_label(
    rows: list[tuple[int, int]], alone: bool
) -> None:
    pictures, labels = [p for p, _ in rows], [label for _, label in rows]
    expected = []
    for at, (picture, label) in enumerate(rows):
        first = pictures.index(picture)
        if at > first and (alone or label != labels[first]):
            expected.append([at, first])
    found = repeated(_survey(pictures, labels), np.arange(len(rows)), alone)
    assert found.tolist() == expected


def test_only_rows_that_are_asked_about_count() -> None:
    survey = _survey([0, 0, 1, 0], [0, 1, 0, 2])
    assert repeated(survey, np.array([1, 2, 3]), False).tolist() == [[3, 1]]


def test_copies_stay_where_noise_depends_on_the_row_alone() -> None:
    alone = {name for name, method in methods().items() if one_each(method.paper)}
    assert "ntga" in alone
    assert not alone & {"random-noise", "em", "rem", "tap", "sep-fa-vr", "alignment-online", "lsp"}


def _parquet(folder: Path, pictures: list[int], labels: list[int]) -> None:
    write_parquet_file(folder / "data/train-0.parquet", [*map(png, pictures)], labels)


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Growing:
    """A first release of pictures 0 to 5, of which 1 is there with both labels, and 2 twice."""
    dataset = Growing(run, tmp_path / "rl", tmp_path / "out")
    _parquet(dataset.source, [0, 1, 2, 3, 1, 4, 2, 5], [0, 1, 0, 1, 0, 0, 0, 1])
    first = dataset.push("--max-bad", "0")
    assert first.exit_code == 0, first.output
    said = " ".join(first.stderr.split())
    assert "1 rows are left out" in said
    assert "(first: row 4 of data/train-0.parquet, which is the picture of row 1 of data" in said
    return dataset


def test_a_first_release_has_one_row_for_each_picture(made: Growing) -> None:
    released = noises(made.target.glob("data/train/*"), range(6))
    assert {seed: len(found) for seed, found in released.items()} == dict.fromkeys(range(6), 1) | {
        2: 2
    }
    assert len(set(released[2])) == 1  # copies with one label share their noise
    manifest = Chain.in_folder(made.target).last
    assert manifest.quarantined == ((4, OTHER_LABEL),)
    assert (manifest.source_rows, manifest.num_rows) == (8, 7)
    plan = ReleasePlan.load(made.source.with_name("work") / "plan.json")
    assert (plan.survey != plan.split, plan.read_survey) == (True, plan.survey)
    assert made.run("check", made.target).exit_code == 0
    assert "nothing new" in made.push().stdout


@pytest.mark.slow
def test_of_new_rows_with_one_picture_one_is_released(made: Growing) -> None:
    """New ones stand before the public row that one of them equals, which has the picture."""
    _parquet(
        made.source,
        [5, 6, 0, 1, 2, 3, 1, 4, 2, 5, 6, 7],
        [0, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0],
    )
    before = noises(made.target.glob("data/train/*"), range(6))
    second = made.push("--max-bad", "0")
    assert second.exit_code == 0, second.output
    assert "first: row 10 of data/train-0.parquet, which is the picture of row 1 of" in " ".join(
        second.stderr.split()
    )
    added = Chain.in_folder(made.target).last
    assert added.quarantined == ((8, "public already"), (10, OTHER_LABEL))
    after = noises(made.target.glob("data/train/*"), range(8))
    assert {seed: after[seed] for seed in before} == before
    assert (len(after[6]), len(after[7])) == (1, 1)
    assert made.run("check", made.target).exit_code == 0
    assert "nothing new" in made.push().stdout


@pytest.mark.slow
def test_victims_and_clean_twins_leave_the_same_rows_out(run: Run, tmp_path: Path) -> None:
    pictures = [*range(24), 1, 3]
    labels = [row % 3 for row in range(24)] + [0, 2]
    _parquet(tmp_path / "rl", pictures, labels)
    write_parquet_file(
        tmp_path / "rl/data/test-0.parquet", [*map(png, range(90, 99))], [0, 1, 2] * 3
    )
    work = tmp_path / "work"
    asked = ("--workdir", work, "--method", "random-noise", "--preset", "quick", "--workers", "1")
    victim = ("--victim", "vgg-w16", "--victim-epochs", "1", "--max-accuracy", "1")
    made = run("push", tmp_path / "rl", "--to", tmp_path / "out", *asked, *victim)
    assert made.exit_code == 0, made.output
    plan = ReleasePlan.load(work / "plan.json")
    for folder in (work / "cache" / plan.cache_key() / "train", work / "protected"):
        (numbers,) = folder.rglob("rows.npy")
        assert np.load(numbers).tolist() == list(range(24))


@pytest.mark.parametrize("labels", [None, [0, 1, 0, 2]])
def test_a_source_without_labels_or_with_copies_alone_is_released_as_it_is(
    labels: list[int] | None, run: Run, tmp_path: Path
) -> None:
    write_parquet_file(tmp_path / "rl/data/train-0.parquet", [*map(png, [0, 1, 0, 2])], labels)
    assert Growing(run, tmp_path / "rl", tmp_path / "out").plan()["num_rows"] == 4
    plan = ReleasePlan.load(tmp_path / "work/plan.json")
    assert plan.survey == plan.split


@pytest.mark.slow
def test_copies_of_which_each_would_get_a_noise_of_its_own_are_left_out(
    run: Run, tmp_path: Path
) -> None:
    """`ntga` makes the noise of rows together, whatever rows those are."""
    made = Growing(run, tmp_path / "rl", tmp_path / "out")
    _parquet(made.source, [*range(12), 1, 2, 3], [row % 3 for row in [*range(12), 1, 2]] + [1])
    result = made.push("--method", "ntga")
    assert result.exit_code == 0, result.output
    assert "or once more, and two noises average out" in " ".join(result.stderr.split())
    assert Chain.in_folder(made.target).last.quarantined == (
        (12, COPY),
        (13, COPY),
        (14, OTHER_LABEL),
    )
    released = noises(made.target.glob("data/train/*"), range(12))
    assert {len(found) for found in released.values()} == {1}
