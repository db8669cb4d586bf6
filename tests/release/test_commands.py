"""The commands around push: what they print for people and for machines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from clean_data import Run, write_split
from PIL import Image


def test_methods_are_listed_with_their_options(run: Run) -> None:
    listed = {entry["name"]: entry for entry in json.loads(run("methods", "--json").stdout)}
    assert {"sep", "sep-fa", "sep-fa-vr", "sep-fa-mi", "tap", "random-noise"} <= set(listed)
    assert listed["sep-fa-vr"]["options"]["paper"]["inner_steps"] == 15
    assert listed["sep-fa-vr"]["passes"]["quick"] <= 100
    assert listed["random-noise"]["needs_labels"] is False
    assert listed["random-noise"]["surrogates"] == {"paper": [], "quick": []}
    assert listed["tap"]["surrogates"] == {"paper": ["resnet18"], "quick": ["vgg-w16"]}
    assert listed["tap"]["fit_epochs"] == {"paper": 40, "quick": 20}
    assert (listed["alignment"]["scope"], listed["alignment"]["unseen"]) == ("batch", "exact")
    shown = run("methods").stdout
    assert re.search(r"sep-fa-vr +linf:8 +870 / 90 +labels, net +yes +ICLR 2023", shown)
    assert re.search(r"alignment +linf:8 +[\d,]+ / \d+ +labels, net +no +", shown)
    assert (listed["em"]["passes"]["paper"], listed["em"]["fit_passes"]["paper"]) == (0, 1000)
    assert re.search(r"em +linf:8 +1,000 / 120 +labels, net +roughly +", shown)
    assert re.search(r"random-noise +linf:8 +0 / 0 +yes +arXiv 2021", shown)
    assert "inner_steps" in run("methods", "sep-fa-vr").stdout
    assert "sep-fa-vr" in run("methods", "sep-fa-rv").stderr
    assert "tap.steps" in run("methods", "tap+random-noise").stdout


@pytest.mark.slow
def test_victims_are_listed_with_their_size_and_speed(run: Run) -> None:
    listed = {entry["name"]: entry for entry in json.loads(run("victims", "--json").stdout)}
    assert {"vgg-w16", "resnet10-w16", "resnet18", "vgg16", "densenet121"} <= set(listed)
    assert listed["vgg-w16"]["parameters"] < listed["resnet18"]["parameters"] == 11_173_962
    assert all(entry["seconds_per_1000"] > 0 for entry in listed.values())


def test_countermeasures_are_listed(run: Run) -> None:
    listed = json.loads(run("countermeasures", "--json").stdout)
    assert "none" in [entry["name"] for entry in listed]
    assert all(entry["about"] for entry in listed)


def test_parameters_of_a_countermeasure_or_an_analysis_are_explained(run: Run) -> None:
    for command, name, words in (
        ("countermeasures", "mix-percent", "of protected rows in per cent"),
        ("analyses", "csd", "class-wise separability discriminant"),
    ):
        (told,) = json.loads(run(command, name, "--json").stdout)
        assert words in told["explained"] + told["source"]
        assert words in run(command, name).stdout
        assert "NAME" in run(command).stdout
        assert f"did you mean {name}" in run(command, f"{name}s").stderr
    needs = {entry["name"]: entry["needs_labels"] for entry in json.loads(_analyses(run))}
    assert (needs["csd"], needs["visibility"]) == (True, False)


def _analyses(run: Run) -> str:
    return str(run("analyses", "--json").stdout)


def test_a_dry_run_forecasts_and_publishes_nothing(run: Run, small: Path, out: Path) -> None:
    arguments = (
        "push",
        small,
        "--to",
        out,
        "--workdir",
        out.with_name("w"),
        "--dry-run",
        "--workers",
        "1",
    )
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    expected = json.loads(result.stdout)
    assert (expected["rows"], expected["test_rows"], expected["passes"]) == (96, 40, 90)
    assert expected["bytes"] > 96 * 300
    assert expected["workdir_bytes"] == expected["bytes"] + 3 * 28 * 28 * (96 + 96 + 40)
    assert all(expected["seconds"][stage] > 0 for stage in ("fit", "craft", "verify"))
    assert not out.exists()
    assert not list(out.with_name("w").glob("state/*"))


def test_a_preview_shows_rows_before_and_after(run: Run, small: Path, tmp_path: Path) -> None:
    picture, workdir = tmp_path / "seen.png", tmp_path / "w"
    options = ("--out", picture, "--images", "3", "--rows", "16", "--workdir", workdir)
    options += ("--method", "random-noise", "--workers", "1")
    result = run("preview", small, *options)
    assert result.exit_code == 0, result.stderr
    assert "clean pixels" in result.stdout
    with Image.open(picture) as drawn:
        width, height = drawn.size
    assert 0.8 < width / height < 1.25, "three columns and three rows of square images"
    assert not (workdir / "never-published").exists()


def test_the_plan_says_what_is_not_published(run: Run, small: Path, out: Path) -> None:
    result = run("plan", small, "--to", out, "--workdir", out.with_name("w"), "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["not_published"] == {"splits": ["test"], "columns": ["thumb", "writer"]}
    assert "seed" not in told
    assert "not published: splits test; columns thumb, writer" in result.stderr


def test_the_gate_has_plain_training_whatever_else_is_tried(
    run: Run, small: Path, out: Path
) -> None:
    planned = ("plan", small, "--to", out, "--workdir", out.with_name("w"), "--json")
    told = json.loads(run(*planned, "--countermeasure", "jpeg").stdout)
    assert told["countermeasures"] == ["none", "jpeg"]


def test_what_readers_of_help_are_told(run: Run) -> None:
    shown = {name: run(name, "--help").stdout for name in ("check", "status", "verify", "compare")}
    assert all("org/name@revision" in shown[name] for name in ("check", "status", "verify"))
    assert not any("[[" in text for text in shown.values())
    assert "--rows" in shown["compare"]
    assert "--public" not in shown["compare"]


def test_a_file_of_weights_is_public_by_name_and_content_alone(
    run: Run, small: Path, tmp_path: Path
) -> None:
    from torch import save

    weights = tmp_path / "mine" / "net.pt"
    weights.parent.mkdir()
    save({}, weights)
    arguments = ("--method", "uc", "--set", f"weights={weights}", "--workdir", tmp_path / "w")
    result = run("plan", small, "--to", tmp_path / "out", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["settings"]["weights"].startswith("net.pt@")
    assert str(weights) not in result.stdout
    planned = json.loads((tmp_path / "w/plan.json").read_text())
    assert planned["settings"] == {"weights": str(weights)}


def test_rows_without_a_test_split_are_held_out(
    run: Run, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    pixels, labels = (values[digits[1] < 4][:80] for values in digits)
    write_split(tmp_path / "source/train.parquet", pixels, labels)
    result = run(
        *("push", tmp_path / "source", "--to", tmp_path / "out", "--workdir", tmp_path / "w"),
        *("--method", "random-noise", "--victim-epochs", "1", "--victim", "vgg-w16"),
        *("--max-accuracy", "1", "--workers", "1", "--json"),
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["released"] == 80
    report = json.loads((tmp_path / "out/reports/r0001/report.json").read_text())
    for training in report["trainings"]:
        assert training["train_rows"] + training["test_rows"] == 80
        assert 4 <= training["test_rows"] <= 12
