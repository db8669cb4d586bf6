"""What an owner wrote into the README.md of a dataset outlives every release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from card_facts import facts, grown
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.card import render
from cards.kept import lacking, merge, torn

FIRST, OURS = render(facts(pretty_name="Old", tool="protect-release 0.0.9")), render(facts())
BEGIN = next(line for line in OURS.splitlines() if "protect-release: begin" in line)
END = OURS.splitlines()[-1]


def split(card: str) -> tuple[dict[str, Any], str]:
    _, front, text = card.split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(front)
    return found, text


def with_front(**added: Any) -> str:
    """A card as it was, with these keys in its YAML."""
    values, text = split(FIRST)
    return f"---\n{yaml.safe_dump(values | added, sort_keys=False)}---\n{text}"


@pytest.mark.parametrize(
    "existing", ["", "\n", "---\n---\n", "---\n~\n---\n", "\ufeff", FIRST, OURS]
)
def test_where_nothing_was_written_by_hand_the_new_card_stands(existing: str) -> None:
    assert merge(existing, OURS) == OURS


def test_a_later_release_over_an_earlier_one_gives_exactly_the_later_card() -> None:
    older = grown(
        release="r0002",
        releases=grown().releases[:2],
        rows=52_002,
        released=52_000,
        data_files=["data/train/r0001-*.parquet", "data/train/r0002-*.parquet"],
        method="sep-fa-vr",
    )
    assert merge(render(older), render(grown())) == render(grown())


def test_lines_around_the_marks_are_kept_byte_for_byte() -> None:
    above, below = "\n# By hand \t\r\n\r\n", "\n\n  below\x0c\u2028\n<!-- note -->\nno end"
    existing = FIRST.replace(BEGIN, above + BEGIN).removesuffix("\n") + below
    made = merge(existing, OURS)
    text = split(OURS)[1].strip("\n")
    assert split(made)[1] == f"\n{above}{text}{below}"


def test_a_card_without_marks_is_kept_below_ours() -> None:
    made = merge("---\nlicense: mit\n---\n\n# Flowers\n\nBy hand.\n", OURS)
    assert made == f"{OURS}\n# Flowers\n\nBy hand.\n"
    assert merge("# Flowers", OURS) == f"{OURS}# Flowers"


def test_a_mark_that_lost_its_end_is_kept_as_text() -> None:
    made = merge(f"---\nlicense: mit\n---\n{BEGIN}\nby hand\n", OURS)
    assert made == f"{OURS}{BEGIN}\nby hand\n"
    assert merge(made, OURS) == made


def test_a_card_that_was_cut_anywhere_is_no_whole_one() -> None:
    """What is left of it would be kept as lines that its owner wrote: but for the beginning of a
    mark, the owner is told."""
    release = facts().release
    assert (lacking(OURS, release), torn(OURS)) == (None, None)
    for end in range(len(OURS) - 1):
        stump = OURS[:end]
        assert lacking(stump, release), end
        kept = len(merge(stump, OURS)) - len(OURS)
        assert torn(stump) or kept <= len("<!-- protect-release:"), end


@pytest.mark.parametrize(
    ("readme", "lost"),
    [
        (OURS.removesuffix(f"{END}\n"), "protect-release: end"),
        (f"{OURS[:-3]}\nby hand\n", "protect-release: end"),
        (OURS.replace(f"{BEGIN}\n", ""), "protect-release: begin"),
        (OURS.replace("\n---\n", "\n"), "ends its YAML"),
        ("---\nlicense: mit\nconfi", "ends its YAML"),
    ],
)
def test_what_a_card_lost_is_named(readme: str, lost: str) -> None:
    for text in (readme, f"\ufeff{readme}", readme.replace("\n", "\r\n")):
        assert lost in (torn(text) or "nothing")
        assert lost in (lacking(text, "r0001") or "nothing")


@pytest.mark.parametrize("readme", ["", "# Flowers\n", "a\n---\nb", "---\na: b\n---\n# Mine"])
def test_text_of_the_owner_alone_is_no_torn_card(readme: str) -> None:
    assert torn(readme) is None
    assert lacking(readme, "r0001")


def test_a_whole_card_is_known_beside_what_its_owner_wrote() -> None:
    for readme in (f"{OURS}\nby hand\n", with_front(zone=1), FIRST.replace("\n", "\r\n")):
        assert (torn(readme), lacking(readme, facts().release)) == (None, None)
    assert lacking(OURS, "r0007") == "does not tell of r0007, the newest release"


def test_a_stray_mark_above_costs_no_line() -> None:
    existing = FIRST.replace(BEGIN, f"{END}\n{BEGIN}\nby hand\n{BEGIN}")
    assert f"{END}\n{BEGIN}\nby hand\n{BEGIN}\n# " in merge(existing, OURS)


def test_marks_of_another_version_are_known() -> None:
    existing = FIRST.replace(BEGIN, "<!-- protect-release: begin, worded otherwise -->").replace(
        END, "<!-- protect-release: end -->"
    )
    assert merge(existing, OURS) == OURS


def test_marks_survive_an_editor_of_another_system() -> None:
    made = merge(FIRST.replace("\n", "\r\n"), OURS)
    assert made.count(BEGIN) == made.count(END) == 1
    assert "Old" not in made


def test_a_mark_within_the_card_is_none() -> None:
    """A citation of the source may hold anything."""
    made = render(facts(source_citation=f"@misc{{x}}\n{END}\nmore\n{BEGIN}"))
    assert merge(made, made) == made
    assert merge(made, OURS) == OURS


def test_keys_of_ours_win_and_others_are_kept_in_their_order() -> None:
    existing = with_front(version=1.0, annotations_creators=["me"], license="mit")
    values, _ = split(merge(existing, OURS))
    ours, _ = split(OURS)
    assert list(values) == [*ours, "version", "annotations_creators"]
    assert values == ours | {"version": 1.0, "annotations_creators": ["me"]}


@pytest.mark.parametrize("value", ["1.10", "007", "2026-11-21", "!!str 12", "'yes'", "|-\n a\n b"])
def test_values_that_are_kept_mean_what_they_meant(value: str) -> None:
    front = f"zone: {value}\n"
    made = merge(f"---\n# a comment\n{front}---\n", OURS)
    assert split(made)[0]["zone"] == yaml.safe_load(front)["zone"]
    if value == "1.10":
        assert "\nzone: 1.10\n" in made


@pytest.mark.parametrize("tags", [["mine", "sep-fa-vr", "日本"], "mine", None])
def test_tags_that_were_added_are_kept(tags: Any) -> None:
    values, _ = split(merge(with_front(tags=tags), OURS))
    added = [tag for tag in ("mine", "日本") if tag in (tags or "")]
    assert values["tags"] == [*split(OURS)[0]["tags"], *added]


def test_only_the_default_configuration_is_ours() -> None:
    default = {"config_name": "default", "data_files": "data/old.parquet"}
    own = {"config_name": "small", "data_files": "small/*.parquet"}
    infos = [{"config_name": "small", "splits": []}, {"splits": []}]
    values, _ = split(merge(with_front(configs=[own, default], dataset_info=infos), OURS))
    ours, _ = split(OURS)
    assert values["configs"] == [*ours["configs"], own]
    assert values["dataset_info"] == [ours["dataset_info"], infos[0]]


def test_splits_that_were_added_to_the_default_configuration_are_kept() -> None:
    ours, _ = split(OURS)
    own = {"split": "exam", "path": "exam/*.parquet"}
    files = [own, {"split": "train", "path": "data/old.parquet"}, "data/loose.parquet"]
    info = {"splits": [{"name": "exam", "num_examples": 3}, {"name": "train", "num_examples": 1}]}
    existing = with_front(
        configs=[{"config_name": "default", "data_files": files}], dataset_info=info
    )
    values, _ = split(merge(existing, OURS))
    assert values["configs"][0]["data_files"] == [*ours["configs"][0]["data_files"], own]
    assert values["dataset_info"] == ours["dataset_info"] | {
        "splits": [*ours["dataset_info"]["splits"], {"name": "exam", "num_examples": 3}]
    }
    assert merge(merge(existing, OURS), OURS) == merge(existing, OURS)


def test_tasks_that_were_added_are_kept() -> None:
    values, _ = split(merge(with_front(task_categories=["image-to-text"]), OURS))
    assert values["task_categories"] == ["image-classification", "image-to-text"]


def test_both_configurations_load(tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    for name, rows in (("data/train/r0001-00000.parquet", 10), ("small/a.parquet", 3)):
        columns = {"image": [None] * rows, "label": [0] * rows}
        (tmp_path / "x" / name).parent.mkdir(parents=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(tmp_path / "x" / name)
    own = {"config_name": "small", "data_files": "small/*.parquet"}
    infos = [{"config_name": "small", "splits": [{"name": "train", "num_examples": 3}]}]
    card = merge(with_front(configs=[own], dataset_info=infos), OURS)
    (tmp_path / "x/README.md").write_text(card)
    for config, rows in (("default", 10), ("small", 3)):
        folder = str(tmp_path / "x")
        data = datasets.load_dataset(folder, config, split="train", cache_dir=str(tmp_path / "c"))
        assert len(data) == rows


BROKEN = [
    "  license: [mit\n\ttags",
    "just text",
    "- a\n- b",
    "a: 1\n...\n---x: {",
    "date: 2026-13-45",
    "a: !thing 1",
    "```\na: [",
    "x: \x00",
]


@pytest.mark.parametrize("front", BROKEN)
def test_broken_yaml_is_kept_as_text(front: str) -> None:
    made = merge(f"---\n{front}\n---\n\n# By hand\n", OURS)
    values, text = split(made)
    assert values == split(OURS)[0]
    ours = split(OURS)[1]
    fence = "````" if "```" in front else "```"
    assert text == f"{ours}\n{fence}yaml\n{front}\n{fence}\n\n# By hand\n"
    assert merge(made, OURS) == made


def test_text_that_is_no_card_is_refused() -> None:
    with pytest.raises(ValueError, match="no card"):
        merge(OURS, "# Flowers")


PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)
LINES = st.lists(
    st.one_of(
        st.text(st.characters(exclude_characters="\n", codec="utf-8"), max_size=12),
        st.sampled_from([BEGIN, END, "---", "", "```", "a: 1", "tags: [x]", "license: [mit", "\r"]),
    ),
    max_size=6,
).map("\n".join)
KEPT = st.dictionaries(
    st.text("abxyz_", min_size=1, max_size=4),
    st.recursive(
        st.one_of(st.text(max_size=9), st.integers(), st.booleans(), st.none(), st.dates()),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab"), inner),
        max_leaves=4,
    ),
    max_size=3,
)


@PROPERTY
@given(above=LINES, below=LINES)
def test_no_line_outside_the_marks_is_lost(above: str, below: str) -> None:
    text = split(FIRST)[1].strip("\n")
    existing = f"---\nlicense: mit\n---\n{above}\n{text}\n{below}"
    made = merge(existing, OURS)
    kept = existing.replace(text, split(OURS)[1].strip("\n"), 1)
    if END not in above.partition(BEGIN)[2]:  # or else what stands between them is ours
        assert split(made)[1] == split(kept)[1]
    assert merge(made, OURS) == made


@PROPERTY
@given(existing=LINES)
def test_any_text_is_kept_and_merging_again_changes_nothing(existing: str) -> None:
    made = merge(existing, OURS)
    text = existing.removeprefix("\ufeff")
    if BEGIN not in existing and not text.lstrip().startswith("---"):
        assert made == (OURS + text if text.strip() else OURS)
    assert merge(made, OURS) == made


@PROPERTY
@given(front=KEPT)
def test_any_yaml_is_kept_and_merging_again_changes_nothing(front: dict[str, Any]) -> None:
    made = merge(f"---\n{yaml.safe_dump(front)}---\n", OURS)
    assert split(made)[0] == split(OURS)[0] | front
    assert merge(made, OURS) == made
