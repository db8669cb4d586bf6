"""What this tool knows, and what is published, as tables for the terminal and the same facts for
machines."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:
    from cards.facts import ReleaseEntry
    from release.chain import Chain
    from release.manifest import Manifest

_MORE = "What the parameters of one mean: the same command with its NAME"
_NEEDS = ("--clean", "labels")
_NEW_ROWS = {"exact": "yes", "approximate": "roughly", "refused": "no"}


def methods_table() -> tuple[Table, list[dict[str, Any]]]:
    """Every method with its budget, what it needs and costs, and where it was published."""
    from crafting.registry import methods

    rows = [_method_row(name, entry.paper, entry.quick) for name, entry in methods().items()]
    columns = ("method", "budget", "passes", "needs", "new rows", "from")
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))  # 80 columns wide
    for row in rows:
        needs = {"labels": row["needs_labels"], "net": bool(row["surrogates"]["quick"])}
        table.add_row(
            row["name"],
            row["budget"],
            " / ".join(f"{row['fit_passes'][p] + row['passes'][p]:,}" for p in ("paper", "quick")),
            ", ".join(need for need, is_needed in needs.items() if is_needed),
            _NEW_ROWS[row["unseen"]] if row["scope"] == "sample" else "no",
            _venue(row["paper"]),
        )
    for column in table.columns:
        column.no_wrap = True
    table.caption = (
        "passes: gradients per image that its noise takes, in fit and craft together, in the "
        "presets paper / quick; net: one is trained first; new rows: whether rows can be added "
        "that it was not fitted on. What each came to when it was measured: docs/methods.md. "
        "Several are joined by +"
    )
    return table, rows


def _venue(paper: str) -> str:
    """Where and when, of a title with both."""
    found = re.findall(r"\w+ \d{4}", paper)
    return str(found[-1]) if found else paper


def options_table(name: str) -> tuple[Table, list[dict[str, Any]]]:
    """One method's options with their values in both presets, and what they mean; ValueError names
    the nearest methods where there is none of this name."""
    from crafting.registry import registration

    entry = registration(name)
    row = _method_row(name, entry.paper, entry.quick)
    paper, quick = row["options"]["paper"], row["options"]["quick"]
    named = [names for names in _values(entry.paper).values() if names]
    table = Table(
        f"option of {name}", "paper", "quick", *(["one of"] if named else []), expand=True
    )
    for option, values in _values(entry.paper).items():
        cells = (option, str(paper[option]), str(quick[option]), ", ".join(values))
        table.add_row(*cells[: len(table.columns)])
    told, source = _told_of_method(entry.paper)
    table.caption = Text(_flowing(f"{row['paper']}\n\n{told}\n\n{source}"), justify="left")
    return table, [row | {"values": _values(entry.paper), "explained": told, "source": source}]


def _values(method: Any) -> dict[str, list[str]]:
    """By option, the values that it may have where these are few."""
    found = {}
    for prefix, part in _parts(method):
        kinds = get_type_hints(type(part))
        for option in part.options():
            kind = kinds[option]
            named = ["true", "false"] if kind is bool else [str(each) for each in get_args(kind)]
            found[f"{prefix}{option}"] = named
    return found


def _told_of_method(method: Any) -> tuple[str, str]:
    """What the classes that have its options say of themselves, each once, and what their modules
    say."""
    told: dict[str, None] = {}
    sources: dict[str, None] = {}
    for _, part in _parts(method):
        kinds = [kind for kind in type(part).__mro__ if _has_options(kind, type(part))]
        told |= dict.fromkeys(_told(kind) for kind in kinds)
        sources[str(sys.modules[type(part).__module__].__doc__).strip()] = None
    return "\n\n".join(told), "\n\n".join(sources)


def _has_options(kind: type, method: type) -> bool:
    """Whether it is this method's class, or a base that defines options of it."""
    own = vars(kind).get("__annotations__", {})
    return kind is method or any(f.name in own for f in fields(method) if f.name != "budget")


def _parts(method: Any) -> list[tuple[str, Any]]:
    """The methods that it mixes, each with what is written before its options; else itself."""
    from crafting.mixture import Mixture

    if isinstance(method, Mixture):
        return [(f"{name}.", part) for name, part in method.parts]
    return [("", method)]


def _method_row(name: str, paper: Any, quick: Any) -> dict[str, Any]:
    return {
        "name": name,
        "paper": paper.paper,
        "budget": str(quick.budget),
        "passes": {"paper": paper.passes, "quick": quick.passes},
        "fit_passes": {"paper": paper.fit_passes, "quick": quick.fit_passes},
        "needs_labels": paper.needs_labels,
        "surrogates": {"paper": list(paper.surrogates), "quick": list(quick.surrogates)},
        "fit_epochs": {"paper": paper.fit_epochs, "quick": quick.fit_epochs},
        "scope": paper.scope,
        "unseen": paper.unseen,
        "one_size": paper.one_size,
        "options": {"paper": paper.options(), "quick": quick.options()},
    }


def victims_table(tell: Callable[[int, int], None]) -> tuple[Table, list[dict[str, Any]]]:
    """Every victim with its net's size, and how long 1,000 images of 32x32 take here, of which the
    largest take a minute: `tell` hears how many of them all are done."""
    from crafting.nets import build, num_parameters
    from crafting.registry import Preset
    from evaluation.victims import VICTIMS
    from release.forecast import images_per_second

    table = Table("victim", "parameters", "epochs (paper / quick)", "s per 1,000 images here")
    rows = []
    for done, (name, victim) in enumerate(VICTIMS.items()):
        tell(done, len(VICTIMS))
        epochs = {preset: victim.recipe(preset).epochs for preset in get_args(Preset)}
        row = {
            "name": name,
            "parameters": num_parameters(build(victim.net, 10, 32)),
            "epochs": epochs,
            "seconds_per_1000": round(1000 / images_per_second(victim.net), 3),
        }
        rows.append(row)
        shown = " / ".join(map(str, epochs.values()))
        table.add_row(name, f"{row['parameters']:,}", shown, f"{row['seconds_per_1000']:.2f}")
    return table, rows


def countermeasures_table(name: str | None = None) -> tuple[Table, list[dict[str, Any]]]:
    """Every countermeasure with its parameters, or what those of one mean; ValueError names the
    nearest ones."""
    from evaluation.countermeasures import COUNTERMEASURES

    if name is not None:
        return _explained("countermeasure", name, COUNTERMEASURES)
    table = Table(_typed("countermeasure"), _listing(), "what it does", caption=_MORE)
    rows = [_written(each, kind) for each, kind in COUNTERMEASURES.items()]
    for row in rows:
        table.add_row(row["name"], _listed(row["parameters"]), row["about"])
    return table, rows


def analyses_table(name: str | None = None) -> tuple[Table, list[dict[str, Any]]]:
    """Every analysis with its parameters, or what those of one mean; ValueError names the nearest
    ones."""
    from evaluation.analyses import ANALYSES

    if name is not None:
        return _explained("analysis", name, ANALYSES)
    table = Table(_typed("analysis"), _listing(), "needs", "what it tells", caption=_MORE)
    rows = []
    for each, kind in ANALYSES.items():
        needs = {"needs_clean": kind.needs_clean, "needs_labels": kind.needs_labels}
        row = _written(each, kind) | needs
        needed = [what for what, is_needed in zip(_NEEDS, needs.values(), strict=True) if is_needed]
        table.add_row(each, _listed(row["parameters"]), ", ".join(needed), row["about"])
        rows.append(row)
    return table, rows


def _written(name: str, kind: Any) -> dict[str, Any]:
    """A countermeasure or an analysis as it may be written, and what it is about."""
    parameters = {f.name: f.default for f in fields(kind)}
    return {"name": name, "parameters": parameters, "about": _told(kind).splitlines()[0]}


def _explained(
    what: str, name: str, kinds: Mapping[str, Any]
) -> tuple[Table, list[dict[str, Any]]]:
    from crafting.registry import lookup

    kind = lookup(what, name, kinds)
    source = str(sys.modules[kind.__module__].__doc__).strip()
    row = _written(name, kind) | {"explained": _told(kind), "source": source}
    table = Table(f"parameter of {name}", "default", expand=True)
    table.caption = Text(_flowing(f"{_told(kind)}\n\n{source}"), justify="left")
    for key, value in row["parameters"].items():
        table.add_row(key, str(value))
    return table, [row]


def _typed(header: str) -> Column:
    """A column of what has to be typed: whole, however narrow the terminal is."""
    return Column(header, no_wrap=True, overflow="fold")


def _listing() -> Column:
    return Column("parameters", overflow="fold")


def _flowing(text: str) -> str:
    """Lines of a paragraph are joined, so that they break where this terminal ends; those of
    formulas are not."""
    return re.sub(r"(?<!\n)\n(?! {4}) *(?!\n|\d+\. )", " ", text)


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in parameters.items())


def _told(kind: Any) -> str:
    """What it says of itself."""
    return inspect.cleandoc(str(kind.__doc__))


def releases_table(chain: Chain) -> tuple[Table, list[dict[str, Any]]]:
    """Every release of a dataset, the oldest first: what it added and what its worst held-out
    victim came to."""
    from cards.figures import kind
    from release.facts import releases

    table = Table("release", "date", "method", "rows", "in all", "victim", "twin")
    for column in table.columns:
        column.no_wrap = True
    table.caption = "victim: the worst held-out one on all rows at the end; twin: on clean rows"
    found = []
    for entry, manifest in zip(releases(chain), chain.manifests, strict=True):
        worst = entry.learnt_most("release")
        figures = ("-", "-")
        if worst is not None:
            how = "" if worst.is_plain else f" with {kind(worst.countermeasure)}"
            figures = (f"{_mean(worst.protected)}{how}", _mean(worst.clean))
        shown = (entry.name, entry.date, entry.method)
        table.add_row(*shown, f"{entry.rows:,}", f"{entry.total:,}", *figures)
        found.append(_release_row(entry, manifest))
    return table, found


def _mean(figure: tuple[float, float, float] | None) -> str:
    from cards.markdown import percent

    return "-" if figure is None else percent(figure[0])


def _release_row(entry: ReleaseEntry, manifest: Manifest) -> dict[str, Any]:
    return {
        "release": entry.name,
        "id": manifest.id,
        "date": entry.date,
        "method": entry.method,
        "budget": entry.budget,
        "rows": entry.rows,
        "total": entry.total,
        "removed": manifest.removed,
        "verified": [dict(values) for values in manifest.measured],
    }
