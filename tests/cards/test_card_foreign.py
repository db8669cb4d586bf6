"""Foreign text on a card, as Markdown and as `load_dataset` read it."""

from __future__ import annotations

import re
from pathlib import Path

import datasets
import pytest
from card_facts import alone, facts, measured, release
from rendered import body, front, html, text

from cards.card import render
from cards.facts import Picture

HOSTILE = [
    "air|plane",
    "](https://evil.example)",
    "[click](https://evil.example)",
    "<script>alert(1)</script>",
    "`code`",
    "**bold** _thin_ *thin*",
    "line\nbreak\r\n\n# heading",
    "https://evil.example www.evil.example evil@evil.example",
    "![x](https://evil.example/x.png)",
    "{{ facts.license }} {% raw %}",
    "- item",
    "1. item",
    "10) item",
    "---",
    "&lt;b&gt;",
    "\\",
    "日本語 café",
]


def released(folder: Path, card: str, rows: int = 10) -> Path:
    """A folder with this card and as many real rows."""
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    columns = {"image": [None] * rows, "label": [row % 2 for row in range(rows)]}
    (folder / "data/train").mkdir(parents=True)
    data = datasets.Dataset.from_dict(columns, features=features)
    data.to_parquet(folder / "data/train/r0001-00000.parquet")
    (folder / "README.md").write_text(card)
    return folder


def test_load_dataset_accepts_the_card(tmp_path: Path) -> None:
    folder = released(tmp_path / "release", render(facts(class_names=HOSTILE)))
    data = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.features["label"].names == ["cat", "dog"]
    assert len(data) == 10


def test_load_dataset_notices_a_card_of_other_rows(tmp_path: Path) -> None:
    """So the row count of the card is really read."""
    folder = released(tmp_path / "release", render(facts()), rows=9)
    with pytest.raises(datasets.exceptions.NonMatchingSplitsSizesError):
        datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


def test_a_shard_the_card_does_not_list_stays_unseen(tmp_path: Path) -> None:
    folder = released(tmp_path / "release", render(facts()))
    first = folder / "data/train/r0001-00000.parquet"
    (folder / "data/train/r0002-00000.parquet").write_bytes(first.read_bytes())
    data = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 10


def named(name: str) -> str:
    """A card with this text wherever foreign text may come."""
    return render(
        facts(
            pretty_name=name,
            class_names=[name],
            flags=[name],
            paper=name,
            license=name,
            gate=name,
            quarantined={name: 2},
            conversions={name: 1},
            pictures=[Picture("reports/r0001/images.png", name)],
            measured=[measured(victim=name, countermeasure=name), alone(victim=name)],
            releases=[release(method=name, budget=name, measured=[measured(victim=name)])],
        )
    )


def tags(card: str) -> list[str]:
    return re.findall(r"</?\w+", html(card))


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_text_is_shown_and_not_obeyed(name: str) -> None:
    card = named(name)
    # What could be typed is code where such text stands; everything else is text there.
    plain = "plain" if name == "---" else "plain text"
    assert tags(card) == tags(named(plain))
    shown = " ".join(name.split())
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        shown = shown.replace(character, entity)
    assert text(card).count(shown) == text(named(plain)).count(plain)
    assert front(card)["pretty_name"] == name


def test_foreign_addresses_become_no_links() -> None:
    """GitHub and the Hub make links of bare addresses, which the renderer here does not."""
    card = body(named("https://evil.example WWW.evil.example mailto:x@evil.example"))
    assert "evil.example" in card
    assert not re.search(r"(://|www\.|@|mailto:)\w*evil|mailto:", card, re.IGNORECASE)


def test_foreign_code_cannot_leave_its_block() -> None:
    citation = "@misc{x}\n```\n# heading\n````\n<b>"
    found = html(render(facts(source_citation=citation)))
    assert "# heading\n````\n&lt;b&gt;\n</code>" in found
    assert found.count("<h1") == 1


def test_names_in_code_are_python_literals() -> None:
    card = render(facts(image_column='the "image"\n```\n', repo_id="museum/<b>"))
    assert r'data[0]["the \"image\"\n```\n"]' in body(card)
    assert 'load_dataset("museum/<b>", split="train")' in body(card)
    assert html(card).count("<pre>") == html(render(facts())).count("<pre>")
