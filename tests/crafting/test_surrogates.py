from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from rounds import brought_down_after, same
from torch import Tensor

from crafting import surrogate
from crafting.batch import PixelSplit
from crafting.budget import Linf
from crafting.method import Context, Method
from crafting.nets import build
from crafting.registry import methods
from crafting.surrogate import CENTRES, SurrogateMethod, target_classes

Splits = Callable[..., PixelSplit]
Contexts = Callable[..., Context]


def _method(**changes: Any) -> SurrogateMethod:
    small: dict[str, Any] = {"surrogate_epochs": 4, "checkpoints": 2}
    method = configured("sep-fa", **small | changes)
    assert isinstance(method, SurrogateMethod)
    return method


def configured(name: str, **changes: Any) -> Method:
    return replace(methods()[name].quick, **changes)


def test_all_quick_methods_share_one_fit(split: PixelSplit) -> None:
    fitted = [m.quick for m in methods().values() if isinstance(m.quick, SurrogateMethod)]
    fitted.append(replace(fitted[0], budget=Linf(4)))
    keys = [SurrogateMethod.fit_key(m) for m in fitted]  # alignment adds to it
    assert len(fitted) >= 6
    assert all(key == keys[0] for key in keys)
    assert _method(surrogate="resnet10-w16").fit_key() != _method().fit_key()
    assert _method(surrogate_epochs=5).fit_key() != _method().fit_key()


def test_checkpoints_are_equidistant_and_the_last_is_the_end(
    split: PixelSplit, ctx: Context, in_float32: None
) -> None:
    every = _method(checkpoints=4).fit(split, ctx)
    some = _method(checkpoints=2).fit(split, ctx)
    for mine, theirs in (("00", "01"), ("01", "03")):
        for name in ("head.weight", "head.bias"):
            ours = some[f"checkpoint-{mine}/{name}"]
            assert torch.equal(ours, every[f"checkpoint-{theirs}/{name}"])
    assert not torch.equal(some["checkpoint-00/head.bias"], some["checkpoint-01/head.bias"])


def test_centres_are_class_means_of_clean_features(
    split: PixelSplit, ctx: Context, in_float32: None
) -> None:
    method = _method()
    state = method.fit(split, ctx)
    net = build(method.surrogate, 3, 16).eval()
    prefix = "checkpoint-01/"
    net.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    )
    batch = next(split.batches(48))
    with torch.no_grad():
        features = net.features(batch.x)
    expected = torch.stack([features[batch.labels() == c].mean(0) for c in range(3)])
    assert state[CENTRES].shape == (2, 3, 64)
    assert torch.allclose(state[CENTRES][1], expected, atol=1e-4)


def test_a_class_without_rows_is_given_the_middle_of_the_others(
    split: PixelSplit, context: Callable[..., Context]
) -> None:
    wider = replace(split, num_classes=4)
    centres = _method().fit(wider, context(wider))[CENTRES]
    assert centres.shape == (2, 4, 64)
    assert torch.allclose(centres[:, 3], centres[:, :3].mean(1), atol=1e-5)


def test_progress_is_told_by_epoch(split: PixelSplit, ctx: Context) -> None:
    told: list[tuple[int, int]] = []
    _method().fit(split, replace(ctx, progress=lambda done, total: told.append((done, total))))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_loaded_nets_are_those_that_were_kept(split: PixelSplit, ctx: Context) -> None:
    method = _method()
    state = method.fit(split, ctx)
    nets = method.load_checkpoints(state, ctx)
    x = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        first, last = (net(x) for net in nets)
        assert not torch.equal(first, last)
        assert torch.equal(method.load_last(state, ctx)(x), last)


@pytest.mark.parametrize("checkpoints", [0, 5])
def test_more_checkpoints_than_epochs_are_refused(checkpoints: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 4"):
        _method(checkpoints=checkpoints)


def test_a_misspelt_surrogate_is_told_the_nearest() -> None:
    with pytest.raises(ValueError, match="resnet18"):
        _method(surrogate="resent18")


def test_targets_go_round_or_follow_the_owner(ctx: Context) -> None:
    assert target_classes(replace(ctx, num_classes=5), 2).tolist() == [2, 3, 4, 0, 1]
    assert target_classes(replace(ctx, target_map=(2, 2, 0)), 1).tolist() == [2, 2, 0]


@pytest.mark.parametrize(
    ("name", "first", "rest"),
    [("sep-fa", 3, [4]), ("hypo", 3, [4]), ("ensemble", 7, list(range(8, 17)))],
)
def test_an_interrupted_fit_goes_on_to_the_same_state(
    name: str,
    first: int,
    rest: list[int],
    split: PixelSplit,
    kept: Context,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surrogate, "_SAVED_EVERY", 0.0)
    short: dict[str, Any] = {"surrogate_epochs": 4}
    method = configured(name, **short | ({} if name == "ensemble" else {"checkpoints": 2}))
    whole = method.fit(split, replace(kept, scratch=None))
    with pytest.raises(KeyboardInterrupt):
        method.fit(split, replace(kept, progress=brought_down_after(first)))
    told: list[int] = []
    noted = replace(kept, progress=lambda done, total: told.append(done))
    assert same(method.fit(split, noted), whole)
    assert told == rest
    assert same(method.fit(split, noted), whole)
    assert told == rest


def test_snapshots_of_a_surrogate_are_secret_and_not_made_at_every_epoch(
    split: PixelSplit, kept: Context
) -> None:
    assert kept.scratch is not None
    _method().fit(split, kept)
    (folder,) = kept.scratch.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "epoch-0002.safetensors",
        "epoch-0004.safetensors",
    }
    assert all(path.stat().st_mode & 0o77 == 0 for path in (folder, kept.scratch))


@pytest.mark.parametrize(
    ("name", "shift"),
    [("sep", 3), ("sep-fa", 3), ("sep-fa-mi", 3), ("ensemble", 3), ("tap", 1)],
)
def test_of_six_classes_each_is_pulled_where_the_paper_says(
    name: str, shift: int, toy_split: Splits, context: Contexts, in_float32: None
) -> None:
    """Half-way round or to the next, which are the same for three classes: its loss falls most."""
    split = toy_split(rows=24, classes=6)
    net, centres = build("vgg-w16", 6, 16, seed=0).eval(), torch.eye(6, 64)
    state = {CENTRES: centres[None], "centres/net-00": centres}
    for folder in ("checkpoint-00", "net-00"):
        state |= {f"{folder}/{key}": value for key, value in net.state_dict().items()}
    one = {"nets": "vgg-w16", "seeds": 1} if name == "ensemble" else {"checkpoints": 1}
    method = configured(name, steps=6, **one)
    batch = next(split.batches(24))
    crafted = method.crafter(state, context(split))(batch)

    def losses(x: Tensor, y: Tensor) -> Tensor:
        if "fa" in name:
            return (net.features(x) - centres[y]).square().mean(1)
        return F.cross_entropy(net(x), y, reduction="none")

    with torch.no_grad():
        targets = [(batch.labels() + k) % 6 for k in range(6)]
        falls = [(losses(batch.x, y) - losses(crafted, y)).mean().item() for y in targets]
    assert falls.index(max(falls)) == shift
    assert falls[shift] > 0
