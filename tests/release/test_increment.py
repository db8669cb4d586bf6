"""A dataset grows: the same push protects and adds only the rows that are new since."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clean_data import Run, write_split

from release import increment
from release.errors import InputError
from release.options import ReleaseOptions

FIRST, ADDED, TEST = 64, 24, 40


@dataclass(frozen=True)
class Grown:
    """A source that grew between two pushes: what each said, and the files after the first."""

    source: Path
    target: Path
    arguments: tuple[object, ...]
    first: dict[str, Any]
    second: dict[str, Any]
    before: dict[str, bytes]


def _write(folder: Path, digits: tuple[np.ndarray, np.ndarray], rows: np.ndarray) -> None:
    """The train split of these digits, cut into two files."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    for number, part in enumerate(np.array_split(rows, 2)):
        write_split(folder / f"data/train-{number}.parquet", pixels[part], labels[part])


def _source(folder: Path, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A clean dataset of the first rows."""
    pixels, labels = (values[digits[1] < 4] for values in digits)
    test = slice(400, 400 + TEST)
    write_split(folder / "data/test-0.parquet", pixels[test], labels[test])
    _write(folder, digits, np.arange(FIRST))
    return folder


def _arguments(source: Path, target: Path, quick: tuple[str, ...]) -> tuple[object, ...]:
    settings = ("--victim-epochs", "1", "--max-accuracy", "1", "--victim", "vgg-w16")
    settings += ("--workers", "1")
    formats = ("--format", "parquet,webdataset", "--license", "mit")
    workdir = target.with_name(f"{target.name}-work")
    return ("push", source, "--to", target, "--workdir", workdir, *quick, *settings, *formats)


def _files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def grown(
    run: Run,
    digits: tuple[np.ndarray, np.ndarray],
    quick: tuple[str, ...],
    tmp_path_factory: pytest.TempPathFactory,
) -> Grown:
    home = tmp_path_factory.mktemp("grown")
    source, target = _source(home / "clean", digits), home / "release"
    arguments = _arguments(source, target, quick)
    first = run(*arguments, "--json")
    assert first.exit_code == 0, first.stderr
    before = _files(target)
    # Cut anew and mixed: where a row stands must not matter.
    order = np.random.default_rng(0).permutation(FIRST + ADDED)
    _write(source, digits, order)
    second = run(*arguments, "--incremental-method", "sep-fa-mi", "--verify-rows", "40", "--json")
    assert second.exit_code == 0, second.stderr
    told = (json.loads(first.stdout), json.loads(second.stdout))
    return Grown(source, target, arguments, *told, before)


def _load(folder: Path, **more: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), split="train", **more)


def test_only_new_rows_are_added(grown: Grown) -> None:
    assert (grown.first["release"], grown.first["rows"]) == ("r0001", FIRST)
    assert (grown.second["release"], grown.second["rows"]) == ("r0002", ADDED)
    assert grown.second["changed"]
    assert len(_load(grown.target)) == FIRST + ADDED


def test_what_was_published_stays_as_it_is(grown: Grown) -> None:
    after = _files(grown.target)
    changed = {path for path, data in grown.before.items() if after.get(path) != data}
    assert changed == {"README.md"}
    added = {path.split("/")[0] for path in set(after) - set(grown.before)}
    assert added == {"data", "webdataset", "releases", "reports"}


def test_each_row_is_released_once(grown: Grown) -> None:
    """Every clean image has exactly one protected twin within the budget."""
    clean = np.stack([np.asarray(row["image"]) for row in _load(grown.source)]).astype(int)
    released = np.stack([np.asarray(row["image"]) for row in _load(grown.target)]).astype(int)
    near = np.abs(clean[:, None] - released[None]).max(axis=(2, 3)) <= 8
    assert near.sum(0).tolist() == near.sum(1).tolist() == [1] * (FIRST + ADDED)
    labels = np.array(_load(grown.source)["label"])[near.argmax(0)]
    assert _load(grown.target)["label"] == labels.tolist()
    assert near[:, :FIRST].any(1).sum() == FIRST


def test_the_union_and_the_new_rows_alone_are_verified(grown: Grown) -> None:
    trained = {trial["rows"] for trial in grown.second["trials"]}
    assert trained == {"release", "new"}
    report = json.loads((grown.target / "reports/r0002/report.json").read_text())
    assert report["sample"] == {"old": 40, "published": FIRST, "new": ADDED}
    sizes = {t["spec"]["rows"]: t["train_rows"] for t in report["trainings"]}
    assert sizes == {"release": 40 + ADDED, "new": ADDED}
    card = (grown.target / "README.md").read_text()
    assert "r0002" in card
    assert "new rows alone" in card


def test_the_grown_dataset_is_whole(run: Run, grown: Grown) -> None:
    result = run("check", grown.target, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert (told["releases"], told["rows"]) == (2, FIRST + ADDED)


def test_status_shows_the_releases(run: Run, grown: Grown) -> None:
    result = run("status", grown.target, "--json")
    told = json.loads(result.stdout)
    assert [(r["release"], r["rows"], r["total"]) for r in told] == [
        ("r0001", FIRST, FIRST),
        ("r0002", ADDED, FIRST + ADDED),
    ]
    assert "r0002" in run("status", grown.target).stdout


@pytest.mark.slow
def test_a_dry_run_knows_that_the_state_is_kept(
    run: Run, grown: Grown, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    source = _source(tmp_path / "clean", digits)
    _write(source, digits, np.arange(FIRST + ADDED + 8))
    _, _, _, target, _, _, *settings = grown.arguments
    asked = ("--to", target, "--workdir", tmp_path / "work", *settings, "--dry-run", "--json")
    result = run("push", source, *asked, "--incremental-method", "sep-fa-mi")
    assert result.exit_code == 0, result.stderr
    expected = json.loads(result.stdout)
    assert (expected["rows"], expected["seconds"]["fit"]) == (8, 0)


def test_tars_hold_the_same_rows(grown: Grown) -> None:
    from release.shards import read_shard

    parquet = [r for p in sorted(grown.target.glob("data/train/*")) for r in read_shard(p)]
    tars = [r for p in sorted(grown.target.glob("webdataset/train/*")) for r in read_shard(p)]
    assert [(r.row, r.key, r.image, r.label) for r in parquet] == [
        (r.row, r.key, r.image, r.label) for r in tars
    ]
    assert [r.row for r in parquet] == list(range(FIRST + ADDED))


def test_nothing_new_changes_nothing(run: Run, grown: Grown) -> None:
    before = _files(grown.target)
    result = run(*grown.arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"changed": False}
    assert _files(grown.target) == before


def test_no_secret_is_published(grown: Grown) -> None:
    workdir = grown.target.with_name("release-work")
    plan = json.loads((workdir / "plan.json").read_text())
    needles = [plan["seed"], plan["source"]["pin"], str(grown.source), str(workdir), plan["state"]]
    tensors = [path.read_bytes() for path in sorted(workdir.glob("state/*/*.safetensors"))]
    assert len(tensors) >= 3
    needles += [hashlib.sha256(data).hexdigest() for data in tensors]
    secrets = [text.encode() for text in needles] + [data[-64:] for data in tensors]
    for path, data in _files(grown.target).items():
        assert not [secret for secret in secrets if secret in data], path


def _copied(grown: Grown, tmp_path: Path) -> tuple[Path, list[object]]:
    """A source of one's own to change, pushed to the same target."""
    source = Path(shutil.copytree(grown.source, tmp_path / "clean"))
    return source, ["push", source, *grown.arguments[2:]]


def test_a_new_class_is_refused_by_name(run: Run, grown: Grown, tmp_path: Path) -> None:
    from datasets import ClassLabel, load_dataset

    source, arguments = _copied(grown, tmp_path)
    for path in sorted(source.glob("data/*.parquet")):
        data = load_dataset("parquet", data_files=str(path), split="train")
        names = [*data.features["label"].names, "zebra"]
        data = data.cast_column("label", ClassLabel(names=names))
        data.to_parquet(path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert "'zebra'" in result.stderr


def test_removed_rows_are_named_and_stay(run: Run, grown: Grown, tmp_path: Path) -> None:
    source, arguments = _copied(grown, tmp_path)
    (source / "data/train-1.parquet").unlink()
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout) == {"changed": False}
    assert f"{(FIRST + ADDED) // 2} published rows are no longer in the source" in result.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("--method", "tap"), "--incremental-method tap"),
        (("--seed", "7"), "is not the seed"),
        (("--format", "parquet"), "leave --format out"),
        (("--incremental-method", "nonsense"), "no method is called"),
    ],
)
def test_what_would_protect_public_rows_again_is_refused(
    run: Run, grown: Grown, changes: tuple[str, ...], says: str
) -> None:
    result = run(*grown.arguments, *changes)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_lost_state_is_said_before_any_work(
    run: Run, grown: Grown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(*grown.arguments, "--state", tmp_path / "elsewhere")
    assert result.exit_code == 2
    assert "state" in result.stderr
    monkeypatch.setenv("PROTECT_RELEASE_KEY", "another key than the one that was used")
    result = run(*grown.arguments)
    assert result.exit_code == 2
    assert "PROTECT_RELEASE_KEY" in result.stderr


def _add_rows(source: Path, digits: tuple[np.ndarray, np.ndarray], rows: slice) -> None:
    pixels, labels = (values[digits[1] < 4] for values in digits)
    write_split(source / f"data/train-{rows.start}.parquet", pixels[rows], labels[rows])


def test_a_damaged_file_that_is_mended_where_it_lies_is_read_anew(
    run: Run, grown: Grown, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    source, arguments = _copied(grown, tmp_path)
    asked = ("plan", *arguments[1:], "--workdir", tmp_path / "work", "--max-bad", "1%")
    _add_rows(source, digits, slice(240, 250))
    path = source / "data/train-240.parquet"
    whole = path.read_bytes()
    _damage(path)
    damaged = run(*asked)
    assert damaged.exit_code == 4
    assert f"1 of {FIRST + ADDED + 10} rows" in damaged.stderr
    assert "row 9 of data/train-240.parquet" in damaged.stderr
    path.write_bytes(whole)
    mended = run(*asked, "--json")
    assert mended.exit_code == 0, mended.stderr
    assert json.loads(mended.stdout)["num_rows"] == 10


def _damage(path: Path) -> None:
    """The last image of a Parquet file can no longer be decoded."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[-1]["image"]["bytes"] = rows[-1]["image"]["bytes"][:60]
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), path)


@pytest.mark.slow
def test_a_default_method_that_does_not_hold_gives_way_to_the_datasets_own(
    run: Run, grown: Grown, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    source, arguments = _copied(grown, tmp_path)
    _add_rows(source, digits, slice(200, 216))
    before = _files(grown.target)
    result = run(*arguments, "--max-accuracy", "0")
    assert result.exit_code == 3
    assert "again, with the dataset's own method sep-fa-mi" in result.stderr
    assert "try --incremental-method alignment-online" in result.stderr
    assert _files(grown.target) == before
    crafted = [plan_of(path) for path in (grown.target.with_name("release-work"),)]
    assert [plan["method"] for plan in crafted] == ["sep-fa-mi"]


def plan_of(workdir: Path) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((workdir / "plan.json").read_text())
    return plan


def test_steps_follow_the_share_that_fit_was_given(grown: Grown) -> None:
    """Fit has at least two rows of each class, whatever share is asked for, and steps by these."""
    plan = plan_of(grown.target.with_name("release-work"))
    assert plan["fit_share"] == plan["fit_rows"] / (FIRST + ADDED)


def test_the_datasets_own_method_is_not_fitted_anew(
    run: Run, grown: Grown, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    source, arguments = _copied(grown, tmp_path)
    _add_rows(source, digits, slice(220, 230))
    own = ("--incremental-method", "sep-fa-mi")
    result = run(*arguments, *own, "--incremental-set", "checkpoints=3")
    assert result.exit_code == 2
    assert "holds nothing for sep-fa-mi" in result.stderr


def test_victims_train_on_the_very_dataset_that_is_added_to(grown: Grown) -> None:
    """Two datasets made in one WORKDIR from the same rows share no victim of the rows before."""
    from release.plan import ReleasePlan

    plan = ReleasePlan.load(grown.target.with_name("release-work") / "plan.json")
    assert plan.is_increment
    other = replace(plan, previous="0" * 64)
    assert other.old_key() != plan.old_key()
    assert other.protected_key() != plan.protected_key()
    for spec in plan.trials():
        same = other.trial_key(spec) == plan.trial_key(spec)
        assert same == (spec.data == "clean")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "budget"), [("ops", "l0:1"), ("lsp", "l2:1.304")])
def test_new_rows_get_the_datasets_own_method_where_the_default_cannot_work(
    method: str, budget: str, run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    source, work = _source(tmp_path / "clean", digits), tmp_path / "work"
    asked = (source, "--to", tmp_path / "out", "--workdir", work, "--method", method)
    asked += ("--preset", "quick", "--no-verify", "--workers", "1")
    assert run("push", *asked).exit_code == 0
    _write(source, digits, np.arange(FIRST + ADDED))
    again = run("push", *asked)
    assert again.exit_code == 0, again.stderr
    plan = json.loads((work / "plan.json").read_text())
    assert (plan["release"], plan["method"], plan["budget"]) == ("r0002", method, budget)


@pytest.mark.parametrize(
    ("method", "budget", "chosen"),
    [
        ("ops", "l0:1", "ops"),
        ("lsp", "l2:1.304", "lsp"),
        ("cuda", "unbounded", "cuda"),
        ("sep-fa-mi+ops", "linf:8+l0:1", "sep-fa-mi+ops"),
        ("sep-fa-mi", "linf:8", increment.DEFAULT_INCREMENTAL),
    ],
)
def test_the_method_for_new_rows_works_within_the_datasets_budget(
    method: str, budget: str, chosen: str
) -> None:
    first: Any = SimpleNamespace(method=method, budget=budget, plan={"preset": "quick"})
    assert increment.method_for_new_rows(first, ReleaseOptions(source="s")) == chosen
    named = ReleaseOptions(source="s", incremental_method="random-noise")
    assert increment.method_for_new_rows(first, named) == "random-noise"


def test_where_neither_method_can_protect_new_rows_one_has_to_be_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first: Any = SimpleNamespace(method="ops", budget="l0:1", plan={"preset": "quick"})
    monkeypatch.setattr(increment, "_serves_new_rows", lambda name: False)
    with pytest.raises(InputError, match="name an --incremental-method with its --budget"):
        increment.method_for_new_rows(first, ReleaseOptions(source="s"))
