"""Where two plans have one noise key, a row gets the same pixels by both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from clean_data import Run
from growing import noises
from source_files import png, write_parquet_file

from release.plan import ReleasePlan

PICTURES = [*range(12)]


def _crafted(
    run: Run, source: Path, work: Path, method: str, *options: object
) -> tuple[ReleasePlan, dict[int, list[bytes]]]:
    """The plan of these options, and the pixels that each picture gets by it."""
    asked = ("--method", method, "--preset", "quick", "--seed", "3", "--workers", "1")
    to = ("--to", work.with_name("out"), "--workdir", work, "--no-verify")
    for command in (("plan", source, *to, *asked, *options), ("craft", "--workdir", work)):
        made = run(*command)
        assert made.exit_code == 0, made.output
    plan = ReleasePlan.load(work / "plan.json")
    shards = work.glob(f"shards/{plan.craft_key()}/data/train/*.parquet")
    return plan, noises(shards, PICTURES)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    labels = [row % 3 for row in PICTURES]
    write_parquet_file(tmp_path / "rl/data/train-0.parquet", [*map(png, PICTURES)], labels)
    return tmp_path / "rl"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random-noise", "tap"])
def test_files_and_cuts_change_neither_the_key_nor_a_pixel(
    method: str, source: Path, run: Run, tmp_path: Path
) -> None:
    plan, pixels = _crafted(run, source, tmp_path / "one", method)
    cut = ("--rows-per-shard", "5", "--encoding", "webp", "--format", "parquet,webdataset")
    other, again = _crafted(run, source, tmp_path / "two", method, *cut)
    assert other.craft_key() != plan.craft_key()
    assert other.noise_key() == plan.noise_key()
    assert again == pixels
    assert all(len(found) == 1 for found in pixels.values())


@pytest.mark.slow
@pytest.mark.parametrize(("method", "same"), [("random-noise", True), ("ar", False)])
def test_other_rows_beside_them_change_the_key_where_there_is_a_fit(
    method: str, same: bool, source: Path, run: Run, tmp_path: Path
) -> None:
    plan, pixels = _crafted(run, source, tmp_path / "one", method)
    mixed, more = PICTURES[::-1], [50, 51]
    labels = [row % 3 for row in mixed + more]
    write_parquet_file(source / "data/train-0.parquet", [*map(png, mixed + more)], labels)
    other, again = _crafted(run, source, tmp_path / "two", method)
    assert (other.noise_key() == plan.noise_key()) == same
    assert not same or again == pixels


@pytest.fixture
def plan(run: Run, source: Path, tmp_path: Path) -> ReleasePlan:
    work = tmp_path / "planned"
    told = run("plan", source, "--to", tmp_path / "out", "--workdir", work, "--no-verify")
    assert told.exit_code == 0, told.output
    return ReleasePlan.load(work / "plan.json")


def test_whatever_else_changes_the_noise_changes_the_key(plan: ReleasePlan) -> None:
    changes = {
        "method": "tap",
        "preset": "paper",
        "budget": "linf:4",
        "settings": {"checkpoints": "3"},
        "target_map": [1, 2, 0],
        "protect_classes": [1],
        "protect_share": 0.5,
        "net_size": 32,
        "seed": "5eed" * 16,
        "class_names": ["a", "b"],
    }
    untrained = replace(plan, method="random-noise")
    others = [replace(plan, **{name: value}) for name, value in changes.items()]
    others += [replace(untrained, seed="5eed" * 16), replace(untrained, budget="linf:4")]
    assert len({each.noise_key() for each in [plan, untrained, *others]}) == len(others) + 2


def test_what_rows_are_crafted_beside_is_in_the_key_where_it_matters(plan: ReleasePlan) -> None:
    for method, matters in (("random-noise", False), ("ntga", True)):
        one = replace(plan, method=method, settings={})
        assert (replace(one, rows_per_shard=7).noise_key() != one.noise_key()) == matters
        assert (
            replace(one, release="r0002", first_row=9).noise_key() != one.noise_key()
        ) == matters
