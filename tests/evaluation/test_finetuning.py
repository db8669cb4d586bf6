"""Victims that start from weights of elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from misled import RECIPE, coloured, net, scored, setting, tried

from crafting.batch import PixelSplit
from crafting.nets import Net, build
from crafting.training import Recipe
from evaluation.countermeasures import parse


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
