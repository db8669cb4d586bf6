from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from crafting import registry
from crafting.batch import Batch, PixelSplit, Split
from crafting.budget import L0, L2, Budget, Linf, parse
from crafting.method import Context, Crafter, Method, Scope, State, Unseen
from crafting.mixture import mix
from crafting.nets import build
from crafting.registry import configure, methods, registration
from crafting.runner import protect

TINY = {
    "tap.surrogate_epochs": "2",
    "tap.checkpoints": "2",
    "tap.steps": "3",
}


@dataclass(frozen=True, kw_only=True)
class _Dot(Method):
    """Overwrites the pixel in the upper left corner with white."""

    budget: Budget = field(default_factory=lambda: L0(1))
    shade: float = 1.0

    scope: ClassVar[Scope] = "dataset"
    unseen: ClassVar[Unseen] = "refused"
    one_size: ClassVar[bool] = True
    allowed: ClassVar[tuple[type[Budget], ...]] = (L0,)
    paper: ClassVar[str] = "Dots, 2026"
    bibtex: ClassVar[str] = "@misc{dots}"

    def fit(self, data: Split, ctx: Context) -> State:
        ctx.progress(1, 1)
        return {"dot/shade": torch.tensor(self.shade)}

    def crafter(self, state: State, ctx: Context) -> Crafter:
        def craft(batch: Batch) -> Tensor:
            x = batch.x.clone()
            x[:, :, 0, 0] = state["dot/shade"]
            return x

        return craft


@pytest.fixture
def dot() -> Iterator[None]:
    """`dot` is a method while the test runs."""
    methods.cache_clear()
    registry.register("dot", paper=_Dot(), quick=_Dot())
    yield
    del registry._METHODS["dot"]
    methods.cache_clear()


def _crafted(method: Method, split: PixelSplit, ctx: Context, batch: Batch) -> Tensor:
    return method.crafter(method.fit(split, ctx), ctx)(batch)


def test_each_part_protects_what_the_one_before_it_made(
    split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = configure("tap+random-noise", "quick", parse("linf:4+l2:1"), TINY)
    tap = configure("tap", "quick", Linf(4), {k.partition(".")[2]: v for k, v in TINY.items()})
    noise = configure("random-noise", "quick", L2(1.0))
    first = Linf(4).project(_crafted(tap, split, ctx, batch), batch.x)
    both = L2(1.0).project(_crafted(noise, split, ctx, replace(batch, x=first)), first)
    crafted = _crafted(method, split, ctx, batch)
    assert torch.equal(crafted, both)
    assert not torch.allclose(crafted, first)
    pixels = protect(lambda b: crafted, method.budget, batch)
    assert method.budget.holds(pixels / 255 - batch.x).all()


@pytest.mark.usefixtures("dot")
@pytest.mark.parametrize("name", ["tap+dot", "dot+tap"])
def test_few_pixels_come_last_and_stay_whole(
    name: str, split: PixelSplit, ctx: Context, batch: Batch
) -> None:
    method = configure(name, "quick", settings=TINY)
    assert str(method.budget) == "linf:8+l0:1"
    crafter = method.crafter(method.fit(split, ctx), ctx)
    pixels = protect(crafter, method.budget, batch)
    assert (pixels[:, :, 0, 0] == 255).all()
    levels = (pixels.float() - batch.x * 255).round()
    assert levels[:, :, 1:].abs().max() == 8
    assert levels[:, :, 0, 0].max() > 8


@pytest.mark.usefixtures("dot")
def test_a_state_holds_what_each_part_would_hold_alone(split: PixelSplit, ctx: Context) -> None:
    told: list[tuple[int, int]] = []
    within = replace(ctx, progress=lambda *at: told.append(at))
    method = configure("dot+tap", "quick", settings=TINY)
    state = method.fit(split, within)
    alone = methods()["tap"].quick
    alone = replace(alone, surrogate_epochs=2, checkpoints=2, steps=3)  # type: ignore[call-arg]
    own = {f"a-{name}": tensor for name, tensor in alone.fit(split, ctx).items()}
    assert state.keys() == own.keys() | {"b-dot/shade"}
    assert all(torch.equal(state[name], tensor) for name, tensor in own.items())
    assert told == [(1, 4), (2, 4), (2, 2)]


@pytest.mark.usefixtures("dot")
def test_a_mixture_promises_what_all_its_parts_can_keep() -> None:
    both = registration("random-noise+dot").quick
    assert (both.scope, both.unseen, both.needs_labels) == ("dataset", "refused", True)
    assert both.one_size
    assert both.has_fit
    mild = registration("random-noise+tap").quick
    assert (mild.scope, mild.unseen, mild.one_size) == ("sample", "exact", False)
    assert registration("random-noise+alignment").quick.scope == "batch"
    assert not mix([("random-noise", methods()["random-noise"].quick)]).needs_labels


@pytest.mark.parametrize("name", ["ops", "lsp", "ar", "cuda", "random-noise-class"])
def test_it_resumes_where_all_that_takes_time_does(name: str) -> None:
    assert registration(f"tap+{name}").quick.resumes
    assert not registration(f"tue+{name}").quick.resumes


def test_what_parts_cost_adds_up_and_both_are_cited() -> None:
    tap, sep = methods()["tap"].quick, methods()["sep"].quick
    both = registration("tap+sep").quick
    assert both.passes == tap.passes + sep.passes
    steps = registration("em").quick.passes_of_new_rows
    assert registration("em+sep").quick.passes == sep.passes
    assert registration("em+sep").quick.passes_of_new_rows == sep.passes + steps
    assert registration("em+rem").quick.fit_passes == 120 + 120
    assert both.fit_epochs == tap.fit_epochs + sep.fit_epochs
    assert both.surrogates == tap.surrogates
    assert both.target_shift == "y + 1 mod K, then y + K/2 mod K"
    assert both.paper == f"{tap.paper}; {sep.paper}"
    assert both.bibtex == f"{tap.bibtex}\n\n{sep.bibtex}"
    assert (
        registration("random-noise+alignment").quick.bibtex == methods()["alignment"].quick.bibtex
    )


def test_a_state_is_used_again_where_nothing_changed_that_a_fit_reads() -> None:
    def key(name: str, **settings: str) -> Any:
        dotted = {k.replace("__", "."): v for k, v in settings.items()}
        return configure(name, "quick", settings=dotted).fit_key()

    assert key("tap+random-noise", tap__steps="9") == key("tap+random-noise")
    assert key("tap+random-noise", tap__checkpoints="4") != key("tap+random-noise")
    assert key("tap+random-noise") == key("random-noise+tap")
    assert key("tap+sep") != key("tap+random-noise")


def test_a_state_serves_every_mixture_that_has_its_key(split: PixelSplit, ctx: Context) -> None:
    """Of the same fitted parts, wherever those stand that fit nothing."""
    first, last = (
        configure(name, "quick", settings=TINY) for name in ("tap+random-noise", "random-noise+tap")
    )
    assert first.fit_key() == last.fit_key()
    state, own = first.fit(split, ctx), last.fit(split, ctx)
    assert state.keys() == own.keys()
    batch = next(split.batches(8))
    crafted = [last.crafter(each, ctx)(batch) for each in (state, own)]
    assert torch.equal(*crafted)


@pytest.mark.usefixtures("dot")
@pytest.mark.parametrize(
    ("name", "written", "budget"),
    [
        ("tap+dot", "linf:4+l0:2", "linf:4+l0:2"),
        ("tap+dot", "l0:2+linf:4", "linf:4+l0:2"),
        ("dot+tap", "linf:4+l0:2", "linf:4+l0:2"),
        ("tap+random-noise", "linf:4+l2:1", "linf:4+l2:1"),
        ("random-noise+tap", "linf:4+linf:2", "linf:4+linf:2"),
        ("tap+random-noise+dot", "l0:3+linf:4+l2:1", "linf:4+l2:1+l0:3"),
    ],
)
def test_a_sum_of_budgets_is_shared_out_by_kind(name: str, written: str, budget: str) -> None:
    long_steps = {f"{part}.step_levels": "51" for part in ("tap",) if part in name.split("+")}
    assert str(configure(name, "quick", parse(written), long_steps).budget) == budget


@pytest.mark.parametrize(
    ("name", "settings", "budget", "said"),
    [
        ("tap+sep+tap", {}, None, "twice"),
        ("tap+sepp", {}, None, "did you mean sep"),
        ("tap+sep", {"steps": "3"}, None, "did you mean tap.steps or sep.steps"),
        ("tap+sep", {"tap.stpes": "3"}, None, "did you mean tap.steps"),
        ("tap+sep", {"tap.steps": "0"}, None, "tap steps is a count"),
        ("tap+sep", {"budget": "linf:4"}, None, "no option 'budget'"),
        ("tap+sep", {}, "linf:4", "a sum of one budget for each part, such as linf:8.linf:8"),
        ("tap+sep", {}, "linf:4+l0:1", "does not work within"),
        ("tap+sep", {}, "linf:4+linf:4+linf:4", "does not work within"),
    ],
)
def test_what_cannot_be_mixed_is_refused_in_one_line(
    name: str, settings: dict[str, str], budget: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said) as told:
        configure(name, "quick", None if budget is None else parse(budget), settings)
    assert "\n" not in str(told.value)


def test_where_a_file_of_a_part_lies_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "secret/place/weights.safetensors"
    path.parent.mkdir(parents=True)
    weights = build("vgg-w16", 3, 16).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    settings = {"uc.weights": str(path), "uc.surrogate": "vgg-w16", "tap.steps": "3"}
    public = configure("tap+uc", "quick", settings=settings).published(settings)
    assert public | {"uc.weights": ""} == settings | {"uc.weights": ""}
    assert public["uc.weights"].startswith("weights.safetensors@")
