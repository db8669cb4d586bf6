"""report.html obeys nothing that foreign text says, and asks nothing of anybody."""

from __future__ import annotations

import re
from typing import Any

import pytest
import report_values
from page_reader import read
from paged import png
from report_values import report

from cards.page import render_report

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '",
    "{{ 7 * 7 }} {% raw %}",
    "</style><b>",
    "&lt;b&gt;",
    "日本語 café",
]


def named(name: str) -> dict[str, Any]:
    """A report with this text wherever foreign text may come."""
    values = report((name,), left_by={"none": 0.1, name: 0.5, "mix-percent:" + name: 0.4})
    one = {
        **{
            "analysis": name,
            "sentence": name,
            "figures": {name: 1.0},
            "curves": {name: [0.1, 0.2]},
        },
        **{"matrix": [[0.1, 0.2], [0.3, 0.4]], "labels": [name, name]},
    }
    left = {"victim": name, "countermeasure": name, "seed": 0, "data": name, "rows": "release"}
    return values | {
        **{"name": name, "date": name, "delivered_as": name, "class_names": [name] * 10},
        **{"flags": [{"id": name, "text": name}], "analyses": [one], "left_out": [left]},
        **{"hardware": {name: name}, "versions": {name: name}, "release": {name: name}},
    }


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_shown_and_not_obeyed(name: str) -> None:
    html, plain = render_report(named(name), {name: png()}), render_report(named("x"), {"x": png()})
    found, like = read(html), read(plain)
    assert [e.tag for e in found.everything if e.tag != "span"] == [
        e.tag for e in like.everything if e.tag != "span"
    ]
    for one, other in zip(
        (e for e in found.everything if e.tag != "span"),
        (e for e in like.everything if e.tag != "span"),
        strict=True,
    ):
        assert one.attributes.keys() == other.attributes.keys()
    assert found.all("script")[0].children == like.all("script")[0].children
    assert " ".join(name.split()) in found.by_id("doubts").text


def test_it_needs_nothing_from_anywhere() -> None:
    html = render_report(report_values.full(), {"Images": png()})
    policy = read(html).all("meta")[1].attributes
    assert policy["http-equiv"] == "Content-Security-Policy"
    assert policy["content"].startswith("default-src 'none'; ")
    assert "img-src data:;" in policy["content"]
    assert not re.search(r"(?:src|href)=\"(?!data:|#)|url\(|@import|https?:", html)
    assert not re.search(r" on\w+=", html)
