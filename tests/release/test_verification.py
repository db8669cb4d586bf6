"""`verify RELEASE`: what victims learn from something that is published already."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from clean_data import Run, write_split
from datasets import ClassLabel, load_dataset
from hub_source import CHEAP, Digits, of_four
from PIL import Image
from verifying import FAST, ROWS, TESTED, verify

from crafting.batch import PixelSplit
from evaluation.report import SCHEMA
from release.terminal import Terminal
from release.verification.options import VerifyOptions
from release.verification.plan import VerificationPlan
from release.verification.resolve import resolve
from release.workdir import Workdir


@dataclass(frozen=True)
class Given:
    """A clean dataset, a release of it, and a verification that ran out of time before another
    finished it and published."""

    clean: Path
    release: Path
    workdir: Path
    out: Path
    hurried: dict[str, Any]
    told: dict[str, Any]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, digits: Digits) -> Path:
    pixels, labels = of_four(digits)
    folder = tmp_path_factory.mktemp("originals")
    write_split(folder / "data/train-0.parquet", pixels[:ROWS], labels[:ROWS])
    tests = slice(ROWS, ROWS + TESTED)
    write_split(folder / "data/test-0.parquet", pixels[tests], labels[tests])
    return folder


@pytest.fixture(scope="module")
def given(run: Run, clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    home = tmp_path_factory.mktemp("verified")
    release, workdir, out = home / "release", home / "work", home / "report"
    pushed = run("push", clean, "--to", release, "--workdir", home / "push", *CHEAP)
    assert pushed.exit_code == 0, pushed.output
    asked = (
        *(release, "--clean", clean, "--workdir", workdir, "--out", out, *FAST),
        *("--countermeasure", "none", "--countermeasure", "renamed", "--analysis", "csd"),
        *("--delivered-as", "jpeg:90"),
    )
    hurried = verify(run, *asked, "--budget-minutes", "0")  # which makes one training in any case
    told = verify(run, *asked, "--publish")
    return Given(clean, release, workdir, out, hurried, told)


def test_what_tells_most_comes_first_and_the_rest_is_named(given: Given) -> None:
    assert given.hurried["left_out"] >= 2
    assert [trial["countermeasure"] for trial in given.hurried["trials"]] == ["none"]
    assert "left-out" in given.hurried["flags"]


def test_the_rest_is_made_when_it_is_run_again(given: Given) -> None:
    told, tried = given.told, ["none", "renamed"]
    assert (told["left_out"], [t["countermeasure"] for t in told["trials"]]) == (0, tried)
    assert told["trials"][0] | {"clean": None} == given.hurried["trials"][0] | {"clean": None}
    assert all(0 <= trial["clean"] <= 1 for trial in told["trials"])
    assert (told["rows"], told["delivered_as"]) == (ROWS, "jpeg:90")
    assert told["analyses"]["csd"]["noise"] > 0


def test_an_analysis_is_made_however_little_time_there_is(run: Run, given: Given) -> None:
    """Or whoever runs the same command again would never get on."""
    asked = (
        *(given.release, "--clean", given.clean, "--workdir", given.workdir, *FAST),
        *("--countermeasure", "none", "--countermeasure", "renamed", "--delivered-as", "jpeg:90"),
        *("--analysis", "visibility", "--analysis", "randomness", "--budget-minutes", "0"),
    )
    told = verify(run, *asked)
    assert list(told["analyses"]) == ["visibility"]
    assert told["left_out"] == 1
    assert "left-out" in told["flags"]


def test_the_report_fits_its_schema_and_says_where_it_is_from(given: Given) -> None:
    report = json.loads((given.out / "report.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)
    assert report["name"] == "release"
    assert report["delivered_as"] == "jpeg:90"
    assert report["class_names"] == ["none", "one", "two", "3"]
    assert [found["analysis"] for found in report["analyses"]] == ["csd"]
    assert report["visibility"]["max_level"] == 8
    assert report["release"]["method"] == "random-noise"
    assert report["release"]["released_rows"] == ROWS


def test_no_path_and_no_clean_pixel_is_in_what_everybody_reads(given: Given) -> None:
    page = (given.out / "report.html").read_text()
    report = (given.out / "report.json").read_text()
    assert str(given.release.parent) not in page + report
    assert str(given.clean) not in page + report
    private = given.workdir / "private/report.html"
    assert private.stat().st_mode & 0o077 == 0
    assert "for the owner alone" in private.read_text()
    assert "for the owner alone" not in page


def test_the_report_is_added_to_the_release_which_stays_whole(run: Run, given: Given) -> None:
    (folder,) = (given.release / "reports").glob("verified-*")
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html", "images.png"}
    card = (given.release / "README.md").read_text()
    assert card.count("## Verified again") == 1
    assert f"reports/{folder.name}/report.html" in card
    assert run("check", given.release).exit_code == 0


def published(release: Path) -> dict[str, bytes]:
    """Every report of verifications that readers find, and the card."""
    paths = [release / "README.md", *(release / "reports").glob("verified-*/*")]
    return {str(path.relative_to(release)): path.read_bytes() for path in paths}


def test_publishing_twice_on_a_day_changes_nothing(run: Run, given: Given, tmp_path: Path) -> None:
    before, linked = published(given.release), tmp_path / "README.md"
    linked.hardlink_to(given.release / "README.md")
    written = linked.stat().st_mtime_ns
    verify(
        run,
        *(given.release, "--clean", given.clean, "--workdir", given.workdir, *FAST, "--publish"),
        *("--countermeasure", "none", "--countermeasure", "renamed", "--analysis", "csd"),
        *("--delivered-as", "jpeg:90"),
    )
    assert (published(given.release), linked.stat().st_mtime_ns) == (before, written)


def test_findings_kept_when_they_could_be_nan_are_reported(run: Run, given: Given) -> None:
    kept = {path: path.read_text() for path in (given.workdir / "trials").glob("analysis-*.json")}
    for path, before in kept.items():
        path.write_text(json.dumps(json.loads(before) | {"figures": {"noise": float("nan")}}))
    asked = ("--clean", given.clean, "--workdir", given.workdir, "--delivered-as", "jpeg:90")
    told = verify(
        run, given.release, *asked, *FAST, "--countermeasure", "none", "--analysis", "csd"
    )
    for path, before in kept.items():
        path.write_text(before)
    assert told["analyses"] == {"csd": {"noise": None}}


@pytest.mark.slow
def test_another_verification_on_the_same_day_stands_beside_the_first(
    run: Run, given: Given, tmp_path: Path
) -> None:
    release = Path(shutil.copytree(given.release, tmp_path / "release"))
    before = published(release)
    asked = (release, "--clean", given.clean, "--workdir", tmp_path / "work", *FAST)
    verify(run, *asked, "--countermeasure", "none", "--publish")
    after = published(release)
    card, old = after.pop("README.md").decode(), before.pop("README.md").decode()
    assert after.items() > before.items()
    added = {Path(path).parent.name for path in after.keys() - before.keys()}
    assert len(added) == 1
    assert [line for line in old.splitlines() if line not in card.splitlines()] == []
    assert f"reports/{added.pop()}/report.html" in card


@pytest.mark.slow
def test_images_that_were_resized_are_not_compared_with_the_clean_ones(
    run: Run, clean: Path, digits: Digits, tmp_path: Path
) -> None:
    pixels, labels = of_four(digits)
    larger = pixels[:ROWS].repeat(2, axis=1).repeat(2, axis=2)
    write_split(tmp_path / "resized/data/train-0.parquet", larger, labels[:ROWS])
    asked = ("--clean", clean, "--countermeasure", "none", "--workdir", tmp_path / "work")
    verify(run, tmp_path / "resized", *asked, *FAST)
    assert (tmp_path / "work/report/images.png").exists()
    assert not (tmp_path / "work/private/compared.png").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--victim", "vgg-w61"], "vgg-w16"),
        (["--countermeasure", "jpg"], "did you mean jpeg"),
        (["--countermeasure", "jpeg:qality=3"], "did you mean quality"),
        (["--analysis", "cds"], "did you mean csd"),
        (["--delivered-as", "resise:3"], "did you mean resize"),
        (["--split", "validation"], "no split 'validation'"),
        (["--test-split", "tset"], "no split 'tset'"),
        (["--preset", "fast"], "paper or quick"),
        (["--label-column", "class"], "class"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_not_known_is_refused(
    run: Run, given: Given, tmp_path: Path, options: list[str], says: str
) -> None:
    asked = (given.release, "--clean", given.clean, "--workdir", tmp_path)
    assert says in verify(run, *asked, *options, code=2)


def test_without_clean_test_rows_nothing_can_be_scored(
    run: Run, given: Given, tmp_path: Path
) -> None:
    line = verify(run, given.release, "--workdir", tmp_path, code=2)
    assert "no clean test split to score victims on: give the clean dataset with --clean" in line


def test_other_labels_than_the_clean_ones_are_refused(
    run: Run, given: Given, tmp_path: Path, digits: Digits
) -> None:
    pixels, labels = of_four(digits)
    other = labels[:ROWS].copy()
    other[5:] = (other[5:] + 1) % 4
    write_split(tmp_path / "other/data/train-0.parquet", pixels[:ROWS], other)
    write_split(tmp_path / "other/data/test-0.parquet", pixels[ROWS:99], labels[ROWS:99])
    asked = (given.release, "--clean", tmp_path / "other", "--workdir", tmp_path / "work")
    assert "not those of the release, first in row 5" in verify(run, *asked, code=2)


def resolved(release: Path, clean: Path, workdir: Path) -> tuple[VerificationPlan, np.ndarray]:
    """What would be verified, and each released row beside its clean one."""
    workdir.mkdir()
    options = VerifyOptions(release=str(release), clean=str(clean))
    plan = resolve(options, Workdir(workdir), Terminal())
    return plan, np.empty((0, 2)) if plan.pairs is None else Workdir(workdir).pairs(plan.pairs)


def clean_rows(folder: Path, digits: Digits, rows: np.ndarray) -> Path:
    """A clean dataset of these digits, with the test split that all have."""
    pixels, labels = of_four(digits)
    write_split(folder / "data/train-0.parquet", pixels[rows], labels[rows])
    write_split(folder / "data/test-0.parquet", pixels[ROWS:99], labels[ROWS:99])
    return folder


def test_clean_rows_in_another_order_some_new_and_some_gone_are_told_apart(
    run: Run, given: Given, tmp_path: Path, digits: Digits
) -> None:
    """As those of a folder that images were added to, and taken from."""
    order = np.random.default_rng(0).permutation([*range(2, ROWS), *range(200, 220)])
    clean = clean_rows(tmp_path / "clean", digits, order)
    asked = (given.release, "--clean", clean, "--workdir", tmp_path / "work", *FAST)
    result = run("verify", *asked, "--countermeasure", "none", "--analysis", "visibility")
    assert "no clean image of 2 of 64 released rows: victims train on the others" in result.stderr
    told = json.loads(result.stdout)
    assert result.exit_code == (0 if told["holds"] else 3)
    assert told["rows"] == ROWS - 2
    assert told["trials"][0]["clean"] is not None
    report = json.loads((tmp_path / "work/report/report.json").read_text())
    assert (report["visibility"]["rows"], report["visibility"]["max_level"]) == (ROWS - 2, 8)
    cached = {part: PixelSplit.load(folder) for part, folder in parts(tmp_path / "work").items()}
    apart = cached["protected"].pixels.astype(int) - cached["clean"].pixels
    assert np.abs(apart).max() <= 8
    assert (cached["protected"].rows == cached["clean"].rows).all()
    assert (cached["protected"].targets == cached["clean"].targets).all()


def parts(workdir: Path) -> dict[str, Path]:
    """The rows that victims train on, by what they are."""
    return {folder.name: folder for folder in workdir.glob("cache/*/*")}


@pytest.mark.slow
def test_a_folder_of_images_that_grew_is_still_the_one_that_was_released(
    run: Run, digits: Digits, tmp_path: Path
) -> None:
    """New files come between the old ones in it, and after them in the release."""
    pixels, labels = of_four(digits)

    def put(split: str, rows: range) -> None:
        for row in rows:
            path = tmp_path / f"clean/{split}/{labels[row]}/{row:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[row]).save(path)

    release, push = tmp_path / "release", tmp_path / "push"
    put("test", range(ROWS, 99))
    for until in (40, 50):
        put("train", range(until))
        asked = ("--to", release, "--workdir", push, "--incremental-method", "random-noise")
        pushed = run("push", tmp_path / "clean", *asked, *CHEAP)
        assert pushed.exit_code == 0, pushed.output
    plan, pairs = resolved(release, tmp_path / "clean", tmp_path / "work")
    assert plan.rows == len(pairs) == 50
    assert sorted(pairs[:, 1]) == list(range(50))
    assert pairs[:, 1].tolist() != list(range(50))


def test_with_few_of_its_clean_rows_a_release_is_verified_without_twins(
    given: Given, tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    clean = clean_rows(tmp_path / "clean", digits, np.r_[20:ROWS])
    plan, _ = resolved(given.release, clean, tmp_path / "work")
    assert (plan.clean, plan.pairs, plan.rows, plan.test_split) == (None, None, ROWS, "test")
    assert "has the clean images of only 44 of 64 released rows" in capsys.readouterr().err


def test_other_images_of_the_same_labels_are_refused(
    run: Run, given: Given, tmp_path: Path, digits: Digits
) -> None:
    pixels, labels = of_four(digits)
    other = np.roll(pixels[:ROWS], 9, axis=2)
    write_split(tmp_path / "other/data/train-0.parquet", other, labels[:ROWS])
    write_split(tmp_path / "other/data/test-0.parquet", pixels[ROWS:99], labels[ROWS:99])
    asked = (given.release, "--clean", tmp_path / "other", "--workdir", tmp_path / "work")
    line = verify(run, *asked, code=2)
    assert "are not those of the release (it has 0 of 64): give the dataset" in line


def test_other_classes_to_score_on_are_refused(
    run: Run, given: Given, clean: Path, tmp_path: Path
) -> None:
    """Scored by other names, a victim that learnt everything would seem to have learnt nothing."""
    exam = load_dataset("parquet", data_files=str(clean / "data/test-0.parquet"), split="train")
    swapped = ClassLabel(names=["one", "none", "two", "3"])
    (tmp_path / "exam/data").mkdir(parents=True)
    exam.cast_column("label", swapped).to_parquet(tmp_path / "exam/data/test-0.parquet")
    said = verify(run, given.release, "--clean", tmp_path / "exam", *FAST, code=2)
    assert "are not those of the release" in said


def test_a_clean_test_split_alone_scores_victims_without_twins(
    run: Run, given: Given, clean: Path, tmp_path: Path
) -> None:
    (tmp_path / "exam/data").mkdir(parents=True)
    shutil.copy(clean / "data/test-0.parquet", tmp_path / "exam/data/test-0.parquet")
    asked = (given.release, "--clean", tmp_path / "exam", "--workdir", tmp_path / "work", *FAST)
    told = verify(run, *asked, "--countermeasure", "none")
    line = verify(run, *asked, "--countermeasure", "none", "--max-accuracy", "0", code=3)
    assert "does not hold: a vgg-w16 trained on" in line
    assert told["trials"][0]["clean"] is None


def test_rows_that_victims_train_on_do_not_score_them(run: Run, given: Given, clean: Path) -> None:
    asked = (given.release, "--clean", clean, *FAST, "--test-split", "train")
    assert "is the split that victims train on" in verify(run, *asked, code=2)


def test_fewer_clean_rows_than_released_ones_are_refused(
    run: Run, given: Given, tmp_path: Path, digits: Digits
) -> None:
    pixels, labels = of_four(digits)
    write_split(tmp_path / "few/data/train-0.parquet", pixels[:20], labels[:20])
    write_split(tmp_path / "few/data/test-0.parquet", pixels[ROWS:99], labels[ROWS:99])
    asked = (given.release, "--clean", tmp_path / "few", "--workdir", tmp_path / "work")
    assert "has 20 rows and the release 64" in verify(run, *asked, code=2)


def test_a_corrupt_shard_of_ours_is_told_apart(run: Run, given: Given, tmp_path: Path) -> None:
    import shutil

    spoilt = tmp_path / "spoilt"
    shutil.copytree(given.release, spoilt)
    (shard,) = spoilt.glob("data/train/*.parquet")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(bytes(content))
    line = verify(run, spoilt, "--clean", given.clean, "--workdir", tmp_path / "work", code=6)
    assert "is not the file that its manifest describes" in line


def test_nothing_is_no_release(run: Run, tmp_path: Path) -> None:
    assert "neither a folder nor a Hub id" in verify(run, tmp_path / "nothing", code=2)
    assert "verify takes a published RELEASE" in verify(run, code=2)


@pytest.fixture
def unlabelled(clean: Path, tmp_path: Path) -> Path:
    """The images of the clean dataset without their labels."""
    from datasets import load_dataset

    rows = load_dataset("parquet", data_files=str(clean / "data/train-0.parquet"), split="train")
    (tmp_path / "unlabelled/data").mkdir(parents=True)
    rows.remove_columns("label").to_parquet(tmp_path / "unlabelled/data/train-0.parquet")
    return tmp_path / "unlabelled"


@pytest.mark.slow
def test_a_release_without_labels_is_learnt_from_without_labels(
    run: Run, unlabelled: Path, clean: Path, tmp_path: Path
) -> None:
    asked = (unlabelled, "--clean", clean, "--workdir", tmp_path / "work", *FAST)
    told = verify(run, *asked)
    (trial,) = told["trials"]
    assert trial["countermeasure"] == "simclr:clean=1000"
    assert told["holds"] is not None
    assert "unlabelled-not-contrasted" not in told["flags"]
    line = verify(run, *asked, "--countermeasure", "none", code=2)
    assert "none learns from labels, and the release has no labels: drop it, or try simclr" in line
