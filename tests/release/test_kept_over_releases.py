"""Kept columns are the same in every release of a dataset, or no later one is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from clean_data import Run
from datasets import ClassLabel, Value, load_dataset
from growing import Growing
from source_files import png, write_parquet_file

from release.columns import demand_continued, kept_columns
from release.errors import InputError

ROWS = 6
KEPT = ("--keep-column", "artist", "--keep-column", "age")


def _write(dataset: Growing, rows: int, artists: Sequence[str], age: str = "int64") -> None:
    """Every picture is by the artist called bob and as old as its number."""
    kept = {
        "artist": (ClassLabel(names=list(artists)), [list(artists).index("bob")] * rows),
        "age": (Value(age), [str(row) if age == "string" else row for row in range(rows)]),
    }
    pictures, labels = [png(row) for row in range(rows)], [row % 3 for row in range(rows)]
    write_parquet_file(dataset.source / "data/train-0.parquet", pictures, labels, kept)


@pytest.fixture(scope="module")
def released(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    home = tmp_path_factory.mktemp("kept")
    made = Growing(run, home / "clean", home / "out")
    _write(made, ROWS, ["bob", "eve"])
    first = made.push(*KEPT)
    assert first.exit_code == 0, first.output
    return made


@pytest.mark.parametrize(
    ("artists", "age", "says"),
    [
        (["alice", "bob", "eve"], "int64", "class 0 of column 'artist' is 'alice' and was publi"),
        (["bob"], "int64", "class 1 of column 'artist' is nothing and was published as 'eve'"),
        (["bob", "eve"], "string", "column 'age' is string and was published as int64"),
    ],
)
def test_another_kind_of_column_is_refused(
    released: Growing, artists: list[str], age: str, says: str
) -> None:
    _write(released, ROWS + 3, artists, age)
    result = released.push(*KEPT)
    assert result.exit_code == 2, result.output
    assert says in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.slow
def test_classes_of_a_kept_column_can_grow(released: Growing) -> None:
    _write(released, ROWS + 3, ["bob", "eve", "alice"])
    result = released.push(*KEPT)
    assert result.exit_code == 0, result.output
    rows = load_dataset(str(released.target), split="train")
    artist = rows.features["artist"]
    assert artist.names == ["bob", "eve", "alice"]
    assert {artist.int2str(value) for value in rows["artist"]} == {"bob"}
    assert sorted(rows["age"]) == list(range(ROWS + 3))


@pytest.mark.parametrize("now", [Value("string"), ClassLabel(names=["0"]), Value("int32")])
def test_numbers_stay_numbers_of_their_kind(now: Any) -> None:
    published = kept_columns({"v": Value("int64")}, (), ["v"], ())
    with pytest.raises(InputError, match=r"'v' is .* and was published as int64"):
        demand_continued(published, kept_columns({"v": now}, (), ["v"], ()))
    demand_continued(published, published)
