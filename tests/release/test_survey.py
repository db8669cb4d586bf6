"""One pass says what each row is, and a second run reads the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Value
from PIL import Image
from source_files import file_of, picture, png, write_parquet_file, write_tar

from release.errors import InputError
from release.source import Row, Source, open_source
from release.survey import Survey, restrict, row_digest, survey


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Survey]:
    """Surveys a Parquet source of these images and labels."""

    def run(images: list[bytes | None], labels: list[int | None] | None) -> Survey:
        write_parquet_file(tmp_path / "source/train.parquet", images, labels)
        return survey(open_source(str(tmp_path / "source")), "train", tmp_path / "survey")

    return run


def test_every_row_is_described(look: Callable[..., Survey]) -> None:
    images = [png(0), file_of(picture(1, "L", (6, 9))), png(2)]
    found = look(images, [2, 0, 1])
    assert len(found) == 3
    assert found.labels.tolist() == [2, 0, 1]
    assert found.sizes.tolist() == [[3, 8, 8], [1, 9, 6], [3, 8, 8]]
    assert found.good.tolist() == [True] * 3
    assert found.rows().tolist() == [0, 1, 2]
    assert found.bad == []
    assert found.class_counts(3).tolist() == [1, 1, 1]


def test_a_digest_is_of_the_image_file_and_the_label(look: Callable[..., Survey]) -> None:
    found = look([png(0), png(0), png(0), png(1)], [0, 0, 1, 0])
    digests = [bytes(digest) for digest in found.digests]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
    assert digests[3] == row_digest(Row(99, png(1), 0, {"kept": 1}))
    assert digests[3] == hashlib.sha256(png(1) + b"\0" + b"0").digest()


def test_bad_rows_are_listed_with_their_reason(
    look: Callable[..., Survey], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    cut = png(5, size=(16, 16))[:200]
    bomb = file_of(Image.new("RGB", (21, 20)))
    found = look([png(0), None, cut, bomb, png(4), b"junk"], [0, 1, 2, 0, None, 1])
    reasons = dict(found.bad)
    assert list(reasons) == [1, 2, 3, 4, 5]
    assert reasons[1] == "no image"
    assert "truncated" in reasons[2]
    assert "bomb" in reasons[3]
    assert reasons[4] == "no label"
    assert reasons[5] == "not an image file"
    assert found.rows().tolist() == [0]
    assert found.class_counts(3).tolist() == [1, 0, 0]


def test_a_label_out_of_range_is_a_bad_row(look: Callable[..., Survey]) -> None:
    found = look([png(0), png(1), png(2)], [3, -1, 2])
    assert found.bad == [(0, "label 3 is not in 0..2"), (1, "label -1 is not in 0..2")]
    assert found.rows().tolist() == [2]


def test_rows_without_a_label_column_are_good(look: Callable[..., Survey]) -> None:
    found = look([png(0), png(1)], None)
    assert found.rows().tolist() == [0, 1]
    assert found.labels.tolist() == [-1, -1]


def test_shapes_are_summed_up_over_good_rows(look: Callable[..., Survey]) -> None:
    same = look([png(0), png(1), b""], [0, 1, 2])
    assert same.one_shape() == (3, 8, 8)
    assert same.bytes_per_row() == 192
    mixed = look([png(0, size=(9, 20)), png(1, size=(40, 9)), png(2), b""], [0, 1, 2, 0])
    assert mixed.one_shape() is None
    assert mixed.common_short_side() == 9


@pytest.mark.parametrize(
    ("sides", "common"), [((6, 20, 21, 22, 90), 21), ((6, 20, 24, 90), 20), ((6, 90, 90, 20), 90)]
)
def test_an_odd_one_out_is_no_common_side(
    sides: tuple[int, ...], common: int, look: Callable[..., Survey]
) -> None:
    found = look([png(0, size=(side, 100)) for side in sides], [0] * len(sides))
    assert found.common_short_side() == common


def test_a_survey_is_restricted_to_some_rows(look: Callable[..., Survey], tmp_path: Path) -> None:
    found = look([png(0), b"", png(2), png(3), b"?"], [0, 1, 2, 0, 1])
    some = restrict(found, np.array([1, 2, 4]), tmp_path / "some")
    assert some.labels.tolist() == [1, 2, 1]
    assert some.good.tolist() == [False, True, False]
    assert np.array_equal(some.digests, found.digests[[1, 2, 4]])
    reasons = dict(found.bad)
    assert list(some.bad) == [(0, reasons[1]), (2, reasons[4])]
    assert np.load(tmp_path / "some/rows.npy").tolist() == [1, 2, 4]


def test_only_the_first_rows_are_surveyed_and_progress_is_told(
    parquet: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    source = open_source(str(parquet))
    found = survey(
        source, "train", tmp_path / "s", limit=4, progress=lambda *done: told.append(done)
    )
    assert len(found) == 4
    assert told == [(row, 4) for row in range(1, 5)]
    assert len(survey(source, "train", tmp_path / "t", limit=99)) == 10


def test_a_finished_survey_is_read_and_not_made_again(
    parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(str(parquet))
    first = survey(source, "train", tmp_path / "s")

    def fail(*_: object) -> None:
        raise AssertionError("the source was read again")

    with monkeypatch.context() as patch:
        patch.setattr(Source, "rows", fail)
        again = survey(source, "train", tmp_path / "s")
        assert isinstance(again.digests, np.memmap)
        np.testing.assert_array_equal(again.digests, first.digests)
        with pytest.raises(AssertionError):
            survey(source, "train", tmp_path / "s", limit=5)


def test_a_changed_source_is_surveyed_again(parquet: Path, tmp_path: Path) -> None:
    before = survey(open_source(str(parquet)), "train", tmp_path / "s")
    digests = before.digests.copy()
    images: list[bytes | None] = [png(50 + row) for row in range(6)]
    path = parquet / "data/train-00000-of-00002.parquet"
    write_parquet_file(path, images, [0] * 6, {"age": (Value("int64"), [0] * 6)})
    after = survey(open_source(str(parquet)), "train", tmp_path / "s")
    assert (after.digests[:6] != digests[:6]).any(axis=1).all()
    assert (after.digests[6:] == digests[6:]).all()


def test_a_survey_that_was_stopped_leaves_nothing_to_be_read(parquet: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    source = open_source(str(parquet))
    with pytest.raises(KeyboardInterrupt):
        survey(source, "train", tmp_path / "s", progress=stop)
    assert not (tmp_path / "s").exists()
    assert len(survey(source, "train", tmp_path / "s")) == 10


def test_kept_strings_that_lead_to_the_originals_stop_the_survey(tmp_path: Path) -> None:
    notes = {"note": (Value("string"), ["a cat", "photos/cat.jpg"])}
    write_parquet_file(tmp_path / "source/train.parquet", [png(0), png(1)], [0, 1], notes)
    folder = str(tmp_path / "source")
    with pytest.raises(InputError, match="column 'note' in row 1"):
        survey(open_source(folder, keep=["note"]), "train", tmp_path / "s")
    source = open_source(folder, keep_clean=["note"])
    assert survey(source, "train", tmp_path / "s").rows().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("first", "second"), [(1, 0.5), (1, "high"), (1, [1, 2]), (0.5, "1"), ("a", 1), (True, 2)]
)
def test_a_field_of_a_tar_that_changes_its_kind_stops_the_survey(
    first: object, second: object, tmp_path: Path
) -> None:
    """Or a column of whole numbers would hold 0 for 0.5."""
    folder = str(_scored(tmp_path / "source", [first, second]))
    with pytest.raises(InputError, match=r"column 'score' holds .* in row 1, which is no"):
        survey(open_source(folder, keep=["score"]), "train", tmp_path / "s")


def test_fields_of_a_tar_may_be_missing_and_whole_numbers_among_fractions(tmp_path: Path) -> None:
    folder = str(_scored(tmp_path / "source", [0.5, 1, None, -2]))
    found = survey(open_source(folder, keep=["score"]), "train", tmp_path / "s")
    assert len(found) == 4


def _scored(folder: Path, scores: Sequence[object]) -> Path:
    samples = [
        {"png": png(k), "cls": b"0", "json": json.dumps({"score": score}).encode()}
        for k, score in enumerate(scores)
    ]
    write_tar(folder / "train-0.tar", samples)
    return folder


def test_a_split_without_rows_is_refused(look: Callable[..., Survey]) -> None:
    with pytest.raises(InputError, match=r"'train' of .* has no rows"):
        look([], [])


def test_where_every_row_is_bad_there_is_no_size(look: Callable[..., Survey]) -> None:
    found = look([b"junk", None], [0, 1])
    assert [row for row, _ in found.bad] == [0, 1]
    for ask in (found.one_shape, found.common_short_side, found.bytes_per_row):
        with pytest.raises(InputError, match="none of the 2 rows can be released"):
            ask()
