"""A picture whose noise is out, or may be, never gets another one: of a release that waits as a
pull request, was withdrawn, or is on another branch."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run
from growing import Growing, grown, noises
from hub_source import CHEAP, SOURCE, STATE, TARGET, Digits, put_rows
from source_files import png, write_parquet_file
from typer.testing import Result

from release import increment, pipeline
from release.ledger import LedgerEntry, Noise
from release.places import Places
from release.plan import ReleasePlan
from release.transaction import publish_release
from release.vault import Vault
from release.workdir import Workdir
from tests.hub.server import Hub

OTHER = ("--incremental-method", "random-noise-class")
NEW = [70, 71]


def _refused(result: Result, *says: str) -> str:
    """What was said of rows that would have got another noise."""
    assert result.exit_code == 2, result.output
    said = " ".join(result.stderr.split())
    for text in (*says, "two noises of one picture average out"):
        assert text in said, said
    return said


@pytest.fixture
def made(run: Run, tmp_path: Path) -> Growing:
    return grown(run, tmp_path)


def _grow(made: Growing) -> dict[int, list[bytes]]:
    """A second release of two pictures; their noises."""
    for seed in NEW:
        made.add(f"a/new{seed}.png", seed)
    second = made.push()
    assert second.exit_code == 0, second.output
    return noises(made.target.glob("data/train/r0002*"), NEW)


def _withdraw(target: Path, release: str) -> None:
    """The release is deleted by hand."""
    for path in [*target.rglob(f"*{release}*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_rows_of_a_release_that_was_deleted_keep_their_noise(made: Growing) -> None:
    before = _grow(made)
    assert [len(found) for found in before.values()] == [1, 1]
    _withdraw(made.target, "r0002")
    said = _refused(made.push(*OTHER), "2 rows (first: a/new7", "random-noise since r0002")
    assert "push them with --incremental-method random-noise" in said
    assert "delete ledger/r0002-" in said
    assert not [*made.target.glob("data/train/r0002*")]
    again = made.push("--rows-per-shard", "1")
    assert again.exit_code == 0, again.output
    assert noises(made.target.glob("data/train/r0002*"), NEW) == before


@pytest.mark.slow
def test_rows_of_a_folder_that_was_deleted_keep_their_noise(made: Growing) -> None:
    clean = [row + start for start in (0, 10) for row in range(4)]
    before = noises(made.target.glob("data/train/*"), clean)
    before |= _grow(made)
    shutil.rmtree(made.target)
    _refused(made.push("--method", "lsp"), "8 rows (first: ", "--method random-noise")
    _refused(made.push("--budget", "linf:4"), "8 rows (first: ")
    _refused(made.push("--seed", "7"), "8 rows (first: ")
    assert not made.target.exists() or not [*made.target.rglob("*.parquet")]
    made.add("b/more.png", 80)
    again = made.push("--encoding", "webp", "--format", "parquet,webdataset")
    assert again.exit_code == 0, again.output
    assert noises(made.target.glob("data/train/*"), before) == before


@pytest.mark.slow
def test_a_picture_of_a_deleted_release_gets_no_other_label(made: Growing) -> None:
    _grow(made)
    _withdraw(made.target, "r0002")
    (made.source / "a/new70.png").rename(made.source / "b/moved.png")
    said = _refused(made.push(), "1 rows (first: b/moved.png)", "under another label since r0002")
    assert "give them the labels of then" in said
    _forget_pictures(made)
    _refused(made.push(), "have the noise of an earlier version of this tool since r0002")
    (made.source / "a/new71.png").unlink()
    _refused(made.push(), "an earlier version of this tool under another label since r0002")


def _forget_pictures(made: Growing) -> None:
    """The entry of the second release is as earlier versions kept it."""
    plan = ReleasePlan.load(made.source.with_name("work") / "plan.json")
    vault = pipeline.places_of(plan, _Silent()).vault  # type: ignore[arg-type]
    for kept in vault.unseen([]):
        if kept.release == "r0002":
            name = kept.place.partition(" ")[0]
            data = LedgerEntry(kept.entry.rows, kept.entry.marks).to_bytes()
            vault._store.change(vault._sealed(name, data), [], "as it was")


class _Silent:
    def line(self, text: str) -> None:
        pass


def test_another_machine_that_was_faster_is_noticed_at_the_last_moment(
    made: Growing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It kept the same row with another noise after this release was planned."""

    def overtaken(plan: ReleasePlan, workdir: Workdir, places: Places) -> str:
        survey = np.load(workdir.survey(plan.survey) / "digests.npy")
        entry = LedgerEntry.of(8, places.vault.marks(survey), None, Noise("tap", "k"))
        kept = {"seed": places.vault.seed(), "states": {}, "confirmed": True}
        Vault.keep(places.vault, release="r0002", release_id="faster", rows=entry, **kept)
        return publish_release(plan, workdir, places)

    made.add("a/new.png", 70)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "publish_release", overtaken)
        said = _refused(made.push(), "1 rows (first: row 8) have the noise of tap since r0002")
    assert "delete ledger/r0002-faster.enc" in said
    assert not [*made.target.glob("data/train/r0002*")]


def _proposed(hub: Hub, number: int) -> dict[str, bytes]:
    """The shards of a pull request."""
    repo, branch = hub.repo(TARGET), f"refs/pr/{number}"
    return {p: repo.read(branch, p) for p in repo.files(branch) if p.startswith("data/")}


def _pixels(shards: Iterable[bytes]) -> np.ndarray:
    """(N,H,W) of these Parquet files, as readers decode them."""
    import pyarrow.parquet as pq
    from PIL import Image

    tables = [pq.read_table(io.BytesIO(data)).to_pylist() for data in shards]
    images = [row["image"]["bytes"] for table in tables for row in table]
    return np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in images])


def test_a_second_proposal_gives_rows_no_second_noise(
    hub: Hub, run: Run, digits: Digits, tmp_path: Path
) -> None:
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, 24), tmp_path)
    asked = ("push", SOURCE, "--to", f"hf://datasets/{TARGET}", "--create-pr")
    asked += ("--workdir", tmp_path / "work", *CHEAP)
    first = run(*asked)
    assert first.exit_code == 0, first.output
    proposed = _pixels(_proposed(hub, 1).values())
    said = _refused(run(*asked, "--method", "lsp"), "24 rows (first: row 0 of data/train-0.parquet")
    assert "the noise of random-noise since r0001" in said
    assert f"of the state at {STATE}" in said
    assert list(hub.repo(TARGET).pulls) == [1]
    assert run(*asked).exit_code == 0  # the same is proposed already
    assert list(hub.repo(TARGET).pulls) == [1]
    assert np.array_equal(_pixels(_proposed(hub, 1).values()), proposed)


@pytest.mark.slow
def test_a_later_proposal_by_the_same_method_has_the_same_noise(
    hub: Hub, run: Run, digits: Digits, tmp_path: Path
) -> None:
    put_rows(hub, SOURCE, "data/train-0.parquet", digits, slice(0, 24), tmp_path)
    asked = ("push", SOURCE, "--to", f"hf://datasets/{TARGET}", "--create-pr", *CHEAP)
    assert run(*asked, "--workdir", tmp_path / "work").exit_code == 0
    put_rows(hub, SOURCE, "data/train-1.parquet", digits, slice(24, 30), tmp_path)
    grew = run(*asked, "--workdir", tmp_path / "other", "--rows-per-shard", "7")
    assert grew.exit_code == 0, grew.output
    first, second = (_pixels(_proposed(hub, number).values()) for number in (1, 2))
    assert (len(first), len(second)) == (24, 30)
    assert np.array_equal(second[:24], first)


@pytest.fixture
def verified(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Growing:
    """A dataset by random-noise to which two rows were added, whose default method is cheap."""
    monkeypatch.setattr(increment, "DEFAULT_INCREMENTAL", "random-noise-class")
    made, pictures = Growing(run, tmp_path / "rl", tmp_path / "out"), [*map(png, range(12))]
    write_parquet_file(made.source / "data/test-0.parquet", [*map(png, range(90, 96))], [0, 1] * 3)
    write_parquet_file(made.source / "data/train-0.parquet", pictures, [0, 1, 2] * 4)
    assert made.push().exit_code == 0
    write_parquet_file(made.source / "data/train-1.parquet", [*map(png, NEW)], [0, 1])
    return made


def _push(made: Growing, *options: object) -> Result:
    """What a schedule asks for: no method is named."""
    asked = ("--to", made.target, "--workdir", made.source.with_name("work"), "--workers", "1")
    return made.run("push", made.source, *asked, "--preset", "quick", *options)


@pytest.mark.slow
def test_where_the_default_misses_the_gate_the_datasets_own_is_no_second_noise(
    verified: Growing,
) -> None:
    assert _push(verified, "--no-verify").exit_code == 0
    _withdraw(verified.target, "r0002")
    victim = ("--victim", "vgg-w16", "--victim-epochs", "1", "--max-accuracy", "0")
    missed = _push(verified, *victim)
    assert missed.exit_code == 3, missed.output
    said = " ".join(missed.stderr.split())
    assert "nothing was published, the report is" in said
    assert "and random-noise cannot protect these rows instead: 2 rows (first: row 0 of" in said
    assert "have the noise of random-noise-class since r0002" in said
    assert not [*verified.target.glob("data/train/r0002*")]
    assert len([*verified.source.with_name("work").glob("shards/*")]) == 2  # for another gate


@pytest.mark.slow
def test_rows_that_the_datasets_own_method_protected_before_keep_its_noise(
    verified: Growing,
) -> None:
    """As where it took over in a run whose pull request waits."""
    assert _push(verified, "--no-verify", "--incremental-method", "random-noise").exit_code == 0
    before = noises(verified.target.glob("data/train/r0002*"), NEW)
    _withdraw(verified.target, "r0002")
    again = _push(verified, "--no-verify")
    assert again.exit_code == 0, again.output
    assert "the new rows keep the noise that they have from random-noise" in again.stderr
    assert noises(verified.target.glob("data/train/r0002*"), NEW) == before
