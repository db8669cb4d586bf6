"""Countermeasures that own clean images or learn other representations, on images whose class is
their colour."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crafting.batch import PixelSplit
from crafting.contrastive import nt_xent, view
from crafting.nets import Net, build
from crafting.training import EpochStats, Hooks, Predictor, Recipe, predict, train
from evaluation.countermeasures import Setting, parse
from evaluation.countermeasures.knn import _CHUNK, _Vote
from evaluation.countermeasures.ortho_proj import _logistic_weights, projected
from evaluation.countermeasures.refit_head import features_of, fit_head
from evaluation.scoring import accuracy
from evaluation.trial import Outcome, TrialSpec
from evaluation.verify import Splits, run

CPU = torch.device("cpu")
COLOURS = np.array([[220, 30, 30], [30, 220, 30], [30, 30, 220], [200, 200, 40]])
RECIPE = Recipe(3, batch_size=50, lr=0.2)
ALL = ["refit-head", "dfr", "renamed", "early-stop", "finetune", "simclr", "knn", "ortho-proj"]
WITH_CLEAN_IMAGES = ["refit-head", "dfr", "renamed", "early-stop", "simclr:clean=4"]


def coloured(count: int, seed: int, shift: int = 0) -> PixelSplit:
    """Images (3,16,16) of four colours; with a shift they are labelled as the next colour."""
    generator = np.random.default_rng(seed)
    colours = np.arange(count) % 4
    noise = generator.normal(0, 30, (count, 3, 16, 16))
    pixels = np.clip(COLOURS[colours][:, :, None, None] + noise, 0, 255).astype(np.uint8)
    return PixelSplit(pixels, np.arange(count), (colours + shift) % 4, 4)


def setting(owned: PixelSplit | None = None, recipe: Recipe = RECIPE) -> Setting:
    return Setting(4, "protected", recipe, CPU, seed=0, owned=owned)


def net(seed: int = 0) -> Net:
    return build("vgg-w16", 4, 16, seed)


def scored(predictor: Predictor, split: PixelSplit) -> float:
    predicted, labels = predict(predictor, split, CPU)
    return accuracy(predicted.numpy(), labels.numpy())


def tried(
    text: str, split: PixelSplit, owned: PixelSplit | None = None, recipe: Recipe = RECIPE
) -> tuple[Net, Predictor]:
    made, victim = parse(text), net()
    recipe = made.recipe(recipe)
    hooks = made.hooks(setting(owned, recipe))
    return victim, train(victim, split, recipe, device=CPU, seed=1, hooks=hooks)


@pytest.fixture(scope="module")
def misled() -> tuple[Net, PixelSplit]:
    """A net that learnt every colour under the next one's name, and what it learnt from."""
    victim, split = net(), coloured(400, 1, shift=1)
    train(victim, split, RECIPE, device=CPU, seed=1)
    assert scored(victim, coloured(80, 2)) < 0.1
    return victim, split


def healed(text: str, misled: tuple[Net, PixelSplit]) -> tuple[Net, Predictor]:
    """The net after the countermeasure's last hook, and the predictor."""
    victim, split = copy.deepcopy(misled[0]).eval(), misled[1]
    hooks = parse(text).hooks(setting(coloured(40, 3)))
    return victim, hooks.finish(victim, split, train)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["renamed", "refit-head", "dfr"])
def test_a_few_clean_images_heal_a_net_that_learnt_other_names(
    text: str, misled: tuple[Net, PixelSplit]
) -> None:
    victim, predictor = healed(text, misled)
    assert scored(predictor, coloured(80, 2)) > 0.9
    for name, value in misled[0].body.state_dict().items():
        assert torch.equal(victim.body.state_dict()[name], value)


@pytest.mark.parametrize("text", ["refit-head", "dfr"])
def test_the_last_layer_is_fitted_from_nothing(text: str, misled: tuple[Net, PixelSplit]) -> None:
    spoilt = copy.deepcopy(misled[0])
    torch.nn.init.constant_(spoilt.head.weight, 50.0)
    heads = [healed(text, (victim, misled[1]))[0].head.weight for victim in (misled[0], spoilt)]
    assert torch.equal(*heads)


def test_renaming_permutes_the_logits_and_nothing_else(misled: tuple[Net, PixelSplit]) -> None:
    victim, predictor = healed("renamed", misled)
    x = next(coloured(8, 4).batches(8)).x
    with torch.no_grad():
        assert torch.equal(predictor(x), victim(x)[:, [1, 2, 3, 0]])


def test_the_fitted_head_is_scikit_learns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(0)
    features = generator.normal(3, [0.1, 1, 5, 0], (60, 4)).astype(np.float32)
    labels = (features[:, 1] + generator.normal(0, 1, 60) > 3).astype(int) + (features[:, 2] > 6)
    victim = build("vgg-w16", 3, 16)
    victim.head = torch.nn.Linear(4, 3)
    fit_head(victim, torch.from_numpy(features), torch.from_numpy(labels))
    scaled = StandardScaler().fit_transform(features)
    expected = LogisticRegression(tol=1e-8).fit(scaled, labels).predict_proba(scaled)
    with torch.no_grad():
        found = victim.head(torch.from_numpy(features)).softmax(1).numpy()
    assert np.abs(found - expected).max() < 2e-3


def test_classes_that_nobody_owns_an_image_of_are_still_outputs(
    misled: tuple[Net, PixelSplit],
) -> None:
    victim = copy.deepcopy(misled[0])
    owned = coloured(40, 3)
    owned = owned.take([row for row in range(40) if row % 4 < 2])
    for text in ("refit-head", "dfr", "renamed"):
        hooks = parse(text).hooks(setting(owned))
        predictor = hooks.finish(victim, misled[1], train)  # type: ignore[arg-type]
        assert predictor(next(owned.batches(2)).x).shape == (2, 4)
        assert scored(predictor, owned) == 1


def test_features_are_those_of_evaluation_and_the_net_is_left_as_it_was(
    misled: tuple[Net, PixelSplit],
) -> None:
    victim = copy.deepcopy(misled[0]).train()
    before = copy.deepcopy(victim.state_dict())
    features, labels = features_of(victim, coloured(40, 3), CPU)
    assert victim.training
    assert all(torch.equal(before[name], value) for name, value in victim.state_dict().items())
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = victim.eval().features(next(coloured(40, 3).batches(40)).x)
    assert torch.equal(features, expected)
    assert labels.tolist() == [row % 4 for row in range(40)]


@pytest.mark.parametrize("rows", [200, 201])
def test_early_stopping_keeps_the_best_of_all_epochs(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Epoch 3 is best; 201 rows end in a batch of one, which is not trained on."""
    scores = iter([0.4, 0.2, 0.7, 0.7, 0.6])
    monkeypatch.setattr("evaluation.countermeasures.early_stop.accuracy", lambda *_: next(scores))
    recipe = replace(RECIPE, epochs=5)
    hooks = parse("early-stop").hooks(setting(coloured(20, 3)))
    victim, states = net(), []

    def keep(epoch: int, stats: object) -> None:
        states.append(copy.deepcopy(victim.state_dict()))

    train(victim, coloured(rows, 1), recipe, device=CPU, seed=1, hooks=hooks, on_epoch=keep)
    assert list(scores) == []
    for name, value in victim.state_dict().items():
        assert torch.equal(value, states[2][name])


def test_early_stopping_saves_a_net_from_what_spoils_it_later() -> None:
    """A hook outside turns labels around after the fifth epoch."""
    plain = parse("early-stop").hooks(setting(coloured(40, 3)))
    recipe = replace(RECIPE, epochs=8)
    finals = [_spoilt(hooks, recipe) for hooks in (Hooks(), plain)]
    assert finals[0] < 0.2
    assert finals[1] > 0.7


def _spoilt(hooks: Hooks, recipe: Recipe) -> float:
    steps = 0

    def augment(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal steps
        steps += 1
        return hooks.augment(x, y if steps <= 5 * 4 else (y + 1) % 4)

    victim = net()
    made = replace(hooks, augment=augment)
    predictor = train(victim, coloured(200, 1), recipe, device=CPU, seed=1, hooks=made)
    return scored(predictor, coloured(80, 2))


def test_early_stopping_changes_no_training() -> None:
    """Its evaluations draw nothing and leave the running statistics alone."""
    recipe = replace(RECIPE, epochs=2)
    plain = net()
    train(plain, coloured(100, 1), recipe, device=CPU, seed=1)
    curve = iter([0.1, 0.2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evaluation.countermeasures.early_stop.accuracy", lambda *_: next(curve))
        victim, _ = tried("early-stop", coloured(100, 1), coloured(20, 3), recipe)
    for name, value in plain.state_dict().items():
        assert torch.equal(victim.state_dict()[name], value)


@pytest.mark.parametrize("text", WITH_CLEAN_IMAGES)
def test_without_clean_images_it_says_what_to_give(text: str) -> None:
    assert parse(text).clean_images > 0
    with pytest.raises(ValueError, match="was given none: give a larger labelled test split"):
        parse(text).hooks(setting())


@pytest.mark.parametrize("text", ["refit-head:images=0", "dfr:images=-1", "renamed:images=0"])
def test_clean_images_are_counted_from_one(text: str) -> None:
    with pytest.raises(ValueError, match="images is a count of at least 1"):
        parse(text)


@pytest.fixture(scope="module")
def weights(misled: tuple[Net, PixelSplit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mine") / "net.safetensors"
    save_file({k: v.contiguous() for k, v in misled[0].state_dict().items()}, path)
    return path


def started(path: Path, **changes: object) -> Net:
    """A net after one tiny step from the weights of a file."""
    text = ",".join(f"{key}={value}" for key, value in {"weights": path, **changes}.items())
    recipe = Recipe(1, batch_size=8, lr=1e-6, weight_decay=0)
    return tried(f"finetune:{text}", coloured(8, 1), recipe=recipe)[0]


def test_finetuning_starts_from_the_weights_with_a_new_head(
    weights: Path, misled: tuple[Net, PixelSplit]
) -> None:
    victim = started(weights)
    for name, value in misled[0].body.named_parameters():
        assert torch.allclose(dict(victim.body.named_parameters())[name], value, atol=1e-4)
    assert torch.allclose(victim.head.weight, net().head.weight, atol=1e-4)


def test_a_frozen_extractor_stays_as_it_was_while_the_head_learns(
    weights: Path, misled: tuple[Net, PixelSplit]
) -> None:
    text = f"finetune:weights={weights},frozen=true,lr_share=1"
    victim, predictor = tried(text, coloured(200, 5))
    for name, value in misled[0].body.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(victim.body.state_dict()[name], value)
    assert scored(predictor, coloured(80, 2)) > 0.9


def test_a_body_that_is_not_frozen_learns(weights: Path, misled: tuple[Net, PixelSplit]) -> None:
    victim, _ = tried(f"finetune:weights={weights}", coloured(50, 5))
    assert not torch.equal(victim.body[0][0].weight, misled[0].body[0][0].weight)  # type: ignore[index]


def test_finetuning_takes_a_share_of_the_rate() -> None:
    assert parse("finetune:lr_share=0.25").recipe(RECIPE) == replace(RECIPE, lr=0.05)
    with pytest.raises(ValueError, match="lr_share is above 0"):
        parse("finetune:lr_share=0")


def test_checkpoints_of_torch_are_read_with_their_wrappings(
    tmp_path: Path, misled: tuple[Net, PixelSplit]
) -> None:
    state = {f"module.body.{k}": v for k, v in misled[0].body.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "run.pt")
    victim = started(tmp_path / "run.pt", frozen=True)
    assert torch.equal(victim.body[0][0].weight, misled[0].body[0][0].weight)  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "size", "fit"),
    [
        ("resnet18", 96, 1.0),
        ("resnet18", 32, 0.9),
        ("vgg16", 32, 1.0),
        ("densenet121", 32, 0.9),
    ],
)
def test_weights_of_torchvision_fit_its_nets(name: str, size: int, fit: float) -> None:
    """vgg16 for large images, with 500 MB, goes by the same rules as the others."""
    from torchvision import models

    from crafting.weights import fitting

    with torch.device("meta"):
        theirs = models.get_model("vgg16_bn" if name == "vgg16" else name).state_dict()
        own = build(name, 4, size).body.state_dict()
    assert fit <= len(fitting(theirs, own)) / len(own) <= 1


@pytest.mark.parametrize(
    ("written", "own"),
    [
        ("features.norm5.weight", "features.norm5.weight"),
        (
            "features.denselayer2.norm.1.bias",
            "features.denselayer2.norm1.bias",
        ),
        ("model.features.3.weight", "0.3.weight"),
        ("pre_logits.fc2.bias", "classifier.3.bias"),
    ],
)
def test_other_names_of_a_tensor_are_known(written: str, own: str) -> None:
    from crafting.weights import fitting

    assert list(fitting({written: torch.ones(2)}, {own: torch.zeros(2)})) == [own]
    assert not fitting({written: torch.ones(3)}, {own: torch.zeros(2)})


def test_a_linear_layer_written_as_a_convolution_fits() -> None:
    from crafting.weights import fitting

    written = torch.arange(24.0).view(2, 3, 2, 2)
    found = fitting({"pre_logits.fc1.weight": written}, {"classifier.0.weight": torch.ones(2, 12)})
    assert torch.equal(found["classifier.0.weight"], written.view(2, 12))


def _refusals() -> list[tuple[str, Callable[[Path], object], str]]:
    other = build("resnet10-w16", 4, 16)
    return [
        ("gone.pt", lambda path: None, "no such file"),
        ("text.pt", lambda path: path.write_text("hello"), "cannot be read as weights"),
        ("empty.pt", lambda path: path.touch(), "cannot be read as weights"),
        ("text.safetensors", lambda path: path.write_text("hi"), "cannot be read as weights"),
        ("code.pt", lambda path: torch.save({"w": print}, path), "cannot be read as weights"),
        ("none.pt", lambda path: torch.save([1], path), "hold no tensors"),
        ("other.pt", lambda path: torch.save(other.state_dict(), path), "give weights of its own"),
    ]


@pytest.mark.parametrize(("name", "write", "message"), _refusals())
def test_weights_that_do_not_serve_are_refused_by_name(
    name: str, write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as refused:
        started(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


def test_finetuning_without_a_file_says_what_to_write() -> None:
    with pytest.raises(ValueError, match="write finetune:weights=PATH"):
        parse("finetune").hooks(setting())


def test_an_extractor_that_lacks_a_layer_is_not_frozen(
    tmp_path: Path, misled: tuple[Net, PixelSplit]
) -> None:
    state = {k: v for k, v in misled[0].state_dict().items() if k != "body.0.0.weight"}
    torch.save(state, tmp_path / "part.pt")
    started(tmp_path / "part.pt")
    with pytest.raises(ValueError, match=r"lack 0\.0\.weight in the victim's shape"):
        started(tmp_path / "part.pt", frozen=True)


def test_reports_name_the_file_and_its_content_but_no_path(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    text = f"finetune:weights={path},frozen=True"
    assert str(parse(text)) == text
    assert parse(text).public == "finetune:weights=w.pt@missing,frozen=True"
    path.write_bytes(b"one")
    first = parse(text).public
    assert first == "finetune:weights=w.pt@7692c3ad,frozen=True"
    path.write_bytes(b"two")
    os.utime(path, ns=(0, 1))
    assert parse(text).public != first
    assert parse(first).public == first
    assert parse("finetune").public == "finetune"


def test_simclr_separates_colours_without_their_labels() -> None:
    split = coloured(400, 1)
    shuffled = replace(split, targets=np.random.default_rng(0).permutation(split.targets))
    recipe = replace(RECIPE, epochs=6)
    _, predictor = tried("simclr:clean=40", shuffled, coloured(40, 3), recipe)
    assert scored(predictor, coloured(80, 2)) > 0.9


def test_simclr_shows_two_views_of_every_image() -> None:
    x, y = next(coloured(6, 1).batches(6)).x, torch.full((6,), -1)
    views, labels = parse("simclr").hooks(setting()).augment(x, y)
    assert labels.tolist() == [-1] * 12
    for one, other, image in zip(views[:6], views[6:], x, strict=True):
        assert not torch.equal(one, other)
        assert not torch.equal(one, image)
        assert not torch.equal(other, image)


def test_simclr_brings_the_views_of_an_image_together() -> None:
    split = replace(coloured(40, 1), targets=None)
    made = parse("simclr:clean=8")
    hooks, losses = made.hooks(setting(coloured(8, 3))), []
    recipe = replace(made.recipe(RECIPE), epochs=8)

    def note(epoch: int, stats: EpochStats) -> None:
        losses.append(stats.loss)

    train(net(), split, recipe, device=CPU, seed=1, hooks=hooks, on_epoch=note)
    assert losses[0] == pytest.approx(math.log(79), abs=0.6)
    assert losses[-1] < losses[0] - 0.3


def test_the_probe_learns_from_the_releases_labels_unless_clean_images_are_given() -> None:
    recipe = replace(RECIPE, epochs=1)
    _, predictor = tried("simclr", coloured(200, 1, shift=1), recipe=recipe)
    assert scored(predictor, coloured(80, 2)) < 0.1
    assert scored(predictor, coloured(80, 2, shift=1)) > 0.9


def test_simclr_changes_the_body_and_its_projection_from_the_first_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = torch.nn.Linear(64, 128)
    before = made.weight.clone()
    monkeypatch.setattr("crafting.contrastive.projection_head", lambda features: made)
    victim, _ = tried("simclr", coloured(100, 1), recipe=replace(RECIPE, epochs=1))
    assert not torch.equal(victim.body[0][0].weight, net().body[0][0].weight)  # type: ignore[index]
    assert not torch.equal(made.weight, before)


def test_simclr_needs_labels_from_somewhere() -> None:
    split = replace(coloured(8, 1), targets=None)
    with pytest.raises(ValueError, match="try simclr:clean=1000"):
        tried("simclr", split)
    with pytest.raises(ValueError, match="temperature is above 0"):
        parse("simclr:temperature=0")
    with pytest.raises(ValueError, match="counts of at least 0"):
        parse("simclr:epochs=-1")


def test_simclr_has_batches_of_its_own_and_epochs_where_asked() -> None:
    own = replace(RECIPE, batch_size=512, augment=False)
    assert parse("simclr").recipe(RECIPE) == own
    assert parse("simclr:epochs=9").recipe(RECIPE) == replace(own, epochs=9)


def test_nt_xent_is_the_papers_formula() -> None:
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).double()
    expected = 0.0
    for i in range(6):
        alike = [math.exp(torch.cosine_similarity(z[i], z[k], dim=0) / 0.3) for k in range(6)]
        expected -= math.log(alike[(i + 3) % 6] / (sum(alike) - alike[i])) / 6
    assert nt_xent(z, 0.3).item() == pytest.approx(expected, rel=1e-5)


def test_nt_xent_of_one_image_is_nothing_but_can_be_descended() -> None:
    z = torch.randn(2, 5, requires_grad=True)
    loss = nt_xent(z, 0.5)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert torch.equal(z.grad, torch.zeros(2, 5))


def test_views_are_drawn_for_every_image() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one = torch.rand(3, 16, 12)
        views = view(one.expand(200, -1, -1, -1))
    assert views.shape == (200, 3, 16, 12)
    assert 0 <= views.min() <= views.max() <= 1
    assert len(views.flatten(1).unique(dim=0)) == 200
    grey = (views - views.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-6
    assert 0.12 < grey.float().mean() < 0.28


def test_views_change_brightness_contrast_saturation_and_hue_within_bounds() -> None:
    """Of a flat yellow a crop shows nothing else; a fifth has no jitter, four fifths no grey."""
    flat = torch.tensor([0.6, 0.55, 0.3])[:, None, None].expand(3, 4, 4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = view(flat.expand(500, -1, -1, -1))
    assert views.std((2, 3)).max() < 1e-5
    colours = views.mean((2, 3))
    luma = colours @ torch.tensor([0.299, 0.587, 0.114])
    assert 0.32 < luma.min() < 0.35  # 0.6 of 0.536
    assert 0.72 < luma.max() < 0.76  # 1.4 of it
    kept = (colours - flat[:, 0, 0]).abs().amax(1) < 1e-5
    assert 0.12 < kept.float().mean() < 0.2
    spread = (colours.amax(1) - colours.amin(1)) / luma
    plain = 0.3 / 0.5365
    assert 0.35 * plain < spread[spread > 1e-4].min() < 0.6 * plain
    assert 1.4 * plain < spread.max() < 1.9 * plain
    assert (colours[:, 1] > colours[:, 0] + 0.03).any()  # turned towards green
    assert (colours[:, 0] > 1.3 * colours[:, 1]).any()  # and towards red


def test_hues_turn_as_in_torchvision() -> None:
    from torchvision.transforms.v2.functional import adjust_hue

    from crafting.contrastive import turned

    x = torch.tensor([0.5, 0.45, 0.4])[:, None, None].expand(2, 3, 2, 2)
    found = turned(x, torch.tensor([0.1, -0.1]))
    for image, by in zip(found, (0.1, -0.1), strict=True):
        assert (image - adjust_hue(x[0], by)).abs().max() < 0.05


def test_a_view_of_one_channel_stays_one() -> None:
    assert view(torch.rand(3, 1, 8, 8)).shape == (3, 1, 8, 8)


def test_saturation_moves_colour_against_light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brightness and contrast move both alike."""
    monkeypatch.setattr("crafting.contrastive.cropped", lambda x: x)
    monkeypatch.setattr("crafting.contrastive.turned", lambda x, turns: x)
    image = torch.tensor([0.4, 0.35, 0.3])[:, None, None].repeat(1, 4, 4)
    image[:, :2] *= 0.8
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = torch.cat([image[None], view(image.expand(300, -1, -1, -1))])
    colour = views[:, 0, 3, 0] - views[:, 2, 3, 0]
    light = torch.einsum("c,bc->b", torch.tensor([0.299, 0.587, 0.114]), views[..., 3, 0])
    darker = torch.einsum("c,bc->b", torch.tensor([0.299, 0.587, 0.114]), views[..., 0, 0])
    ratios = colour / (light - darker)
    ratios = ratios[1:] / ratios[0]
    ratios = ratios[ratios > 0.01]  # but for grey ones
    assert 0.58 < ratios.min() < 0.65
    assert 1.35 < ratios.max() < 1.42


def test_contrast_keeps_the_mean_and_moves_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """With crops and all else out of the way the two halves of a grey image move together."""
    monkeypatch.setattr("crafting.contrastive.cropped", lambda x: x)
    halves = torch.full((100, 1, 4, 4), 0.4)
    halves[:, :, :2] = 0.5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        views = view(halves)
    ratios = (views[:, 0, 0, 0] - views[:, 0, 3, 0]) / views.mean((1, 2, 3)) / (0.1 / 0.45)
    assert 0.6 < ratios.min() < 0.65
    assert 1.35 < ratios.max() < 1.4


def test_crops_show_a_fifth_to_all_of_the_image_at_its_own_proportions() -> None:
    from crafting.contrastive import cropped

    with torch.random.fork_rng():
        torch.manual_seed(0)
        across = torch.linspace(0, 1, 32).expand(32, 32)
        views = cropped(torch.stack([across, across.T]).expand(500, 2, 32, 32))
    wide = views[:, 0, 0, -1] - views[:, 0, 0, 0]
    tall = views[:, 1, -1, 0] - views[:, 1, 0, 0]
    area, ratio = (wide * tall).abs(), (wide / tall).abs()
    assert 0.18 < area.min() < 0.24
    assert area.max() <= 1
    assert area.max() > 0.9
    assert 0.74 < ratio.min() < ratio.max() < 1.35
    assert 0.4 < (wide < 0).float().mean() < 0.6
    assert (tall > 0).all()


def test_neighbours_vote(misled: tuple[Net, PixelSplit]) -> None:
    _, predictor = healed("knn:neighbours=7", misled)
    x = next(coloured(8, 4).batches(8)).x
    votes = predictor(x)
    assert votes.shape == (8, 4)
    assert votes.sum(1).tolist() == [7.0] * 8
    assert scored(predictor, coloured(80, 2, shift=1)) > 0.9


def test_the_nearest_are_found_across_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(2 * _CHUNK + 100, 4, generator=generator)
    asked = torch.randn(5, 4, generator=generator)
    labels = torch.randint(10, (len(bank),), generator=generator)

    class Itself(torch.nn.Module):
        def features(self, x: Tensor) -> Tensor:
            return x

    with torch.autocast("cpu", torch.bfloat16):
        votes = _Vote(Itself(), bank, labels, 30, 10)(asked)  # type: ignore[arg-type]
    cosines = torch.cosine_similarity(asked[:, None], bank[None], dim=2)
    for row, cosine in enumerate(cosines):
        nearest = labels[cosine.argsort(descending=True)[:30]]
        assert votes[row].tolist() == nearest.bincount(minlength=10).tolist()


def test_there_are_no_more_neighbours_than_rows(misled: tuple[Net, PixelSplit]) -> None:
    hooks = parse("knn").hooks(setting())
    predictor = hooks.finish(misled[0], coloured(6, 1), train)  # type: ignore[arg-type]
    assert predictor(torch.rand(2, 3, 16, 16)).sum(1).tolist() == [6.0, 6.0]
    with pytest.raises(ValueError, match="neighbours is a count of at least 1"):
        parse("knn:neighbours=0")


def striped(count: int, seed: int, tint: float = 0) -> PixelSplit:
    """Stripes whose width and direction are the class, and whose place is not: no linear classifier
    tells them apart. A tint is a linear shortcut."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    at = np.arange(16) * 2 * np.pi / np.where(labels < 2, 4, 8)[:, None]
    wave = np.sin(at + generator.uniform(0, 2 * np.pi, (count, 1)))
    lying, standing = np.broadcast_arrays(wave[:, :, None], wave[:, None, :])
    stripes = np.where((labels % 2 == 0)[:, None, None], lying, standing)[:, None]
    pixels = 128 + 50 * stripes + tint * (COLOURS[labels] - 128)[:, :, None, None]
    noisy = pixels + generator.normal(0, 10, (count, 3, 16, 16))
    return PixelSplit(np.clip(noisy, 0, 255).astype(np.uint8), np.arange(count), labels, 4)


def test_projection_removes_a_linear_shortcut() -> None:
    release, test = striped(400, 1, tint=0.5), striped(80, 2)
    recipe = replace(RECIPE, epochs=6)
    finals = [
        scored(tried(text, release, recipe=recipe)[1], test) for text in ("none", "ortho-proj")
    ]
    assert finals[0] < 0.6
    assert finals[1] > 0.9


def test_a_projected_split_keeps_its_mean_and_little_that_is_linear() -> None:
    release = striped(400, 1, tint=0.5)
    left = projected(release, CPU)
    means = [
        np.stack([split.pixels[split.targets == k].mean((0, 2, 3)) for k in range(4)])
        for split in (release, left)
    ]
    assert np.abs(means[1].mean(0) - means[0].mean(0)).max() < 2
    apart = [np.linalg.norm(mean[:3] - mean[:3].mean(0), axis=1) for mean in means]
    assert (apart[1] < 0.2 * apart[0]).all()
    assert np.array_equal(left.numbered(), release.numbered())


def test_large_images_are_projected_as_small_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """In chunks, whose gradients make up a batch's; 1,100 rows are a whole batch and a part."""
    split = striped(1100, 1, tint=0.5)
    whole = projected(split, CPU).pixels.astype(int)
    monkeypatch.setattr("evaluation.countermeasures.ortho_proj._MOST_NUMBERS", 0)
    assert np.abs(projected(split, CPU).pixels - whole).max() <= 1


def test_the_regression_is_plain_gradient_descent_on_batches_of_1024() -> None:
    split = striped(1100, 1)
    layer = torch.nn.Linear(768, 4, bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [10, 15])
    for epoch in range(20):
        for batch in split.batches(1024, epoch):
            loss = torch.nn.functional.cross_entropy(layer(batch.x.flatten(1)), batch.labels())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    assert torch.allclose(_logistic_weights(split, CPU), layer.weight, atol=1e-4)


def tiny(channels: int, size: int) -> tuple[PixelSplit, PixelSplit]:
    """Two classes: 16 rows to learn from and 8 clean ones."""
    generator = np.random.default_rng(0)

    def split(count: int) -> PixelSplit:
        labels = np.arange(count) % 2
        pixels = generator.integers(0, 128, (count, channels, size, size))
        pixels = (pixels + 127 * labels[:, None, None, None]).astype(np.uint8)
        return PixelSplit(pixels, np.arange(count), labels, 2)

    return split(16), split(8)


def verified(text: str, weights: str, channels: int, size: int) -> Outcome:
    text = f"finetune:weights={weights}" if text == "finetune" else text
    spec = TrialSpec(
        victim="vgg-w16", countermeasure=text, seed=0, data="protected", preset="quick", epochs=2
    )
    learnt, test = tiny(channels, size)
    splits = Splits(learnt, test)
    return run(replace(spec, net_size=16), splits, device=CPU, progress=lambda share: None)


@pytest.mark.parametrize("text", ALL)
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 40)])
def test_the_smallest_release_is_tried_and_twice_alike(
    text: str, channels: int, size: int, weights: Path
) -> None:
    first, second = (verified(text, str(weights), channels, size) for _ in range(2))
    assert (first.final, first.confusion) == (second.final, second.confusion)
    assert [e.test_accuracy for e in first.curve] == [e.test_accuracy for e in second.curve]
    assert np.sum(first.confusion) == first.test_rows == (4 if parse(text).clean_images else 8)
