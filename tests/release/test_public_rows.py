"""A picture that is public is never protected once more, whatever its label is by now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from clean_data import Run
from growing import Growing, grown
from source_files import png, write_parquet_file

from release.chain import Chain


@pytest.fixture(scope="module")
def released(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    """A second release beside whose one good picture are an unreadable one and two public ones."""
    made = grown(run, tmp_path_factory.mktemp("public"))
    shutil.copy(made.source / "a/i0.png", made.source / "b/copied.png")
    shutil.copy(made.source / "b/i0.png", made.source / "b/again.png")
    made.add("a/new.png", 77)
    broken = made.add("a/broken.png", 78)
    broken.write_bytes(broken.read_bytes()[:60])
    second = made.push("--max-bad", "20%", "--rows-per-shard", "1")
    assert second.exit_code == 0, second.output
    return made


@pytest.fixture
def dataset(released: Growing, tmp_path: Path) -> Growing:
    """A source of one's own to change."""
    source = shutil.copytree(released.source, tmp_path / "rl")
    return Growing(released.run, source, released.target)


@pytest.mark.slow
def test_pictures_with_another_label_and_copies_are_left_out(released: Growing) -> None:
    added = Chain.in_folder(released.target).last
    assert (added.source_rows, added.num_rows) == (4, 1)
    reasons = sorted(reason for _, reason in added.quarantined)
    assert reasons[:2] == ["public already"] * 2
    assert released.run("check", released.target).exit_code == 0


@pytest.mark.slow
def test_what_was_left_out_once_is_not_new(dataset: Growing) -> None:
    assert "nothing new" in dataset.push("--max-bad", "20%").stdout


@pytest.mark.slow
def test_where_only_labels_changed_there_is_nothing_new_and_the_row_is_named(
    dataset: Growing,
) -> None:
    (dataset.source / "a/i1.png").rename(dataset.source / "b/moved.png")
    result = dataset.push("--max-bad", "20%")
    assert result.exit_code == 0, result.output
    assert "nothing new" in result.stdout
    said = " ".join(result.stderr.split())
    assert "1 new rows are left out" in said
    assert "first: b/moved.png, which is row" in said
    assert "labelled a)" in said
    assert len(Chain.in_folder(dataset.target)) == 2


@pytest.mark.slow
def test_a_picture_that_was_left_out_for_want_of_a_label_is_new_with_one(
    run: Run, tmp_path: Path
) -> None:
    made, pictures = Growing(run, tmp_path / "clean", tmp_path / "out"), [*map(png, range(8))]
    file = made.source / "data/train-0.parquet"
    write_parquet_file(file, pictures, [0, 1, 2, 0, 1, 2, 0, None])
    assert made.push("--max-bad", "20%").exit_code == 0
    write_parquet_file(file, pictures, [0, 1, 2, 0, 1, 2, 0, 1])
    assert made.plan()["num_rows"] == 1
