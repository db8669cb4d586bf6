"""The pages as a browser shows them: nothing is asked of a network, and everything can be read."""

from __future__ import annotations

from typing import Any

import comparison_values
import numpy as np
import pytest
import report_values
from browser import DESKTOP, PHONE, Browser, Visit, installed
from PIL import Image

from cards.comparison import render_comparison
from cards.page import render_report

FITS = """
const all = Array.from(document.querySelectorAll("main *"));
const free = (e) => !e.closest(".box, pre") && !e.closest("svg *");
return {
  inner: innerWidth, scroll: document.documentElement.scrollWidth,
  out: all.filter((e) => free(e) && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.outerHTML.slice(0, 80)),
  asked: performance.getEntriesByType("resource").map((entry) => entry.name),
  shown: Array.from(document.querySelectorAll("[data-item]"))
    .filter((e) => e.offsetHeight > 0).length,
};
"""
SORT = """
const table = document.querySelector("#trials table");
const rows = () => Array.from(table.tBodies[0].rows);
const column = (name) => Array.from(table.tHead.rows[0].cells)
  .find((cell) => cell.textContent.trim() === name);
const press = (header) => {
  header.querySelector("button").click();
  const read = rows().map((row) => row.cells[header.cellIndex].dataset.value);
  return [header.getAttribute("aria-sort"), read];
};
const shown = () => rows().filter((row) => row.offsetHeight > 0);
const header = column("this release"), twin = column("clean twin");
header.querySelector("button").focus();
const focused = document.activeElement === header.querySelector("button");
const sorts = [press(header), press(header), press(twin), press(twin)];
const before = shown().length;
const select = document.querySelector("#trials select[name=victim]");
select.value = "vgg16";
select.dispatchEvent(new Event("change"));
return {
  focused, sorts, before, left: header.getAttribute("aria-sort"),
  victims: shown().map((row) => row.dataset.victim),
  told: document.querySelector("#trials output").textContent,
};
"""


def full_report() -> str:
    """With one countermeasure without a clean twin."""
    values = report_values.full()
    for trial in values["trials"]:
        if trial["countermeasure"] == "grayscale":
            trial["clean"] = None
    return render_report(values)


def long_names() -> str:
    names = ["x" * 90, "<b>" * 30, *report_values.CLASSES[2:]]
    values = report_values.report(("v" * 90,), left_by={"none": 0.1, "c" * 90: 0.5})
    flags = [{"id": "f" * 90, "text": "t" * 200}]
    return render_report(values | {"class_names": names, "flags": flags, "name": "n" * 90})


def without_scripts(page: str) -> str:
    end = "</script>"
    return page[: page.rindex("<script>")] + page[page.rindex(end) + len(end) :]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return installed(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def seen(browser: Browser) -> tuple[dict[str, Any], list[str]]:
    report, compared = full_report(), render_comparison(comparison_values.full())
    visits = {
        "report on a desktop": Visit(report, DESKTOP, FITS),
        "report on a phone": Visit(report, PHONE, FITS),
        "comparison on a desktop": Visit(compared, DESKTOP, FITS),
        "comparison on a phone": Visit(compared, PHONE, FITS),
        "long names on a phone": Visit(long_names(), PHONE, FITS),
        "sorted": Visit(report, DESKTOP, SORT),
        "without scripts": Visit(without_scripts(report), DESKTOP, FITS),
    }
    return browser.visit(visits)


@pytest.mark.parametrize(
    ("name", "width"),
    [
        ("report on a desktop", 1280),
        ("report on a phone", 390),
        ("comparison on a desktop", 1280),
        ("comparison on a phone", 390),
        ("long names on a phone", 390),
    ],
)
def test_it_fits_its_screen_and_asks_for_nothing(
    seen: tuple[dict[str, Any], list[str]], name: str, width: int
) -> None:
    found = seen[0][name]
    assert (found["inner"], found["scroll"], found["out"]) == (width, width, [])
    assert found["asked"] == []


def test_nothing_is_written_to_the_console(seen: tuple[dict[str, Any], list[str]]) -> None:
    assert seen[1] == []


def test_what_a_page_should_not_ask_for_is_refused_and_noticed(browser: Browser) -> None:
    """So an empty console tells that nothing was asked for."""
    outside = '<img src="https://example.invalid/x.png"><footer>'
    page = render_report(report_values.report()).replace("<footer>", outside)
    _, console = browser.visit({"page": Visit(page, DESKTOP, "return {}")})
    assert any("Content Security Policy" in line for line in console)


def test_a_table_is_sorted_by_the_header_that_was_pressed(
    seen: tuple[dict[str, Any], list[str]],
) -> None:
    found = seen[0]["sorted"]
    assert found["focused"], "a keyboard reaches it"
    assert [order for order, _ in found["sorts"]] == ["descending", "ascending"] * 2
    assert found["left"] is None, "only the last one tells how the table is sorted"
    for (order, written), known in zip(found["sorts"], [36, 36, 33, 33], strict=True):
        figures = [float(value) for value in written if value]
        assert figures == sorted(figures, reverse=order == "descending")
        assert written[known:] == [""] * (36 - known), "what was not measured stands last"
        assert len(figures) == known


def test_a_table_is_filtered_by_victim(seen: tuple[dict[str, Any], list[str]]) -> None:
    found = seen[0]["sorted"]
    assert found["before"] == 36
    assert found["victims"] == ["vgg16"] * 12
    assert found["told"] == "12 of 36 shown"


def test_without_scripts_everything_is_shown(seen: tuple[dict[str, Any], list[str]]) -> None:
    rows, settings, panels = 36, 6, 42
    assert seen[0]["without scripts"]["shown"] == rows + settings + panels
    assert seen[0]["report on a desktop"]["shown"] == rows + settings + 3, "plain training alone"


@pytest.mark.parametrize(
    ("size", "options", "ground"),
    [(DESKTOP, (), (240, 256)), (PHONE, ("--blink-settings=preferredColorScheme=0",), (0, 40))],
    ids=["light desktop", "dark phone"],
)
def test_it_is_drawn(
    browser: Browser, size: tuple[int, int], options: tuple[str, ...], ground: tuple[int, int]
) -> None:
    path = browser.screenshot(full_report(), size, *options)
    with Image.open(path) as opened:
        assert (opened.format, opened.size) == ("PNG", size)
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    assert ground[0] <= np.median(pixels) < ground[1]
