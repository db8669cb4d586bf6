"""The ledger tells old rows from new and removed ones, each as often as it is there."""

from __future__ import annotations

import hashlib
import hmac
import io
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from release.errors import StorageError
from release.ledger import PICTURE, Ledger, LedgerEntry, Noise, Released, marks

KEY = b"k" * 32


def _marks(letters: str) -> np.ndarray:
    """One mark for each letter, in which equal letters have equal marks."""
    digests = [hashlib.sha256(letter.encode()).digest() for letter in letters]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


def _ledger(*releases: str) -> Ledger:
    """Releases of these letters, each row numbered by its place in all of them."""
    first_rows = np.cumsum([0, *map(len, releases)])
    return Ledger(
        [LedgerEntry.of(int(row), _marks(r)) for row, r in zip(first_rows, releases, strict=False)]
    )


def test_rows_are_told_apart_wherever_they_stand() -> None:
    compared = _ledger("abc", "de").compare(_marks("xeabd"))
    assert compared.old.tolist() == [[1, 4], [2, 0], [3, 1], [4, 3]]
    assert compared.new.tolist() == [0]
    assert compared.removed.tolist() == [2]


def test_equal_rows_are_counted() -> None:
    compared = _ledger("aa", "ab").compare(_marks("bbaa"))
    assert compared.old.tolist() == [[0, 3], [2, 0], [3, 1]]
    assert compared.new.tolist() == [1]
    assert compared.removed.tolist() == [2]


letters = st.text("abcdef", max_size=30)


@given(letters, letters, letters)
def test_every_row_is_old_new_or_removed_as_often_as_counting_says(
    source: str, first: str, second: str
) -> None:
    released = first + second
    compared = _ledger(first, second).compare(_marks(source))
    places, rows = compared.old[:, 0].tolist(), compared.old[:, 1].tolist()
    have, had = Counter(source), Counter(released)
    assert Counter(source[at] for at in places) == have & had
    assert [source[at] for at in places] == [released[row] for row in rows]
    assert Counter(source[at] for at in compared.new) == have - had
    assert Counter(released[row] for row in compared.removed) == had - have
    assert sorted([*places, *compared.new]) == list(range(len(source)))
    assert sorted([*rows, *compared.removed]) == list(range(len(released)))
    assert places == sorted(places)
    assert list(compared.new) == sorted(compared.new)
    assert list(compared.removed) == sorted(compared.removed)


@given(letters, letters)
def test_the_first_of_equal_rows_are_the_old_ones(source: str, released: str) -> None:
    compared = _ledger(released).compare(_marks(source))
    for letter in set(source):
        old = [(at, row) for at, row in compared.old.tolist() if source[at] == letter]
        assert old == sorted(old)
        assert [row for _, row in old] == sorted(row for _, row in old)
        assert all(at < new for at, _ in old for new in compared.new if source[new] == letter)


def test_marks_that_differ_in_one_byte_are_different() -> None:
    pair = np.zeros((2, 32), np.uint8)
    for place in range(32):
        pair[1] = 0
        pair[1, place] = 1
        compared = Ledger([LedgerEntry.of(0, pair[1:])]).compare(pair)
        assert compared.old.tolist() == [[1, 0]]
        assert compared.new.tolist() == [0]


def test_a_mark_is_a_keyed_digest_of_the_rows_digest() -> None:
    digests = np.random.default_rng(0).integers(0, 256, (3, 32), dtype=np.uint8)
    made = marks(KEY, digests)
    expected = [hmac.new(KEY, row.tobytes(), hashlib.sha256).digest() for row in digests]
    assert [mark.tobytes() for mark in made] == expected
    assert made.shape == (3, 32)
    assert not np.array_equal(made, marks(b"l" * 32, digests))
    assert marks(KEY, digests[:0]).shape == (0, 32)
    assert bytes(marks(KEY, digests[:, :16])[1]) == hmac.digest(
        KEY, bytes(digests[1, :16]), "sha256"
    )


@given(st.lists(st.integers(0, 2**40), max_size=20))
def test_an_entry_reads_back(rows: list[int]) -> None:
    made = LedgerEntry(np.array(rows, np.int64), _marks("abcdefghijklmnopqrst"[: len(rows)]))
    read = LedgerEntry.from_bytes(made.to_bytes(), "entry")
    assert read.rows.tolist() == rows
    assert read.rows.dtype == np.int64
    assert np.array_equal(read.marks, made.marks)


def test_an_entry_says_what_made_its_noise_and_what_it_left_out() -> None:
    pictures = _marks("abc")[:, :PICTURE]
    made = LedgerEntry.of(5, _marks("xyz"), pictures, Noise("tap", "k1"), [6])
    read = LedgerEntry.from_bytes(made.to_bytes(), "entry")
    assert (read.noise, list(read.left_out)) == (Noise("tap", "k1"), [6])
    assert np.array_equal(read.pictures, pictures)
    released = read.released()
    assert released.rows.tolist() == [5, 7]
    assert np.array_equal(released.marks, made.marks[[0, 2]])
    assert np.array_equal(released.pictures, pictures[[0, 2]])
    assert released.noise == read.noise


def test_an_entry_of_an_earlier_version_reads_back() -> None:
    """It had the steps between rows and the marks, and nothing more."""
    buffer, steps = io.BytesIO(), np.array([4, 1], "<i8")
    np.save(buffer, np.frombuffer(zlib.compress(steps.tobytes()), np.uint8))
    np.save(buffer, _marks("ab"))
    read = LedgerEntry.from_bytes(buffer.getvalue(), "entry")
    assert read.rows.tolist() == read.released().rows.tolist() == [4, 5]
    assert np.array_equal(read.marks, _marks("ab"))
    assert (read.noise, read.pictures, list(read.left_out)) == (None, None, [])


def test_released_rows_are_found_by_their_marks() -> None:
    found = Released(np.array([7, 8, 9]), _marks("bab"))
    assert found.rows(_marks("abx")).tolist() == [8, 7, -1]
    assert Released(np.empty(0, np.int64), _marks("")).rows(_marks("ab")).tolist() == [-1, -1]


def test_an_entry_of_many_rows_is_its_marks_and_hardly_more() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200_000, 48), dtype=np.uint8)
    data = LedgerEntry.of(7, noise[:, :32], noise[:, 32:], Noise("tap", "k1")).to_bytes()
    assert len(data) < 200_000 * 48 + 4096
    assert LedgerEntry.from_bytes(data, "entry").rows[[0, -1]].tolist() == [7, 200_006]


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_damaged_entry_is_named(cut: int) -> None:
    data = LedgerEntry.of(0, _marks("ab")).to_bytes()
    with pytest.raises(StorageError, match="over/there holds no ledger entry"):
        LedgerEntry.from_bytes(data[:cut], "over/there")


def test_rows_and_marks_go_together() -> None:
    with pytest.raises(ValueError, match="3"):
        LedgerEntry(np.arange(3), _marks("ab"))
