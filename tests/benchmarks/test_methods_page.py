from __future__ import annotations

import re
from pathlib import Path

from potency_claims import claim

from benchmarks.methods_page import DOCS, _label_heights, draw, page
from benchmarks.potency_results import load, together
from benchmarks.potency_work import CHANGED, PROTOCOL
from benchmarks.published import PUBLISHED
from crafting.registry import methods, registration


def test_the_page_is_what_its_generator_writes() -> None:
    assert (DOCS / "methods.md").read_text() == page(load()), (
        "run python -m benchmarks.methods_page"
    )


def test_every_method_is_on_the_page_with_its_own_words() -> None:
    text = page([])
    for name in methods():
        assert f"\n| `{name}` |" in text
        assert re.search(rf"^### .*`{name}`", text, re.MULTILINE)
    for section in text.split("\n### ")[1:]:
        assert "**Departures**" in section
        assert "**Expected**" in section
    assert f"Not measured yet: {', '.join(f'`{name}`' for name in methods())}." in text
    assert "methods.png" not in text


def test_new_rows_are_those_that_a_method_protects_each_by_itself() -> None:
    cells = {
        line.split("`")[1]: line.split(" | ")[4]
        for line in page([]).splitlines()
        if line.startswith("| `")
    }
    assert {cells[name] for name in ("alignment", "tensorclog", "ntga")} == {"no"}
    assert (cells["alignment-online"], cells["em"]) == ("yes", "roughly")


def test_what_is_published_is_of_methods_that_there_are() -> None:
    assert all(registration(name).name == name for name in PUBLISHED)


def test_the_best_protection_comes_first_by_the_victim_that_learns_most() -> None:
    best, even, worse = (
        claim("tap", (0.2, 0.2)),
        claim(
            "sep",
            (0.1, 0.3),
            reported={"accuracy": 0.0473} | dict.fromkeys(("net", "dataset", "budget"), "X"),
        ),
        claim("random-noise", (0.6, 0.6)),
    )
    text = page([worse, even, best])
    assert [c.name for c in together([worse, even, best])[0]] == ["tap", "sep", "random-noise"]
    line = next(line for line in text.splitlines() if line.startswith("| `sep` | linf:8"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "10.5 (10.0-11.0) / 30.5 (30.0-31.0)"
    assert cells[3:8] == ["20.0 / 40.0", "12.0 / 32.0", "60.5", "-", "-"]
    assert cells[8:] == ["15", "30.0", "10.0", "31.2", "4.7 (X, X, X)"]
    assert "which learn 67.0 / 67.0 % from the clean rows; means of up to 2 seeds" in text
    assert "2 cores of a processor. Of an earlier state of this program" in text
    assert "](methods.png)" in text


def test_what_cannot_be_compared_stands_apart() -> None:
    claims = [
        claim("tap", (0.2, 0.2)),
        claim("sep", (0.2, 0.2)),
        claim("sep", (0.1, 0.1), rows=50000),
        claim("sep", (0.1, 0.1)),
        claim("sep", (0.1, 0.1), protocol=PROTOCOL),
        claim("sep", (0.1, 0.1), measured_on={"gpus": ["a GPU"]}),
        claim("rem", (0.1, 0.1), protocol=CHANGED["rem"]),
        claim("rem", (0.1, 0.1), protocol=PROTOCOL),
    ]
    for trial in (trial for seed in claims[3].seeds for trial in seed["trials"]):
        trial["epochs"] = 1
    assert [len(group) for group in together(claims)] == [2, 2, 1, 1, 1, 1]
    assert "50,000 rows of cifar10" in page(claims)


def test_other_budgets_than_the_usual_stand_apart() -> None:
    claims = [
        claim("tap", (0.2, 0.2)),
        claim("ar", (0.2, 0.2), budget="l2:1"),
        claim("tap", (0.3, 0.3), budget="linf:2"),
    ]
    assert [[c.budget for c in group] for group in together(claims)] == [
        ["linf:8", "l2:1"],
        ["linf:2"],
    ]
    text = page(claims)
    assert "`quick` preset, 5,000 rows" in text
    assert "`quick` preset within linf:2, 5,000 rows" in text


def test_passes_are_those_of_fit_and_craft() -> None:
    both, alone = claim("em", (0.2, 0.2)), claim("tap", (0.3, 0.3))
    for seed in both.seeds:
        seed |= {"fit_passes": 1200, "passes": 7}
    assert (both.passes, alone.passes) == (1207, 15)
    lines = page([both, alone]).splitlines()
    cells = [next(line for line in lines if line.startswith(f"| `{n}` |")) for n in ("em", "tap")]
    assert " | 1,200 + 7 | " in cells[0]
    assert " | 15 | " in cells[1]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    draw([claim("tap", (0.2, 0.2)), claim("random-noise", (0.6, 0.6))], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_names_in_the_picture_do_not_lie_on_each_other() -> None:
    alike = [claim(name, (0.2, 0.2)) for name in ("tap", "sep", "rem")]
    apart = claim("em", (0.2, 0.2))
    for seed in apart.seeds:
        seed["passes"] = 500
    heights = {of.name: height for of, height in _label_heights([*alike, apart])}
    assert heights["em"] == heights["tap"]
    first, second, third = (heights[of.name] for of in alike)
    assert first + 2 <= second <= third - 2
