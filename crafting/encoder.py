"""Nets that see without having been taught classes: trained by contrast on the split itself, or
loaded from weights that the owner has, such as ImageNet's or CLIP's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from crafting import weights as files
from crafting.batch import Split
from crafting.contrastive import Contrast, contrastive_recipe
from crafting.method import Context, State
from crafting.nets import ARCHITECTURES, Net, build, for_crafting
from crafting.registry import lookup
from crafting.surrogate import agreed, inside
from crafting.training import EpochStats, Hooks, train

FOLDER = "surrogate"
_TIMM = "timm:"


class _Timms(Net):
    """A net of timm's, which sees images at the size, and with the mean and spread of colours, that
    its weights were made for. Its head is a placeholder."""

    def __init__(self, name: str) -> None:
        import timm

        body: Any = timm.create_model(name, pretrained=False, num_classes=0)
        made_for = body.default_cfg
        super().__init__(body, nn.Linear(1, 1), made_for["input_size"][-1])
        for part in ("mean", "std"):
            value = torch.tensor(made_for[part]).view(-1, 1, 1)
            self.register_buffer(part, value, persistent=False)

    def _centred(self, x: Tensor) -> Tensor:
        mean, spread = self.get_buffer("mean"), self.get_buffer("std")
        return (x - mean) / spread


def demand_encoder(name: str, weights: str) -> None:
    """ValueError where no net has this name, where a net of timm's has no weights, or where these
    are no file."""
    if name.startswith(_TIMM):
        import timm

        if not timm.is_model(name.removeprefix(_TIMM)):
            raise ValueError(f"timm has no net called {name.removeprefix(_TIMM)!r}")
        if not weights:
            raise ValueError(f"{name} is not trained here: give it weights=PATH of a state dict")
    else:
        lookup("net", name, ARCHITECTURES)
    if weights and not files.is_told(weights) and not Path(weights).is_file():
        raise ValueError(f"weights {weights}: no such file: give the path of a state dict")


def new_encoder(name: str, ctx: Context, seed: int = 0) -> Net:
    """A net by its name here, at net size, or as `timm:NAME` by timm's. Its head is a
    placeholder."""
    if not name.startswith(_TIMM):
        return build(name, 1, ctx.net_size, seed)
    with torch.random.fork_rng(devices=[]):
        return _Timms(name.removeprefix(_TIMM))


def fitted_encoder(
    name: str, weights: str, data: Split, ctx: Context, epochs: int, temperature: float
) -> State:
    """The body's tensors as `surrogate/NAME`, equal on every rank: those of the file, or else of a
    training without labels on the whole split, which each rank does by itself.

    ValueError where the file lacks a tensor of the body: it would stay as it was drawn.
    """
    seeds = ctx.shared("encoder").integers(2**31, size=2)
    net = new_encoder(name, ctx, int(seeds[0]))
    if weights:
        what = f"weights {weights}"
        missing = files.load_into(net.body, files.read("weights", Path(weights)), what)
        if missing:
            raise ValueError(
                f"{what} lack {missing[0]} in the shape that {name} has at this size "
                f"({len(missing)} tensors): name a net of timm's, such as surrogate=timm:resnet50, "
                "which sees images at the size it was made for"
            )
    else:
        _contrasted(net, data, ctx, int(seeds[1]), epochs, temperature)
    body = agreed(net.body.state_dict(), ctx)
    return {f"{FOLDER}/{tensor}": value for tensor, value in body.items()}


def load_encoder(name: str, state: State, ctx: Context) -> Net:
    """The net of such a State, ready for crafting: frozen, in eval mode."""
    net = new_encoder(name, ctx)
    net.body.load_state_dict(inside(state, FOLDER))
    if name.startswith(_TIMM):  # whose attention cannot be traced, as folding would have to
        return net.eval().requires_grad_(False).to(ctx.device)
    return for_crafting(net.eval(), ctx.device)


def _contrasted(
    net: Net, data: Split, ctx: Context, seed: int, epochs: int, temperature: float
) -> None:
    contrast, total = Contrast(temperature), round(epochs / ctx.fit_share)

    def tell(epoch: int, stats: EpochStats) -> None:
        ctx.progress(epoch, total)

    train(
        net,
        data,
        contrastive_recipe(total),
        device=ctx.device,
        seed=seed,
        hooks=Hooks(augment=contrast.augment, loss=contrast.loss, step=contrast.step),
        on_epoch=tell,
    )
