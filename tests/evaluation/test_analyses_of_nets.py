"""Analyses that train nets, against figures worked out in another way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from materials import CPU, Saying, coloured, ignored, material
from torch import Tensor, nn

from crafting.batch import PixelSplit
from crafting.nets import Net, build
from evaluation.analyses import Material, parse
from evaluation.analyses.gradient_cosine import LossName, mean_cosines, row_loss
from evaluation.analyses.learning_curves import divided
from evaluation.analyses.premise import Memory
from evaluation.analyses.randomness import (
    average_randomness,
    prediction_randomness,
    probabilities,
)
from evaluation.analyses.target_hits import hits
from evaluation.analyses.trainings import Checkpoint, checkpoints, trained

TURNED = 2


@pytest.fixture(scope="module")
def swapped() -> Material:
    """Protected images have the colour of the class after the next, and their own label."""
    return material(coloured(240, 1, turned=TURNED), coloured(240, 2))


@pytest.fixture(scope="module")
def learnable() -> Material:
    """The same with enough rows and epochs to be learnt."""
    return material(coloured(400, 1, turned=TURNED), coloured(400, 2), epochs=10)


def scripted(monkeypatch: pytest.MonkeyPatch, module: str, nets: list[nn.Module]) -> list[Any]:
    """A training is that list of nets, one after each epoch; what each was given is returned."""
    given: list[Any] = []

    def train(on: Material, name: str, split: PixelSplit, progress: Any, watch: Any = None) -> Any:
        given.append(split)
        for epoch, net in enumerate(nets if watch else [], 1):
            watch(epoch, net)
        return nets[-1]

    monkeypatch.setattr(f"evaluation.analyses.{module}.trained", train)
    return given


def linear(width: int, seed: int, features: int = 5, classes: int = 4) -> Net:
    """A net without any nonlinearity, whose 4-pixel images are not resized."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Flatten(), nn.Linear(width, features, bias=False))
    return Net(body, nn.Linear(features, classes), 4).requires_grad_(False)


@pytest.mark.parametrize("loss", ["alignment", "cross-entropy"])
def test_cosines_are_those_of_gradients_worked_out_by_hand(loss: LossName) -> None:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (9, 3, 4, 4), dtype=np.uint8)
    split = PixelSplit(pixels, np.arange(9), np.arange(9) % 4, 4)
    nets = [linear(48, seed) for seed in range(3)]
    losses = [row_loss(net, loss, split, material(split, split)) for net in nets]
    found = mean_cosines(losses, split, CPU).numpy()
    by_hand = [gradients(net, split, loss) for net in nets]
    for i, j in np.ndindex(3, 3):
        cosines = [
            abs(a @ b) / np.sqrt((a @ a) * (b @ b))
            for a, b in zip(by_hand[i], by_hand[j], strict=True)
        ]
        assert found[i, j] == pytest.approx(np.mean(cosines), abs=1e-5)
    assert found[0, 1] < 0.9


def gradients(net: Net, split: PixelSplit, loss: LossName) -> np.ndarray:
    """(N,D): of the loss that pulls each image to the class two further, with respect to it."""
    inner = net.body[1].weight.double().numpy()  # type: ignore[index]
    x = (split.pixels.reshape(len(split), -1) / 255 - 0.5) / 0.25
    features = x @ inner.T
    assert split.targets is not None
    wanted = (split.targets + 2) % 4
    if loss == "alignment":
        centres = np.stack([features[split.targets == k].mean(0) for k in range(4)])
        return (features - centres[wanted]) @ inner
    outer, bias = net.head.weight.double().numpy(), net.head.bias.double().numpy()
    powers = np.exp(features @ outer.T + bias)
    surplus = powers / powers.sum(1, keepdims=True) - np.eye(4)[wanted]
    return surplus @ outer @ inner


def test_checkpoints_of_one_net_and_the_ends_of_others_are_compared(swapped: Material) -> None:
    analysis = parse("gradient-cosine:images=40,checkpoints=3,nets=vgg-w16+resnet10-w16")
    found = analysis.run(swapped, ignored)
    assert found.labels == [
        "vgg-w16 after epoch 2",
        "vgg-w16 after epoch 4",
        "vgg-w16 after epoch 6",
        "resnet10-w16 after epoch 6",
    ]
    matrix = np.array(found.matrix)
    assert np.allclose(matrix, matrix.T)
    assert np.allclose(np.diag(matrix), 1)
    own = [matrix[0, 1], matrix[0, 2], matrix[1, 2]]
    assert all(0 < value < 1 for value in [*own, matrix[2, 3]])
    assert found.figures["checkpoints"] == pytest.approx(np.mean(own))
    assert found.figures["architectures"] == pytest.approx(matrix[2, 3])
    shown = f"{np.mean(own):.2f} between 3 checkpoints of one vgg-w16, {matrix[2, 3]:.2f} between"
    assert shown in found.sentence
    assert found.sentence.startswith("In nets that trained on the clean images the gradients")


def test_one_net_alone_has_nothing_to_be_compared_with(swapped: Material) -> None:
    analysis = parse("gradient-cosine:images=4,checkpoints=1,nets=vgg-w16")
    found = analysis.run(swapped, ignored)
    assert set(found.figures.values()) == {None}
    assert found.matrix == [[pytest.approx(1)]]


def test_without_clean_images_gradients_are_those_of_nets_of_the_release(swapped: Material) -> None:
    analysis = parse("gradient-cosine:images=4,checkpoints=2,nets=vgg-w16")
    found = analysis.run(replace(swapped, clean=None, epochs=2), ignored)
    assert found.sentence.startswith("In nets that trained on this release the gradients")


def test_checkpoints_are_equidistant_and_the_last_is_the_end(swapped: Material) -> None:
    split = coloured(40, 1)
    kept = checkpoints(swapped, "vgg-w16", split, 3, ignored)
    assert [each.epoch for each in kept] == [2, 4, 6]
    end = trained(swapped, "vgg-w16", split, ignored)
    assert same(kept[-1].net, end)
    assert not same(kept[0].net, end)
    assert not any(each.net.training for each in kept)
    assert len(checkpoints(swapped, "vgg-w16", split, 9, ignored)) == 6


def same(one: nn.Module, other: nn.Module) -> bool:
    there = other.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.state_dict().items())


def test_nets_start_from_the_seed_but_never_as_a_surrogate_that_was_given_it(
    monkeypatch: pytest.MonkeyPatch, swapped: Material
) -> None:
    started: list[int] = []

    def noted(name: str, num_classes: int, net_size: int, seed: int) -> Net:
        started.append(seed)
        return build(name, num_classes, net_size, seed)

    monkeypatch.setattr("evaluation.analyses.trainings.build", noted)
    for seed in (0, 1, 0):
        given = replace(swapped, seed=seed, epochs=1)
        trained(given, "vgg-w16", coloured(8, 1), ignored)
    first, other, again = started
    assert first == again != other
    assert not {first, other} & {0, 1}


def test_memory_keeps_what_was_right_once() -> None:
    memory = Memory(4)
    for right in ([1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1]):
        memory.note(np.array(right, dtype=bool))
    assert memory.right == [0.25, 0.25, 0.5]
    assert memory.ever == [0.25, 0.5, 0.75]


def test_the_premise_asks_after_every_epoch_of_training_on_clean_images(
    monkeypatch: pytest.MonkeyPatch, swapped: Material
) -> None:
    """The first answers by colour, so is wrong on every protected image; the second is right on
    protected images of class 2 and on clean ones of class 1."""
    nets = [Saying([0, 1, 2, 3]), Saying([2, 1, 3, 0])]
    given = scripted(monkeypatch, "premise", nets)
    found = parse("premise:nets=vgg-w16,images=200").run(swapped, ignored)
    assert given == [swapped.clean]
    labels = swapped.sample(swapped.protected, 200).numbered()[1]
    share = np.mean(labels == 2)
    assert share != np.mean(labels == 1)
    assert found.curves["vgg-w16 protected"] == [0, pytest.approx(share)]
    assert found.curves["vgg-w16 protected ever"] == [0, pytest.approx(share)]
    assert found.curves["vgg-w16 clean"] == [1, pytest.approx(np.mean(labels == 1))]
    assert found.curves["vgg-w16 clean ever"] == [1, 1]
    assert found.figures == {name: curve[-1] for name, curve in found.curves.items()}


def test_images_that_look_like_another_class_are_not_recognised(learnable: Material) -> None:
    found = parse("premise:nets=vgg-w16").run(learnable, ignored)
    assert found.figures["vgg-w16 clean"] > 0.9
    assert found.figures["vgg-w16 protected"] < 0.1
    assert [len(curve) for curve in found.curves.values()] == [10] * 4


def test_hits_count_the_commonest_wrong_class_of_each_true_class() -> None:
    counts = np.array([[5, 3, 2], [0, 9, 1], [4, 4, 2]])
    assert hits(counts) == pytest.approx((3 + 1 + 4) / 30)
    assert hits(np.diag([3, 3, 3])) == 0


def test_all_checkpoints_are_asked_for_target_hits(
    monkeypatch: pytest.MonkeyPatch, swapped: Material
) -> None:
    """The first answers by colour, so takes each protected image for the class two further; the
    second always answers 0."""
    given: list[Any] = []

    def made(on: Material, name: str, split: PixelSplit, count: int, progress: Any) -> Any:
        given.append((split, count))
        nets = [Saying([0, 1, 2, 3]), Saying([0, 0, 0, 0])]
        return [Checkpoint(name, epoch, net) for epoch, net in enumerate(nets)]  # type: ignore[arg-type]

    monkeypatch.setattr("evaluation.analyses.target_hits.checkpoints", made)
    found = parse("target-hits:checkpoints=2").run(swapped, ignored)
    assert given == [(swapped.clean, 2)]
    matrix = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [2, 0, 0, 0], [1, 1, 0, 0]]) / 2
    assert np.allclose(found.matrix, matrix)
    assert found.figures["hits"] == pytest.approx((1 + 1 + 2 + 1) / 8)
    assert found.figures["right"] == pytest.approx(1 / 8)
    assert found.figures["clean hits"] == pytest.approx(3 / 8)
    assert found.figures["clean right"] == pytest.approx(5 / 8)


def test_clean_trained_nets_hit_the_class_that_protected_images_look_like(
    learnable: Material,
) -> None:
    found = parse("target-hits:checkpoints=1").run(learnable, ignored)
    matrix = np.array(found.matrix)
    assert matrix.argmax(1).tolist() == [(k + TURNED) % 4 for k in range(4)]
    assert found.figures["hits"] > found.figures["clean hits"] + 0.2


def test_learning_curves_hold_out_a_tenth_of_the_protected_rows(
    monkeypatch: pytest.MonkeyPatch, swapped: Material
) -> None:
    nets = [Saying([0, 1, 2, 3]), Saying([2, 3, 1, 0])]
    given = scripted(monkeypatch, "learning_curves", nets)
    found = parse("learning-curves").run(swapped, ignored)
    learnt, held_out = divided(swapped.protected, 0.1, swapped.seed)
    assert given[0].numbered()[0].tolist() == learnt.numbered()[0].tolist()
    shares = [np.mean(np.isin(split.numbered()[1], [2, 3])) for split in (learnt, held_out)]
    assert found.curves == {
        "train": [0, pytest.approx(shares[0])],
        "held out": [0, pytest.approx(shares[1])],
        "test": [1, 0],
    }
    assert found.figures["gap"] == pytest.approx(shares[0])
    assert found.figures["gap to held out"] == pytest.approx(shares[0] - shares[1])
    assert "also tells an attentive appropriator" in found.sentence


def test_rows_are_either_learnt_or_held_out_and_drawn() -> None:
    learnt, held_out = (set(s.numbered()[0].tolist()) for s in divided(coloured(50, 1), 0.1, 0))
    assert len(held_out) == 5
    assert learnt == set(range(50)) - held_out
    assert held_out != set(range(5))
    other = divided(coloured(50, 1), 0.1, 1)[1].numbered()[0]
    assert set(other.tolist()) != held_out
    assert len(divided(coloured(4, 1), 0.1, 0)[1]) == 1


def test_a_victim_of_misleading_images_learns_them_and_not_clean_ones(learnable: Material) -> None:
    found = parse("learning-curves").run(learnable, ignored)
    assert found.figures["train"] > 0.9
    assert found.figures["held out"] > 0.9
    assert found.figures["test"] < 0.1
    assert found.figures["gap"] > 0.8
    assert abs(found.figures["gap to held out"]) < 0.1


def test_even_answers_have_no_distance_from_guessing_and_certain_ones_the_most() -> None:
    assert average_randomness(torch.full((7, 4), 0.25)) == 0
    assert average_randomness(torch.eye(4)) == pytest.approx(3 / 16)
    labels = torch.arange(8) % 2
    assert prediction_randomness(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), labels, 4) == 0
    assert prediction_randomness(1 - labels, labels, 4) == pytest.approx(3 / 16)


def test_randomness_is_that_of_a_loop_over_images_and_classes() -> None:
    generator = np.random.default_rng(0)
    answers = generator.dirichlet(np.ones(5), 30)
    labels = generator.choice([0, 1, 3], 30, p=[0.2, 0.5, 0.3])
    assert average_randomness(torch.from_numpy(answers)) == pytest.approx(
        sum(sum((p - 1 / 5) ** 2 for p in row) / 5 for row in answers) / 30
    )
    total = 0.0
    for label in labels:
        given = answers.argmax(1)[labels == label]
        shares = [np.mean(given == k) for k in range(5)]
        total += sum((share - 1 / 5) ** 2 for share in shares) / 5
    found = prediction_randomness(torch.from_numpy(answers.argmax(1)), torch.from_numpy(labels), 5)
    assert found == pytest.approx(total / 30)


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4])).expand(len(x), 4)


def test_probabilities_are_the_softmax_of_every_test_row(
    monkeypatch: pytest.MonkeyPatch, swapped: Material
) -> None:
    monkeypatch.setattr("evaluation.analyses.randomness._BATCH", 30)
    answers, labels = probabilities(Fixed(), swapped.test, CPU)  # type: ignore[arg-type]
    assert answers.shape == (80, 4)
    assert np.allclose(answers, [0.1, 0.2, 0.3, 0.4])
    assert labels.tolist() == swapped.test.numbered()[1].tolist()  # type: ignore[union-attr]
    given = scripted(monkeypatch, "randomness", [Fixed()])
    found = parse("randomness").run(swapped, ignored).figures
    assert given == [swapped.protected, swapped.clean]
    assert found["protected dar"] == found["clean dar"] == pytest.approx(0.05 / 4)
    assert found["protected r_p"] == pytest.approx(3 / 16)


def test_a_victim_of_misleading_images_is_certain_of_wrong_answers(learnable: Material) -> None:
    found = parse("randomness").run(learnable, ignored).figures
    assert found["of certain answers"] == pytest.approx(3 / 16)
    assert 0.1 < found["protected dar"] < 3 / 16
    assert 0.1 < found["clean dar"] < 3 / 16
