"""What the card says of the pictures beside it."""

from __future__ import annotations

from release.facts import accuracy_caption, confusion_caption


def test_a_matrix_is_of_a_victim_a_countermeasure_and_a_seed() -> None:
    plain = "What the vgg16 trained on this release took clean test images for."
    assert confusion_caption("vgg16", "none", None) == plain
    assert confusion_caption("vgg16", "simclr:clean=1000", 2) == (
        "What the vgg16 trained on this release with simclr:clean=1000 (seed 2) took clean test "
        "images for."
    )


def test_curves_of_one_seed_of_several_say_so() -> None:
    assert accuracy_caption(1) == "Accuracy on clean test images after each epoch."
    assert accuracy_caption(3).endswith("after each epoch, from the first of 3 seeds.")
