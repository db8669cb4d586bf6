"""The card as its readers see it: as YAML and as rendered Markdown."""

from __future__ import annotations

import re
from typing import Any

import datasets
import pytest
from card_facts import facts, grown, measured, once, release, verification
from rendered import body, front, html, tables, text

from cards.card import render, size_category


def test_front_matter_is_what_the_hub_and_load_dataset_read() -> None:
    found = front(render(facts()))
    assert found["license"] == "cc-by-4.0"
    assert found["pretty_name"] == "Photographs"
    assert found["task_categories"] == ["image-classification"]
    assert found["size_categories"] == ["n<1K"]
    assert {"protect-release", "sep-fa-vr"} <= set(found["tags"])
    assert found["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": ["data/train/r0001-*.parquet"]}],
        }
    ]
    info = found["dataset_info"]
    assert info["splits"] == [{"name": "train", "num_bytes": 4321, "num_examples": 10}]
    assert (info["download_size"], info["dataset_size"]) == (4321, 4321)
    assert datasets.Features._from_yaml_list(info["features"])["label"].names == ["cat", "dog"]


def test_tars_alone_have_no_features_in_the_front_matter() -> None:
    tars = ["webdataset/train/r0001-*.tar"]
    found = front(render(facts(features=None, data_files=tars, tar_files=tars)))
    assert "features" not in found["dataset_info"]


@pytest.mark.parametrize(
    ("rows", "name"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (50_000, "10K<n<100K"), (10**9, "n>1B")],
)
def test_size_categories_are_those_of_the_hub(rows: int, name: str) -> None:
    assert size_category(rows) == name


def test_figures_are_given_in_a_table_and_in_a_sentence() -> None:
    shown = text(render(facts()))
    assert (
        "A resnet10-w16 trained on this release scored 17.2 % (clean images: 67.2 %); 47.0 % at "
        "its best epoch, and 33.0 % with its outputs renamed one to one." in shown
    )
    other = render(facts(measured=[measured(victim="efficientnet-b1")]))
    assert "An efficientnet-b1 trained on this release scored" in text(other)
    figures = ["67.2 %", "17.2 %", "47.0 %", "33.0 %"]
    assert tables(render(facts()))[0][1] == ["resnet10-w16", "yes", "none", "1", *figures]
    assert "| 67.2 % | 17.2 % |" in render(facts()), "and reads well in the file itself"
    assert "at most the 38.6 % allowed" in shown


def test_test_images_of_a_source_without_a_test_split_are_told() -> None:
    shown = text(render(facts(test_split=None)))
    assert "The source has no test split: these are the clean originals of a tenth" in shown
    assert "test split" not in text(render(facts()))


def test_a_clean_twin_that_was_not_trained_is_not_made_up() -> None:
    row = measured(clean=None)
    card = render(facts(measured=[row], releases=[release(measured=[row])]))
    assert tables(card)[0][1][4] == "not measured"
    assert "scored 17.2 % (clean images: not measured);" in text(card)
    assert tables(card)[1][1][6] == "resnet10-w16: 17.2 % (clean twin: not measured)"


def test_seeds_are_given_as_mean_and_range() -> None:
    row = measured(seeds=3, protected=(0.172, 0.15, 0.19))
    card = render(facts(measured=[row]))
    assert "<td>17.2 % (15.0 % to 19.0 %)</td>" in html(card)
    assert "Several seeds are given as mean and range." in card
    assert "Several seeds" not in render(facts())


@pytest.mark.parametrize(
    ("changes", "opening"),
    [
        ({"preset": "paper"}, "Verified by small networks only."),
        ({"only_small_networks": False}, "These images are published to be looked at"),
        ({"measured": [], "gate": None}, "Not verified."),
        ({"measured": [], "gate": None, "preset": "paper"}, "Not verified."),
        ({"source_is_public": True}, "The clean originals of these images are public, so that"),
        (
            {"source_is_public": True, "measured": [], "gate": None},
            "The clean originals of these images are public, so that",
        ),
    ],
)
def test_the_card_opens_with_its_weakest_point(changes: dict[str, Any], opening: str) -> None:
    first = text(render(facts(**changes))).strip().split("\n")[1]
    assert first.startswith(opening)


SLIGHTLY = "changed slightly, with the aim that an image classifier trained on them does badly"
UNCHANGED = "None of them was changed, so that nothing keeps a classifier from learning."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, f"Each one was {SLIGHTLY} on ordinary, unchanged images; what was measured follows."),
        ({"measured": [], "gate": None}, "unchanged images; nothing was measured."),
        ({"unprotected_rows": 4}, f"Most were {SLIGHTLY}"),
        ({"unprotected_rows": 5}, f"Some were {SLIGHTLY}"),
        ({"unprotected_rows": 10}, UNCHANGED),
        ({"psnr": None, "max_level": 0}, UNCHANGED),
        ({"releases": [release(budget="unbounded")]}, "Each one was changed, with the aim that"),
    ],
)
def test_what_was_done_to_how_many_images_is_an_aim(changes: dict[str, Any], said: str) -> None:
    assert said in text(render(facts(**changes)))


def test_where_the_newest_release_changed_nothing_earlier_ones_may_have() -> None:
    shown = text(render(grown(psnr=None, max_level=0)))
    assert f"Not all of them were {SLIGHTLY}" in shown


def test_both_weak_points_open_the_card() -> None:
    shown = text(render(facts(source_is_public=True, measured=[], gate=None)))
    first, second = shown.strip().split("\n")[1:3]
    assert first.endswith("this release protects little.")
    assert second.startswith("Not verified.")
    assert "originals of these images are public" not in text(render(facts()))


def test_a_release_that_was_not_verified_claims_no_figure() -> None:
    shown = text(render(facts(measured=[], gate=None)))
    assert "best epoch, and" not in shown
    assert "which were not measured here" in shown


def test_countermeasures_that_were_tried_are_named_as_such() -> None:
    assert "None of them was tried here." in render(facts())
    rows = [measured(), measured(countermeasure="grayscale", protected=once(0.5))]
    card = render(facts(measured=rows))
    assert "The table says which of them were tried here" in card
    assert "trained on this release with grayscale scored 50.0 %" in text(card)


def test_a_victim_that_was_not_scored_by_epoch_has_no_peak() -> None:
    row = measured(countermeasure="simclr:clean=1000", peak=None)
    card = render(facts(measured=[row]))
    assert tables(card)[0][1][6] == "not measured"
    assert "(clean images: 67.2 %); 33.0 % with its outputs renamed one to one." in text(card)
    assert "There is no peak where what trains is not what is scored" in text(card)
    assert "There is no peak" not in text(render(facts()))


def test_uses_that_a_victim_stood_for_are_not_said_to_be_unconsidered() -> None:
    others = "was considered: not fine-tuning large pre-trained models, not learning without labels"
    assert f"of these labels {others}, not generating images." in text(render(facts()))
    rows = [measured(), measured(countermeasure="simclr:clean=9"), measured(countermeasure="knn")]
    unlabelled = text(render(facts(measured=rows, class_names=[])))
    assert "a classifier was considered: not fine-tuning large" in unlabelled
    assert "not learning without labels" not in unlabelled
    tuned = text(render(facts(measured=[measured(countermeasure="finetune:weights=w.pt@01")])))
    assert "a network trained from scratch (under finetune from weights of elsewhere)" in tuned
    assert "not fine-tuning" not in tuned


def test_circumstances_are_told_from_countermeasures() -> None:
    rows = [measured(), measured(countermeasure="mix-percent:share=50.0")]
    card = text(render(facts(measured=rows)))
    assert "Some lines are of circumstances, not of countermeasures" in card
    assert "its clean twin trains on the clean ones alone" in card
    assert "circumstances" not in text(render(facts()))


def test_all_rows_and_new_rows_alone_stand_in_one_table() -> None:
    card = render(grown())
    trained_on = [line[2] for line in tables(card)[0]]
    assert trained_on == ["trained on", "all rows", "all rows", "the 500 new rows alone"]
    shown = text(card)
    assert (
        "All rows are a seeded sample of 10,000 of the 52,000 rows published before, and all 500 "
        "new ones." in shown
    )
    assert (
        "A resnet10-w16 trained on the 500 new rows alone scored 37.0 % (clean images: 38.0 %)"
        in shown
    )
    assert "compare each with its clean twin" in shown


@pytest.mark.parametrize(
    ("sampled", "sentence"),
    [
        ((52_000, 52_000, 500), "are the 52,000 rows published before, and all 500 new ones."),
        ((9, 10, 1), "are a seeded sample of 9 of the 10 rows published before, and the new one."),
    ],
)
def test_what_was_sampled_is_put_in_words(sampled: tuple[int, int, int], sentence: str) -> None:
    assert sentence in text(render(grown(sampled=sampled)))


def test_where_nothing_came_before_nothing_is_said_of_new_rows() -> None:
    shown = text(render(facts()))
    for absent in ("new row", "all rows are", "An older one", "added rows to"):
        assert absent not in shown.lower().replace("from all rows", "")


def test_releases_are_listed_with_the_newest_first() -> None:
    found = tables(render(grown()))[1]
    assert [line[0] for line in found] == ["release", "r0003", "r0002", "r0001"]
    assert found[1][1:6] == ["2026-11-16", "sep-fa-mi", "linf:8", "500", "52,500"]
    assert found[1][6:] == [
        "resnet10-w16: 17.2 % (clean twin: 67.2 %)",
        "resnet10-w16: 37.0 % (clean twin: 38.0 %)",
    ]
    assert found[2][6:] == ["not verified", "-"]
    assert found[3][6:] == ["resnet10-w16: 17.2 % (clean twin: 67.2 %)", "-"]


def test_a_release_that_met_no_plain_victim_is_listed_with_what_it_met() -> None:
    trained = [measured(countermeasure="cutmix")]
    found = tables(render(facts(measured=trained, releases=[release(measured=trained)])))[1]
    assert found[1][-1] == "resnet10-w16 with cutmix: 17.2 % (clean twin: 67.2 %)"


def test_a_single_release_has_one_short_line() -> None:
    header, line = tables(render(facts()))[1]
    assert header[-1] == "most learnt from all rows"
    assert line[:6] == ["r0001", "2026-11-02", "sep-fa-vr", "linf:8", "10", "10"]
    assert len(line) == 7


def test_an_older_release_is_loaded_by_its_name() -> None:
    blocks = re.findall(r"```python\n(.*?)```", render(grown()), re.DOTALL)
    assert any('revision="r0002"' in block for block in blocks)
    for block in blocks:
        compile(block, "card", "exec")
    assert "revision=" not in render(grown(repo_id=None, before=None))
    assert "revision=" not in render(facts())


def test_on_a_branch_readers_are_told_to_name_it() -> None:
    card = render(grown(branch="draft", before="draft-r0002", tar_files=["webdataset/*.tar"]))
    calls = re.findall(r"^.*(?:load_dataset|snapshot_download)\(.*$", card, re.MULTILINE)
    named = [re.findall(r'revision="([^"]*)"', call) for call in calls]
    assert named == [["draft"], ["draft"], ["draft"], ["draft-r0002"]]
    assert "`protect-release check museum/photographs-protected@draft`" in card


def test_the_card_tells_how_to_check_the_release() -> None:
    shown = text(render(grown()))
    for named in ("releases/r0003.json", "reports/r0003/report.json", "protect-release check"):
        assert named in shown


def test_what_is_of_the_newest_release_is_said_to_be() -> None:
    shown = text(render(grown()))
    assert "The budget of release r0003 is linf:8" in shown
    assert "Converted to 8-bit grey or RGB before protection, in release r0003:" in shown
    assert "Release r0003 was made with protect-release 0.1.0, method sep-fa-mi" in shown
    assert "No pixel that release r0003 added" in text(render(grown(psnr=None, max_level=0)))


def test_tags_name_the_method_of_every_release() -> None:
    assert front(render(grown()))["tags"][-2:] == ["sep-fa-vr", "sep-fa-mi"]


def test_visibility_is_given_in_figures() -> None:
    shown = text(render(facts()))
    assert "no value of a pixel moves by more than 8 of 255 grey levels" in shown
    assert "PSNR of changed images 33.1 dB" in shown
    assert "structural similarity 0.951" in shown
    assert "No pixel differs" in render(facts(psnr=None, max_level=0))


def test_rows_that_are_unlike_the_rest_are_listed() -> None:
    shown = text(render(facts(unprotected_rows=4, shown_clean_rows=[3, 14])))
    assert "10 images of the 12 rows of the source, in 2 classes: cat, dog." in shown
    assert "unreadable: truncated: 2" in shown
    assert "palette: 3" in shown
    assert "4 of them are published unchanged" in shown
    assert "original of rows 3, 14" in shown


def test_one_class_and_one_row_are_not_several() -> None:
    shown = text(render(facts(unprotected_rows=1, class_names=["cat"])))
    assert "in 1 class: cat." in shown
    assert "1 of them is published unchanged" in shown


def test_nothing_is_said_of_what_there_is_none() -> None:
    card = render(
        facts(rows=10, quarantined={}, conversions={}, flags=[], class_names=[], pictures=[])
    )
    for absent in ("Left out", "Converted", "Reasons to doubt", ", in ", "![", "unchanged**"):
        assert absent not in body(card)


def test_an_unverified_release_has_no_figures_to_doubt() -> None:
    card = body(render(facts(measured=[], gate=None, flags=["No licence is known."])))
    assert "### Further cautions\n\n- No licence is known." in card
    assert "Reasons to doubt" not in card


def test_what_is_typed_can_be_read_in_the_file_itself() -> None:
    tried = [measured(countermeasure="jpeg:quality=10")]
    card = body(
        render(facts(measured=tried, releases=[release(budget="l2:1.304", measured=tried)]))
    )
    assert "| `l2:1.304` |" in card
    assert "| `jpeg:quality=10` |" in card
    assert "resnet10-w16 with `jpeg:quality=10`: 17.2 %" in card


def test_only_the_first_of_many_classes_are_listed() -> None:
    shown = text(render(facts(class_names=[f"class {n}" for n in range(1000)])))
    assert "in 1,000 classes: class 0, class 1," in shown
    assert "class 49 and 950 more." in shown


def test_a_folder_is_loaded_by_its_path_and_tars_by_webdataset() -> None:
    card = render(facts(repo_id=None, tar_files=["webdataset/train/r0001-*.tar"]))
    assert 'load_dataset("path/to/this/folder", split="train", streaming=True)' in card
    assert "snapshot_download" not in card
    assert "webdataset.WebDataset(tars" in card
    assert "webdataset" not in body(render(facts())).lower()


def test_code_of_the_card_is_python() -> None:
    tars = ["webdataset/train/r0001-*.tar"]
    for repo_id in ("museum/photographs", None):
        card = render(facts(repo_id=repo_id, tar_files=tars))
        blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
        assert len(blocks) == 2
        for block in blocks:
            compile(block, "card", "exec")


def test_limits_are_stated_and_nothing_is_promised() -> None:
    shown = text(render(facts())).lower()
    for limit in ("whoever has the originals", "jpeg", "clean labelled images", "other uses"):
        assert limit in shown
    assert not [
        word for word in ("secure", "guarantee", "impossible", "unlearnable") if word in shown
    ]


def test_sources_are_cited() -> None:
    card = render(facts())
    assert "@inproceedings{chen2023," in card
    assert "@misc{museum2026," in card
    assert "Licence: cc-by-4.0." in text(card)
    assert "licence of the source is not known" in render(facts(license="unknown"))


def test_the_text_has_no_holes() -> None:
    for made in (
        facts(),
        facts(measured=[], gate=None),
        facts(source_citation=None, flags=[], source_is_public=True),
        grown(),
        grown(measured=[], gate=None, sampled=None, repo_id=None, before=None),
        facts(measured=[measured(clean=None)], verified=[verification()]),
    ):
        card = body(render(made))
        assert "None" not in card.replace("None of them", "")
        assert "\n\n\n\n" not in card
        assert "Undefined" not in card
