"""Image and label are found; nothing that could carry the originals is published by accident."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Array2D, Audio, ClassLabel, Features, Image, List, Value

from release.columns import (
    Columns,
    check_kept_value,
    classes_of_numbers,
    declared_classes,
    find_image,
    find_label,
    kept_columns,
)
from release.errors import InputError

FEATURES = Features(
    {
        "id": Value("int32"),
        "photo": Image(),
        "thumbnail": Image(),
        "kind": ClassLabel(names=["cat", "dog"]),
        "age": Value("int64"),
        "weight": Value("float32"),
        "indoors": Value("bool"),
        "where": Value("string"),
        "raw": Value("binary"),
        "embedding": List(Value("float32")),
        "mask": Array2D((2, 2), "uint8"),
        "voice": Audio(),
        "taken": Value("timestamp[s]"),
        "nested": {"bytes": Value("binary")},
    }
)
PLAIN = ["id", "kind", "age", "weight", "indoors", "where"]
CARRIERS = ["thumbnail", "raw", "embedding", "mask", "voice", "taken", "nested"]


def test_the_first_image_and_the_first_class_label_are_meant() -> None:
    assert find_image(FEATURES, None) == "photo"
    assert find_label(FEATURES, None) == "kind"


def test_named_columns_are_taken_instead() -> None:
    assert find_image(FEATURES, "thumbnail") == "thumbnail"
    assert find_image(FEATURES, "raw") == "raw"
    assert find_label(FEATURES, "age") == "age"


def test_a_source_without_images_lists_what_it_has() -> None:
    with pytest.raises(InputError, match=r"age \(int64\).*--image-column"):
        find_image(Features({"age": Value("int64")}), None)


def test_a_source_without_labels_is_fine() -> None:
    assert find_label(Features({"photo": Image()}), None) is None


@pytest.mark.parametrize("find", [find_image, find_label])
def test_a_misspelt_column_lists_the_real_ones(find: Any) -> None:
    with pytest.raises(InputError, match=r"'phot'.*photo \(Image\)"):
        find(FEATURES, "phot")


def test_a_column_of_the_wrong_type_is_refused() -> None:
    with pytest.raises(InputError, match="no image files"):
        find_image(FEATURES, "age")
    with pytest.raises(InputError, match="no labels"):
        find_label(FEATURES, "weight")


def test_names_of_classes_are_told_how_to_become_labels() -> None:
    with pytest.raises(InputError, match=r"no labels.*class_encode_column\('where'\)"):
        find_label(FEATURES, "where")
    with pytest.raises(InputError, match=r"^(?!.*class_encode_column)"):
        find_label(FEATURES, "weight")


def test_class_names_come_from_the_feature_or_are_still_to_be_counted() -> None:
    assert declared_classes(FEATURES, "kind") == ("cat", "dog")
    assert declared_classes(FEATURES, "age") is None
    assert declared_classes(FEATURES, None) == ()


def test_numbers_without_a_gap_name_the_classes() -> None:
    assert classes_of_numbers([2, 0, None, 1, 1, -1], "age") == ("0", "1", "2")


@pytest.mark.parametrize(("labels", "missing"), [([0, 2], 1), ([1, 2], 0), ([None, -1], 0)])
def test_numbers_with_a_gap_are_refused(labels: list[int | None], missing: int) -> None:
    with pytest.raises(InputError, match=f"none is {missing};"):
        classes_of_numbers(labels, "age")


def test_nothing_is_kept_unasked() -> None:
    assert kept_columns(FEATURES, ("photo", None), (), ()) == {}


def test_plain_columns_are_kept_as_they_are() -> None:
    kept = kept_columns(FEATURES, ("photo", None), PLAIN, ())
    assert Features.from_dict(kept) == Features({name: FEATURES[name] for name in PLAIN})


@pytest.mark.parametrize("name", CARRIERS)
def test_what_could_carry_the_originals_is_refused_unless_insisted_on(name: str) -> None:
    with pytest.raises(InputError, match=f"--keep-clean-column {name}"):
        kept_columns(FEATURES, ("photo", "kind"), [name], ())
    kept = kept_columns(FEATURES, ("photo", "kind"), (), [name])
    assert Features.from_dict(kept) == Features({name: FEATURES[name]})


def test_image_and_label_cannot_be_kept_again() -> None:
    with pytest.raises(InputError, match="published anyway"):
        kept_columns(FEATURES, ("photo", "kind"), ["kind"], ())
    with pytest.raises(InputError, match="published anyway"):
        kept_columns(FEATURES, ("photo", "kind"), (), ["photo"])


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org/cat",
        "see s3://bucket/cat",
        "www.example.org",
        "data:image/png;base64,AAAA",
        "/srv/photos/cat",
        "./cat",
        "..\\cat",
        "C:\\photos\\cat",
        "~/cat",
        "photos/cat.jpeg",
        "IMG 0001.JPG",
        "archive.tar",
        "x" * 257,
    ],
)
def test_strings_that_lead_to_the_originals_are_found(value: str) -> None:
    with pytest.raises(InputError, match=r"column 'note' in row 7 .*--keep-clean-column note"):
        check_kept_value("note", value, 7)


def test_names_of_classes_that_lead_to_the_originals_are_found() -> None:
    features = Features({"src": ClassLabel(names=["a", "https://clean.example/0.png"])})
    with pytest.raises(InputError, match=r"class 1 looks like a URL .*--keep-clean-column src"):
        kept_columns(features, (), ["src"], ())
    assert list(kept_columns(features, (), (), ["src"])) == ["src"]
    assert list(kept_columns(features, (), ["src"], ["src"])) == ["src"]


@pytest.mark.parametrize(
    "value",
    [
        "a cat",
        "and/or",
        "AC/DC live",
        "n/a",
        "3.5",
        "",
        "v1.2",
        "e.g. a dog",
        None,
        3,
        0.5,
        "é" * 256,
    ],
)
def test_plain_values_pass(value: object) -> None:
    check_kept_value("note", value, 0)


def test_features_of_a_release_are_image_label_and_kept_in_this_order() -> None:
    kept = kept_columns(FEATURES, ("photo", "kind"), ["age"], ())
    features = Columns("photo", "kind", ("cat", "dog"), kept).features()
    assert list(features) == ["photo", "kind", "age"]
    assert features["photo"] == Image()
    assert features["kind"].names == ["cat", "dog"]
    assert Columns("photo", None).features() == Features({"photo": Image()})
