"""New rows that cannot be read do not stop a job that runs again and again."""

from __future__ import annotations

from pathlib import Path

import pytest
from clean_data import Run
from growing import Growing, grown

from release.row_names import row_name
from release.source import open_source


@pytest.fixture(scope="module")
def released(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Growing:
    return grown(run, tmp_path_factory.mktemp("unreadable"))


def test_where_the_only_new_row_is_unreadable_there_is_nothing_new(released: Growing) -> None:
    """The share that is allowed is one of all rows: here 1 of 9."""
    broken = released.add("a/broken.png", 78)
    broken.write_bytes(broken.read_bytes()[:60])
    result = released.push("--max-bad", "20%")
    assert result.exit_code == 0, result.output
    assert "nothing new" in result.stdout
    said = " ".join(result.stderr.split())
    assert "1 of 1 new rows cannot be released (first: a/broken.png, " in said
    refused = released.push("--max-bad", "10%")
    assert refused.exit_code == 4
    assert "1 of 9 rows" in refused.stderr
    assert "a/broken.png" in refused.stderr


def test_rows_are_called_by_file_and_place(parquet: Path, tars: Path, class_folders: Path) -> None:
    called = [row_name(open_source(str(path)), "train", 6) for path in (parquet, tars)]
    assert called == ["row 0 of data/train-00001-of-00002.parquet", "0002 of train-001.tar"]
    folders = open_source(str(class_folders))
    assert (class_folders / row_name(folders, "train", 6)).is_file()
