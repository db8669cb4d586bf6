"""Countermeasures that change how a victim learns rather than what it is shown."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shades import CPU, PLAIN, accuracy, batch, fresh, rows_of, setting, shaded
from torch import Tensor, nn

from crafting.batch import PixelSplit, Split
from crafting.nets import Net
from crafting.training import Hooks, Predictor, Recipe, predict, train
from evaluation.countermeasures import Countermeasure, parse
from evaluation.countermeasures.dpa import Vote, partition
from evaluation.trial import TrialSpec
from evaluation.verify import Splits, run


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


def test_dpsgd_draws_where_the_gradient_is(monkeypatch: pytest.MonkeyPatch) -> None:
    net, drawn = nn.Linear(3, 2, device="meta"), []

    def randn(*size: object, **options: object) -> Tensor:
        drawn.append(options.get("device"))
        return torch.empty(*size, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "randn", randn)
    for parameter in net.parameters():
        parameter.grad = torch.empty_like(parameter)
    parse("dpsgd").hooks(setting()).step(net, torch.optim.SGD(net.parameters()))
    assert drawn == [torch.device("meta")] * 2


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
