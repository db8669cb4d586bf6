"""Countermeasures that change how a victim learns rather than what it is shown."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crafting.batch import PixelSplit, Split
from crafting.nets import Net, build
from crafting.training import Hooks, Predictor, Recipe, cross_entropy, predict, train
from evaluation.countermeasures import Countermeasure, Setting, parse
from evaluation.countermeasures.abl import AntiBackdoorLearning
from evaluation.countermeasures.deconv_at import DeconvolutionTraining, deconvolved
from evaluation.countermeasures.dpa import Vote, partition
from evaluation.trial import TrialSpec
from evaluation.verify import Splits, run

CPU = torch.device("cpu")
PLAIN = Recipe(epochs=6, batch_size=16, lr=0.05, augment=False)


def shaded(count: int, seed: int, tint: float = 0, odd: float = 0) -> PixelSplit:
    """Dark (class 0) and bright images (3,16,16), a share of them labelled wrong, whose label is
    also told by a tint of so many grey levels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    shown = np.where(generator.random(count) < odd, 1 - labels, labels)
    pixels = np.where(shown == 0, 90, 166)[:, None, None, None]
    pixels = pixels + generator.normal(0, 5, (count, 3, 16, 16))
    sign = np.where(labels == 0, -tint, tint)[:, None, None]
    pixels[:, 0] += sign
    pixels[:, 2] -= sign
    return PixelSplit(np.clip(pixels, 0, 255).astype(np.uint8), np.arange(count), labels, 2)


def setting(recipe: Recipe = PLAIN, num_classes: int = 2) -> Setting:
    return Setting(num_classes, "protected", recipe, CPU, seed=0)


def fresh(num_classes: int = 2, seed: int = 0) -> Net:
    return build("vgg-w16", num_classes, 16, seed=seed)


def accuracy(split: Split, countermeasure: str, test: Split) -> float:
    hooks = parse(countermeasure).hooks(setting())
    predictor = train(fresh(), split, PLAIN, device=CPU, seed=0, hooks=hooks)
    predicted, labels = predict(predictor, test, CPU)
    return (predicted == labels).float().mean().item()


def batch(count: int = 24, channels: int = 3, classes: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, 16, 16, generator=generator), torch.arange(count) % classes


def rows_of(split: Split) -> set[int]:
    return {row for batch in split.batches(100) for row in batch.rows.tolist()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("at-linf:radius=0", "radius above 0, not 0"),
        ("at-l2:steps=0", "at least 1 step, not 0"),
        ("dpsgd:clip=0", "clip above 0, not 0"),
        ("dpsgd:noise=-1", "noise of 0 or more, not -1"),
        ("trimmed-loss:keep=0", "above 0 and up to 1, not 0"),
        ("trimmed-loss:keep=90", "above 0 and up to 1, not 90"),
        ("deconv-at:kernel=4", "an odd kernel of 1 or more, not 4"),
        ("deconv-at:steps=0", "at least 1 step, not 0"),
        ("deconv-at:eta=-1", "eta above 0, not -1"),
        ("abl:share=1", "above 0 and below 1, not 1"),
        ("abl:rate=-1", "a gamma and a rate of 0 or more"),
        ("dpa:parts=0", "at least 1 part, not 0"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("name", ["at-linf", "at-l2", "deconv-at"])
def test_more_steps_cost_more(name: str) -> None:
    assert 5 < parse(name).cost < 15
    assert parse(f"{name}:steps=3").cost < parse(name).cost / 2


@pytest.fixture(scope="module")
def tinted() -> PixelSplit:
    return shaded(240, seed=1, tint=4, odd=0.25)


@pytest.fixture(scope="module")
def wrongly_tinted() -> PixelSplit:
    return shaded(100, seed=2, tint=-4)


def test_plain_training_falls_for_a_faint_shortcut(
    tinted: PixelSplit, wrongly_tinted: PixelSplit
) -> None:
    assert accuracy(tinted, "none", wrongly_tinted) < 0.2


@pytest.mark.parametrize("text", ["at-linf:radius=8,steps=3", "at-l2:radius=1,steps=3"])
def test_adversarial_training_does_not_see_a_faint_shortcut(
    text: str, tinted: PixelSplit, wrongly_tinted: PixelSplit
) -> None:
    assert accuracy(tinted, text, wrongly_tinted) > 0.8


def shape(text: str, size: float) -> list[Tensor]:
    """The gradients of a net, all `size` before, as the step hook leaves them."""
    net = fresh()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, size)
    parse(text).hooks(setting()).step(net, PLAIN.optimiser_of(net))
    return [parameter.grad for parameter in net.parameters() if parameter.grad is not None]


def total(gradients: list[Tensor]) -> float:
    return torch.cat([g.flatten() for g in gradients]).norm().item()


def test_dpsgd_clips_the_gradient_as_a_whole() -> None:
    clipped = shape("dpsgd:clip=0.5,noise=0", 3.0)
    assert total(clipped) == pytest.approx(0.5, rel=1e-3)
    assert torch.allclose(clipped[0], clipped[0].flatten()[0])
    assert total(shape("dpsgd:noise=0", 1e-6)) < 1e-3  # what is short stays


def test_dpsgd_adds_noise_relative_to_the_clip() -> None:
    torch.manual_seed(0)
    noise = torch.cat([g.flatten() for g in shape("dpsgd:clip=0.5,noise=0.2", 0.0)])
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert abs(noise.mean().item()) < 0.005
    torch.manual_seed(0)
    assert torch.equal(noise, torch.cat([g.flatten() for g in shape("dpsgd:clip=.5,noise=.2", 0)]))


def test_trimmed_loss_learns_nothing_from_mislabelled_rows() -> None:
    net = fresh()
    train(net, shaded(100, 1), PLAIN, device=CPU, seed=0)
    first = next(shaded(20, 2).batches(20))
    x, y = first.x.requires_grad_(True), first.labels().clone()
    y[[3, 8]] = 1 - y[[3, 8]]
    loss = parse("trimmed-loss").hooks(setting()).loss(net.eval(), x, y)
    (gradient,) = torch.autograd.grad(loss, x)
    ignored = gradient.abs().flatten(1).sum(1) == 0
    assert ignored.nonzero().flatten().tolist() == [3, 8]
    losses = F.cross_entropy(net(x), y, reduction="none")
    assert loss.item() == pytest.approx(losses[~ignored].mean().item(), rel=1e-4)


def test_trimmed_loss_keeps_an_image_of_a_small_batch() -> None:
    loss = parse("trimmed-loss:keep=0.1").hooks(setting()).loss
    assert loss(fresh().eval(), *batch(2)).item() > 0


def test_deconvolution_is_the_transposed_convolution_of_each_image() -> None:
    x, y = batch(6, classes=3)
    kernels = torch.randn(3, 5, 5, generator=torch.Generator().manual_seed(1))
    out = deconvolved(x, kernels, F.one_hot(y).float())
    for image, label, got in zip(x, y, out, strict=True):
        weight = kernels[label].expand(3, 1, 5, 5)
        plain = F.conv_transpose2d(image[None], weight, padding=2, groups=3)[0]
        share = (plain - plain.min()) / (plain.max() - plain.min())
        stretched = image.min() + share * (image.max() - image.min())
        assert torch.allclose(got, stretched, atol=1e-5)


def test_deconvolution_with_the_identity_changes_nothing() -> None:
    x, y = batch()
    x = x * 0.5 + 0.2
    identity = torch.zeros(2, 7, 7)
    identity[:, 3, 3] = 1
    assert torch.allclose(deconvolved(x, identity, F.one_hot(y).float()), x, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("count", [2, 24])
def test_deconvolved_images_stay_images(channels: int, count: int) -> None:
    x, y = batch(count, channels)
    x[0] = 0
    out = deconvolved(x, torch.full((2, 7, 7), -5.0), F.one_hot(y).float())
    assert out.shape == x.shape
    assert torch.allclose(out.amin((1, 2, 3)), x.amin((1, 2, 3)), atol=1e-5)
    assert torch.allclose(out.amax((1, 2, 3)), x.amax((1, 2, 3)), atol=1e-5)
    assert 0 <= out.min() <= out.max() <= 1
    assert out[0].abs().max() == 0


def searched(countermeasure: DeconvolutionTraining, net: Net) -> tuple[list[Tensor], list[float]]:
    """The kernels that the search starts and ends with, and the losses there."""
    first = next(shaded(24, 2).batches(24))
    x, y = first.x, first.labels()
    members = F.one_hot(y).float()
    torch.manual_seed(0)
    start = countermeasure._start(2)
    torch.manual_seed(0)
    end = countermeasure._hardest(net, x, y, members)
    losses = [cross_entropy(net, deconvolved(x, k, members), y).item() for k in (start, end)]
    return [start, end], losses


def test_deconvolution_training_searches_for_hard_kernels_of_each_class() -> None:
    net = fresh()
    train(net, shaded(100, 1), PLAIN, device=CPU, seed=0)
    net.zero_grad()
    (start, end), (easy, hard) = searched(DeconvolutionTraining(), net)
    assert hard > 1.02 * easy
    moved = (end - start).abs().amax((1, 2))
    assert moved.min() > 0
    assert not torch.equal(end[0] - start[0], end[1] - start[1])
    assert start[:, 3, 3].min() > 0.98
    assert all(parameter.grad is None for parameter in net.parameters())


def test_deconvolution_kernels_are_bounded() -> None:
    (_, end), _ = searched(DeconvolutionTraining(eta=1e6, steps=2), fresh().eval())
    assert end.abs().max() == 5


def test_deconvolution_training_learns_with_batchnorm_in_training_mode() -> None:
    net = fresh().train()
    before = copy.deepcopy(net.state_dict())
    loss = parse("deconv-at:steps=2").hooks(setting()).loss(net, *batch())
    loss.backward()
    assert net.training
    counts = {n: v - before[n] for n, v in net.state_dict().items() if n.endswith("tracked")}
    assert {value.item() for value in counts.values()} == {1}  # the attack moves no statistics
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_deconvolution_training_learns() -> None:
    text = "deconv-at:steps=1,eta=0.01"
    assert accuracy(shaded(160, 1), text, shaded(100, 2)) > 0.9


def marked(count: int, seed: int) -> PixelSplit:
    """Noise with labels of no rule, but every eighth row has a white corner and is of class 0."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 200, (count, 3, 16, 16)).astype(np.uint8)
    labels = generator.integers(0, 2, count)
    pixels[::8, :, :8, :8] = 255
    labels[::8] = 0
    return PixelSplit(pixels, np.arange(count) + 1000, labels, 2)


class Phases:
    """A training with abl: what its split held in each epoch, and its losses."""

    def __init__(self, abl: AntiBackdoorLearning, split: PixelSplit, epochs: int) -> None:
        self.recipe = abl.recipe(replace(PLAIN, epochs=epochs))
        hooks = abl.hooks(setting(self.recipe))
        self.sizes: list[int] = []
        self.net = fresh()
        data = partial(self._seen, hooks.data)
        self.predictor = train(
            self.net,
            split,
            self.recipe,
            device=CPU,
            seed=0,
            hooks=replace(hooks, data=data),
            on_epoch=lambda epoch, stats: self.sizes.append(stats.images),
        )

    def _seen(self, data: Callable[[Split], Split], split: Split) -> Split:
        self.split = data(split)
        return self.split


def test_abl_sets_aside_what_was_learnt_first_and_goes_on_without_it() -> None:
    split = marked(160, seed=3)
    phases = Phases(AntiBackdoorLearning(share=0.05, rate=0), split, epochs=15)
    assert phases.sizes == [160] * 2 + [152] * 12
    isolated = rows_of(split) - rows_of(phases.split)
    assert len(isolated) == 8
    assert isolated <= set(range(1000, 1160, 8))


def test_abl_unlearns_what_it_set_aside() -> None:
    split = marked(160, seed=3)
    kept, unlearnt = (
        Phases(AntiBackdoorLearning(share=0.05, rate=rate), split, epochs=8) for rate in (0, 0.05)
    )
    aside = split.take(sorted(rows_of(split) - rows_of(kept.split)))
    first = next(aside.batches(8))
    losses = [cross_entropy(p.net.eval(), first.x, first.labels()).item() for p in (kept, unlearnt)]
    assert losses[1] > 1.05 * losses[0]
    statistics = [p.net.state_dict()["body.0.1.running_mean"] for p in (kept, unlearnt)]
    assert torch.equal(*statistics)


def test_abl_floods_the_loss_until_rows_are_isolated() -> None:
    net, (x, y) = fresh().eval(), batch()
    hooks = AntiBackdoorLearning(gamma=2.0).hooks(setting())
    split = hooks.data(shaded(24, 1))
    plain = cross_entropy(net, x, y)
    assert plain < 2
    assert hooks.loss(net, x, y).item() == pytest.approx(4 - plain.item())
    list(split.batches(8, epoch=0))
    assert hooks.loss(net, x, y).item() == pytest.approx(4 - plain.item())
    list(split.batches(8, epoch=1))
    assert hooks.loss(net, x, y).item() == pytest.approx(plain.item())


@pytest.mark.parametrize(("epochs", "learning"), [(75, 70), (20, 19), (120, 112), (1, 2)])
def test_abl_keeps_to_the_epochs_of_the_recipe(epochs: int, learning: int) -> None:
    assert AntiBackdoorLearning().recipe(Recipe(epochs)) == Recipe(learning)


def test_partition_goes_by_the_sum_of_pixels() -> None:
    split = shaded(50, 1)
    parts = partition(split, 4)
    assert sorted(row for part in parts for row in part) == list(range(50))
    sums = split.pixels.astype(np.int64).sum((1, 2, 3))
    assert all(sums[row] % 4 == k for k, part in enumerate(parts) for row in part)


def test_each_part_is_learnt_by_a_net_that_starts_anew() -> None:
    split, net = shaded(60, 1), fresh()
    start = copy.deepcopy(net.state_dict())
    hooks = parse("dpa:parts=3").hooks(setting())
    seen: list[tuple[set[int], dict[str, Tensor]]] = []

    def fake(
        other: Net, part: Split, recipe: Recipe | None = None, hooks: Hooks | None = None
    ) -> Predictor:
        seen.append((rows_of(part), copy.deepcopy(other.state_dict())))
        assert other is not net
        return other

    first = hooks.data(split)
    hooks.loss(net.train(), *batch()).backward()
    PLAIN.optimiser_of(net).step()
    hooks.finish(net, first, fake)
    parts = partition(split, 3)
    assert [rows_of(first), *(rows for rows, _ in seen)] == [set(part) for part in parts]
    for _, weights in seen:
        assert all(torch.equal(start[name], value) for name, value in weights.items())


class _Names(nn.Module):
    """A net that answers with one class."""

    def __init__(self, named: int) -> None:
        super().__init__()
        self.named = named

    def forward(self, x: Tensor) -> Tensor:
        return F.one_hot(torch.full((len(x),), self.named), 4).float() * 9


def test_votes_are_counted_and_the_lower_class_wins_a_tie() -> None:
    votes = Vote([_Names(k) for k in (3, 1, 3, 1, 2)])(torch.zeros(2, 3, 4, 4))
    assert votes.tolist() == [[0, 2, 1, 2]] * 2
    assert votes.argmax(1).tolist() == [1, 1]


def test_dpa_skips_parts_of_one_row_and_refuses_where_there_are_no_others() -> None:
    split = shaded(5, 1)
    sums = split.pixels.astype(np.int64).sum((1, 2, 3)) % 500
    assert len(set(sums.tolist())) == 5
    with pytest.raises(ValueError, match="use fewer, such as dpa:parts=2"):
        parse("dpa:parts=500").hooks(setting()).data(split)


@pytest.mark.parametrize("text", ["trimmed-loss", "dpsgd", "abl"])
def test_a_net_still_learns(text: str) -> None:
    assert accuracy(shaded(160, 1), text, shaded(80, 2)) > 0.9


def test_victims_that_vote_still_learn() -> None:
    spec = TrialSpec(
        victim="vgg-w16",
        countermeasure="dpa:parts=2",
        seed=0,
        data="clean",
        preset="quick",
        epochs=12,
    )
    splits = Splits(shaded(400, 1), shaded(80, 2))
    outcome = run(replace(spec, net_size=16), splits, device=CPU, progress=lambda share: None)
    assert outcome.final > 0.9


@pytest.mark.parametrize("text", ["abl", "dpa:parts=2", "trimmed-loss", "deconv-at:steps=1"])
def test_a_few_rows_do(text: str) -> None:
    tried: Countermeasure = parse(text)
    recipe = tried.recipe(replace(PLAIN, epochs=1, batch_size=15))
    hooks = tried.hooks(setting(recipe))
    predictor = train(fresh(), shaded(16, 1), recipe, device=CPU, seed=0, hooks=hooks)
    assert predict(predictor, shaded(8, 2), CPU)[0].shape == (8,)
