from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from crafting.batch import Batch, PixelSplit
from crafting.budget import Linf
from crafting.contrastive import Contrast
from crafting.encoder import load_encoder, new_encoder
from crafting.method import Context, State
from crafting.methods import clusters
from crafting.methods.clusters import UnlearnableClusters, nearest
from crafting.nets import Net, build
from crafting.overlay import overlaid
from crafting.registry import configure, methods
from crafting.runner import protect

Contexts = Callable[..., Context]


def _uc(**changes: Any) -> UnlearnableClusters:
    tiny = {"surrogate_epochs": 2, "clusters": 3, "generator_blocks": 1, "generator_epochs": 3}
    method = replace(methods()["uc"].quick, **(tiny | changes))
    assert isinstance(method, UnlearnableClusters)
    return method


@pytest.fixture
def fitted(split: PixelSplit, ctx: Context) -> tuple[UnlearnableClusters, State]:
    return _uc(), _uc().fit(split, ctx)


def _shapes(net: Net, x: Tensor) -> np.ndarray:
    with torch.no_grad():
        return net.features(x).numpy()


def test_rows_go_where_scikit_learn_would_put_them(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.cluster import KMeans

    made: list[Any] = []
    original = KMeans.fit
    monkeypatch.setattr(KMeans, "fit", lambda means, x: made.append(means) or original(means, x))
    state = _uc(generator_epochs=1).fit(split, ctx)
    net = load_encoder("vgg-w16", state, ctx)
    unseen = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    found = nearest(net, unseen, state["clusters/centres"])
    assert found.tolist() == made[0].predict(_shapes(net, unseen)).tolist()
    inside = next(split.batches(48)).x
    found = nearest(net, inside, state["clusters/centres"])
    assert found.tolist() == made[0].labels_.tolist()
    assert len(found.unique()) == 3


def test_one_noise_is_laid_over_images_of_any_kind() -> None:
    noise = torch.tensor([[3.0, 6.0], [9.0, 12.0]]).expand(1, 3, 2, 2).clone()
    noise[:, 1] *= 2
    noise[:, 2] *= 3
    grey, colour = (
        overlaid(torch.zeros(2, 1, 2, 4), noise),
        overlaid(torch.zeros(1, 3, 4, 2), noise),
    )
    assert grey[0, 0].tolist() == grey[1, 0].tolist() == [[6, 6, 12, 12], [18, 18, 24, 24]]
    assert colour[0, 1].tolist() == [[6, 12], [6, 12], [18, 24], [18, 24]]


def test_centres_are_those_of_a_draw_where_there_are_very_many_rows(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.cluster import KMeans

    seen: list[int] = []
    original = KMeans.fit
    monkeypatch.setattr(KMeans, "fit", lambda means, x: seen.append(len(x)) or original(means, x))
    monkeypatch.setattr(clusters, "_CLUSTERED", 20)
    rows: list[list[int]] = []
    members = clusters._members

    def noted(*given: Any) -> list[list[int]]:
        rows.extend(members(*given))
        return rows

    monkeypatch.setattr(clusters, "_members", noted)
    _uc(generator_epochs=1).fit(split, ctx)
    assert seen == [20]
    assert sorted(row for each in rows for row in each) == list(range(48))


def test_a_generator_goes_down_its_cosine_in_as_many_epochs_as_the_share_of_rows_asks(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    joined: list[bool] = []

    class Noted(clusters.AdamW):
        def step(self, *given: Any) -> Any:
            rates.append(self.param_groups[0]["lr"])
            return super().step(*given)

    own = Contrast.step
    monkeypatch.setattr(Contrast, "step", lambda *at: joined.append(True) or own(*at))
    monkeypatch.setattr(clusters, "AdamW", Noted)
    share = replace(ctx, fit_share=0.5)
    _uc(generator_epochs=2, surrogate_epochs=2, generator_rate=0.1).fit(split, share)
    falling = [1e-6 + (0.1 - 1e-6) * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in range(4)]
    assert rates == pytest.approx(3 * falling)
    assert len(joined) == 4  # epochs of one batch, in each of which the projection head learns


def _divergence(state: State, ctx: Context, batch: Batch, noise: Tensor) -> list[float]:
    """Of each cluster's images with their noise from the next centre, as the paper writes it."""
    net, centres = load_encoder("vgg-w16", state, ctx), state["clusters/centres"]
    home = nearest(net, batch.x, centres)
    found = []
    for i in range(len(centres)):
        x = overlaid(batch.x[home == i], noise[i : i + 1]).clamp(0, 1)
        seen = torch.from_numpy(_shapes(net, x)).softmax(1)
        wanted = centres[(i + 1) % len(centres)].softmax(0)
        found.append((wanted * (wanted / seen).log()).sum(1).mean().item())
    return found


def test_each_noise_pulls_its_images_to_the_next_centre(split: PixelSplit, ctx: Context) -> None:
    method = _uc(generator_epochs=25)
    state, batch = method.fit(split, ctx), next(split.batches(48))
    noise = state["clusters/noise"]
    before = _divergence(state, ctx, batch, torch.zeros_like(noise))
    after = _divergence(state, ctx, batch, noise)
    swapped = _divergence(state, ctx, batch, noise.roll(1, 0))
    assert all(a < b for a, b in zip(after, before, strict=True))
    assert sum(after) < 0.8 * sum(before)
    assert sum(after) < sum(swapped)


def test_a_generators_loss_is_the_papers_and_sees_its_own_cluster_alone(
    split: PixelSplit, ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, float, float]] = []
    original = clusters._Pull.__call__

    def noted(pull: Any, x: Tensor, noise: Tensor) -> Tensor:
        loss = original(pull, x, noise)
        features = pull.net.features(overlaid(x, noise).clamp(0, 1)).detach()
        expected = F.kl_div(
            features.log_softmax(1).double(),
            pull.centre.softmax(0).double().expand_as(features),
            reduction="batchmean",
        )
        seen.append((len(x), loss.item(), expected.item()))
        return loss

    monkeypatch.setattr(clusters._Pull, "__call__", noted)
    _uc(generator_epochs=1).fit(split, ctx)
    assert [loss for _, loss, _ in seen] == pytest.approx([loss for _, _, loss in seen], rel=0.05)
    assert sum(count for count, _, _ in seen) == 48
    seen.clear()
    _uc(generator_epochs=1, trained_on="all").fit(split, ctx)
    assert [count for count, _, _ in seen] == [48, 48, 48]


def test_images_are_measured_from_their_centre_and_not_it_from_them() -> None:
    """Divergence is not the same both ways."""
    seen = torch.tensor([[0.0, 1.0, 5.0], [2.0, 2.0, 0.0]])
    net = SimpleNamespace(features=lambda x: seen)
    centre = torch.tensor([3.0, 0.0, 1.0])
    loss = clusters._Pull(net, centre)(torch.zeros(2, 3, 2, 2), torch.zeros(1, 3, 2, 2))  # type: ignore[arg-type]
    wanted = centre.softmax(0)
    apart = wanted * (wanted.log() - seen.softmax(1).log())
    assert loss.item() == pytest.approx(apart.sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 37, 21), (1, 50, 50), (1, 9, 9)])
def test_noise_stays_within_budget_at_any_size(
    fitted: tuple[UnlearnableClusters, State], ctx: Context, shape: tuple[int, ...]
) -> None:
    method, state = replace(fitted[0], budget=Linf(16)), fitted[1]
    assert state["clusters/noise"].abs().max() <= 16 / 255
    x = torch.full((4, *shape), 128 / 255)
    crafted = method.crafter(state, ctx)(Batch(torch.arange(4), x, None))
    delta = (crafted - x).abs()
    assert 0 < delta.max() <= 16 / 255 + 1e-6
    pixels = protect(method.crafter(state, ctx), method.budget, Batch(torch.arange(4), x, None))
    assert (pixels.int() - 128).abs().max() <= 16


def test_rows_of_one_cluster_get_one_noise(
    split: PixelSplit, ctx: Context, fitted: tuple[UnlearnableClusters, State]
) -> None:
    method, state = fitted
    batch = next(split.batches(48))
    home = nearest(load_encoder("vgg-w16", state, ctx), batch.x, state["clusters/centres"])
    delta = method.crafter(state, ctx)(batch) - batch.x
    for i in range(3):
        own = delta[home == i]
        assert torch.allclose(own, own[:1].expand_as(own), atol=1e-6)
        assert torch.allclose(own[0], state["clusters/noise"][i], atol=1e-6)


def test_labels_are_never_read(split: PixelSplit, ctx: Context) -> None:
    with_labels = _uc().fit(split, ctx)
    without = _uc().fit(replace(split, targets=None, num_classes=0), replace(ctx, num_classes=0))
    assert with_labels.keys() == without.keys()
    assert all(torch.equal(value, without[name]) for name, value in with_labels.items())


def test_ranks_share_out_the_generators(split: PixelSplit, ctx: Context) -> None:
    alone = _uc().fit(split, ctx)
    shares = [_uc().fit(split, replace(ctx, rank=rank, world=2)) for rank in range(2)]
    name = "clusters/noise"
    assert torch.equal(shares[0][name] + shares[1][name], alone[name])
    assert (shares[0][name][1] == 0).all()
    assert (shares[1][name][[0, 2]] == 0).all()
    for other in alone.keys() - {name}:
        assert torch.equal(shares[0][other], alone[other])
        assert torch.equal(shares[1][other], alone[other])


def test_a_file_of_weights_is_the_surrogate(
    split: PixelSplit, ctx: Context, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    body = build("vgg-w16", 7, 16, seed=5).body.state_dict()
    theirs = {f"module.{name}": value.contiguous() for name, value in body.items()}
    save_file(theirs, path)
    method = _uc(weights=str(path), surrogate_epochs=1)
    state = method.fit(split, ctx)
    assert torch.equal(state["surrogate/0.0.weight"], theirs["module.0.0.weight"])
    assert method.fit_epochs == 3
    path.unlink()  # later releases have the State alone
    later = configure("uc", "quick", settings={"weights": f"own.safetensors@{'0' * 8}"})
    batch = next(split.batches(8))
    again = replace(later, clusters=3).crafter(state, ctx)(batch)
    assert torch.equal(again, method.crafter(state, ctx)(batch))


def test_a_net_of_timms_sees_images_at_its_own_size(
    split: PixelSplit, ctx: Context, tmp_path: Path
) -> None:
    """The way that CLIP's encoders go, with timm's smallest transformer."""
    name, path = "timm:test_vit", tmp_path / "vit.pt"
    body = new_encoder(name, ctx).body
    torch.save(
        {"state_dict": {f"visual.{k}": v + 0.01 for k, v in body.state_dict().items()}}, path
    )
    few = split.take(range(12))
    method = _uc(surrogate=name, weights=str(path), generator_epochs=1)
    state = method.fit(few, ctx)
    net = load_encoder(name, state, ctx)
    assert net.net_size == 160
    assert torch.equal(net.body.cls_token, body.cls_token + 0.01)  # type: ignore[operator]
    assert state["clusters/noise"].shape == (3, 3, 16, 16)
    assert method.surrogates == ()
    crafted = method.crafter(state, ctx)(next(few.batches(4)))
    assert crafted.shape == (4, 3, 16, 16)


@pytest.mark.parametrize("name", ["test_vit", "resnet18", "vit_tiny_patch16_224"])
def test_a_net_of_timms_sees_colours_as_its_weights_do(name: str, ctx: Context) -> None:
    from timm.data import create_transform, resolve_model_data_config
    from torchvision.transforms.v2.functional import to_pil_image

    net = new_encoder(f"timm:{name}", ctx).eval()
    config = resolve_model_data_config(net.body) | {"crop_pct": 1.0}
    side = config["input_size"][-1]
    pixels = torch.randint(256, (3, side, side), generator=torch.Generator().manual_seed(0))
    theirs = create_transform(**config)(to_pil_image(pixels.byte()))
    assert torch.allclose(net._prepared(pixels[None] / 255)[0], theirs, atol=1e-5)
    assert not {"mean", "std"} & net.state_dict().keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surrogate": "vgg"}, "did you mean"),
        ({"surrogate": "timm:nothing", "weights": "x"}, "timm has no net"),
        ({"surrogate": "timm:test_vit"}, "weights=PATH"),
        ({"weights": "gone.pt"}, "no such file"),
        ({"clusters": 1}, "at least 2"),
        ({"generator_rate": 0.0}, "above 0"),
    ],
)
def test_what_cannot_be_is_refused_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _uc(**changes)


def test_weights_of_another_shape_are_refused(
    split: PixelSplit, ctx: Context, tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    theirs = dict(build("vgg-w16", 7, 16).body.state_dict())
    save_file({k: v.contiguous() for k, v in theirs.items() if k != "0.0.weight"}, path)
    with pytest.raises(ValueError, match=r"lack 0\.0\.weight"):
        _uc(weights=str(path)).fit(split, ctx)
    with pytest.raises(ValueError, match="lower clusters"):
        _uc(clusters=50).fit(split, ctx)


def test_a_path_stays_at_home(tmp_path: Path) -> None:
    path = tmp_path / "secret-project.pt"
    torch.save({}, path)
    settings = {"weights": str(path), "clusters": "4"}
    method = configure("uc", "quick", settings=settings)
    public = method.published(settings)
    assert public["clusters"] == "4"
    assert public["weights"].startswith("secret-project.pt@")
    assert str(tmp_path) not in str(public) + str(method.fit_key())
    later = configure("uc", "quick", settings=public)
    assert later.published(public) == public
    assert later.fit_key() == method.fit_key()
    assert _uc().published({"clusters": "4"}) == {"clusters": "4"}
    assert _uc().published({"weights": ""}) == {"weights": ""}


def test_generators_are_clamped_while_they_learn_and_start_from_even_noise(
    split: PixelSplit, ctx: Context
) -> None:
    method, seen = _uc(generator_epochs=1, budget=Linf(4)), []

    def pull(x: Tensor, noise: Tensor) -> Tensor:
        seen.append(noise.detach())
        return noise.sum()

    drawn = method._drawn(0, split, pull, ctx)  # type: ignore[arg-type]
    for noise in (seen[0], drawn):
        assert noise.abs().max().item() == pytest.approx(4 / 255)
        assert (noise.abs() > 3.99 / 255).float().mean() > 0.5  # a tanh that is scaled has few
    sigma = clusters._sigma(ctx)
    for share in (0.25, 0.5, 0.75):
        assert abs((sigma < share).float().mean() - share) < 0.06
