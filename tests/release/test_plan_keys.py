"""What is made from other columns of the same files is made anew."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from clean_data import Run

from release.plan import ReleasePlan


@pytest.fixture
def plan(run: Run, small: Path, tmp_path: Path) -> ReleasePlan:
    work = tmp_path / "work"
    told = run("plan", small, "--to", tmp_path / "out", "--workdir", work, "--method", "tap")
    assert told.exit_code == 0, told.output
    return ReleasePlan.load(work / "plan.json")


def test_other_labels_or_images_of_the_same_files_are_other_rows(plan: ReleasePlan) -> None:
    """A gate would else judge trainings on labels that nobody asked for."""
    changes = {"label_column": "coarse", "image_column": "thumb", "class_names": ["a", "b"]}
    for name, value in changes.items():
        other = replace(plan, source=plan.source | {name: value})
        assert other.cache_key() != plan.cache_key()
        assert other.fit_key() != plan.fit_key()
        for spec in plan.trials():
            assert other.trial_key(spec) != plan.trial_key(spec)


def test_what_is_published_beside_them_changes_nothing_that_was_learnt(plan: ReleasePlan) -> None:
    other = replace(plan, source=plan.source | {"kept": {"age": {}}, "license": "mit"})
    assert (other.cache_key(), other.fit_key()) == (plan.cache_key(), plan.fit_key())


def test_a_test_split_of_elsewhere_is_told_by_its_columns_too(plan: ReleasePlan) -> None:
    tested = replace(plan, test_source=plan.source)
    other = replace(plan, test_source=plan.source | {"label_column": "coarse"})
    assert other.cache_key() != tested.cache_key()


def test_what_is_published_says_which_weights_not_where_they_lie(
    plan: ReleasePlan, tmp_path: Path
) -> None:
    (tmp_path / "w.pt").write_bytes(b"weights")
    tried = replace(plan, countermeasures=["none", f"finetune:weights={tmp_path / 'w.pt'}"])
    content = hashlib.sha256(b"weights").hexdigest()[:8]
    published = tried.public_view()["countermeasures"]
    assert published == ["none", f"finetune:weights=w.pt@{content}"]
