"""report.html: everything that a report.json holds, on one page that needs nothing else.

The page asks nothing of any network, works without JavaScript, which only sorts and filters, and
shows names of classes and victims as text, whatever they hold.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cards.charts import LineChart, confusion_matrix, line_chart, matrix, mistakes
from cards.figures import Results, Summary, curves, results, setting_notes, worst_training
from cards.markdown import percent
from cards.recipes import left_out, recipes, release_facts, training_paragraphs
from cards.strips import strips
from cards.wording import (
    across,
    along,
    article,
    hardest,
    in_words,
    lead,
    named,
    points,
    seconds,
    stand,
    subject,
    tiles,
    unbroken,
)

if TYPE_CHECKING:
    from jinja2 import Environment

_DASHES = ("none", "7 4", "2 4", "9 3 2 3", "12 5", "4 2")
"""So that no curve is told by its colour alone."""


def render_report(report: Mapping[str, Any], pictures: Mapping[str, bytes] | None = None) -> str:
    """One HTML document of the report (the values of a report.json of this version) and these
    pictures, PNG bytes by caption. ValueError where a picture is no PNG."""
    found = results(report)
    parts = {
        "results": found,
        "names": _named(found.tabled, "countermeasure"),
        "victims": _named(found.tabled, "victim"),
        "setting_notes": setting_notes(row.countermeasure for row in found.settings),
        "doubts": "Reasons to doubt these figures" if report["trials"] else "Further cautions",
        # That it was not verified is what the page begins with.
        "flags": [flag for flag in report["flags"] if flag["id"] != "not-verified"],
        "tiles": tiles(found),
        "panels": _panels(report, found),
        "confusion": _confusion(report, found),
        "visibility": _visibility(report),
        "pictures": strips(pictures or {}),
        "analyses": [_analysis(one) for one in report["analyses"]],
        "recipes": recipes(report),
        "left_out": left_out(report),
        "unexamined": report["unexamined"],
        "method_paragraphs": training_paragraphs(report),
        "facts": release_facts(report),
        "repeating": _repeating(report),
        "command": _command(report, found),
        "reads_files": any("weights=" in row.countermeasure for row in found.everything),
    }
    header = {
        "title": report["name"],
        "lead": lead(report, found),
        "stand": stand(report),
        "hardest": hardest(found),
        "subject": subject(report),
    }
    template = environment().get_template("report.html.j2")
    return template.render(header, contents=_contents(parts), **parts)


def environment() -> Environment:
    """The templates of the pages; every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("cards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["dashes"] = _DASHES
    made.filters |= {
        "percent": unbroken,
        "points": points,
        "named": named,
        "in_words": in_words,
        "across": across,
        "along": along,
        "seconds": seconds,
        "count": "{:,}".format,
        "groupby_order": _groups,
    }
    return made


def _groups(rows: Iterable[Any], name: str) -> list[tuple[Any, list[Any]]]:
    """Rows by the value of an attribute, groups and rows in the order they come in."""
    found: dict[Any, list[Any]] = {}
    for row in rows:
        found.setdefault(getattr(row, name), []).append(row)
    return list(found.items())


def _contents(parts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has, by the id of each."""
    found: Results = parts["results"]
    sections = (
        ("doubts", "Doubts", True),
        ("overview", "Overview", found.countermeasures),
        ("trials", "Every figure", found.countermeasures),
        ("settings", "Circumstances", found.settings),
        ("curves", "Epochs", parts["panels"]),
        ("confusion", "Confusion", parts["confusion"]),
        ("visibility", "Visibility", True),
        ("images", "Images", parts["pictures"]),
        ("analyses", "Analyses", parts["analyses"]),
        ("how", "How it was measured", True),
        ("again", "Check it", True),
    )
    return [(name, heading) for name, heading, shown in sections if shown]


def _panels(report: Mapping[str, Any], found: Results) -> list[dict[str, Any]]:
    """A chart for each victim and countermeasure, those on new rows alone left out."""
    rows = [*found.countermeasures, *found.settings]
    chances = {(row.victim, row.countermeasure): row.chance for row in rows}
    return [
        {
            "victim": one.victim,
            "countermeasure": one.countermeasure,
            "chart": line_chart(
                [("clean", 0, curve) for curve in one.clean]
                + [("protected", 1, curve) for curve in one.protected],
                chances[one.victim, one.countermeasure],
            ),
            "ends": _ends(one.protected, "this release") + _ends(one.clean, ", clean twin"),
        }
        for one in curves(report, rows)
    ]


def _ends(found: Sequence[Sequence[float]], whose: str) -> str:
    if not found:
        return ""
    return f"{whose} after the last epoch {', '.join(percent(curve[-1]) for curve in found)}"


def _confusion(report: Mapping[str, Any], found: Results) -> dict[str, Any] | None:
    """The matrix of the training that the verdict is about, or of the worst."""
    worst = found.judged
    training = worst_training(report, worst)
    if worst is None or training is None:
        return None
    matrix = confusion_matrix(training["confusion"], report["class_names"])
    return {
        "about": _about_confusion(worst, training, matrix.is_small),
        "shift": _about_mistakes(training, matrix.names),
        "matrix": matrix,
        "mistakes": [] if matrix.is_small else mistakes(matrix),
    }


def _about_confusion(worst: Summary, training: Mapping[str, Any], is_small: bool) -> str:
    how = "" if worst.is_plain else f" with {worst.countermeasure}"
    large = "true classes down, predicted ones across; the darker, the greater the share."
    return (
        f"What {article(worst.victim)} {worst.victim}, trained on this release{how} (seed "
        f"{training['spec']['seed']}), predicted for {training['test_rows']:,} clean test images: "
        + ("in per cent of each true class. Outlined: what is right." if is_small else large)
    )


def _about_mistakes(training: Mapping[str, Any], names: Sequence[str]) -> str:
    """The one kind of mistake that stands out, if there is any."""
    shift, final = training["dominant_shift"], training["final"]
    taken = [sum(column) for column in zip(*training["confusion"], strict=True)]
    if not shift["share"]:
        return "It made no mistake."
    if 2 * max(taken) > sum(taken):
        favourite = names[taken.index(max(taken))]
        return f"It took {percent(max(taken) / sum(taken))} of all test images for {favourite}."
    if shift["share"] * (len(names) - 1) < 2 * (1 - final):  # twice what an even spread gives each
        return "No one kind of mistake stands out."
    many = shift["classes"]
    return (
        f"Its commonest mistake is a shift by {many} class{'' if many == 1 else 'es'}: "
        f"{percent(shift['share'])} of all test images were taken for the class {many} further on "
        f"(and {percent(final)} for the right one). Changes that pull every class towards another "
        "one leave such a trace."
    )


def _visibility(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """In figures; none where whoever verified had no clean images to compare with."""
    visibility = report["visibility"]
    if visibility is None or not visibility["rows"]:
        return []
    psnr, rows = visibility["psnr"], visibility["rows"]
    released = report["release"].get("released_rows", rows)
    first = [("Compared", f"the first {rows:,} of {released:,} images")] if rows < released else []
    return [
        *first,
        ("Images that differ", f"{visibility['changed']:,} of {visibility['rows']:,}"),
        ("Largest change of a value", f"{visibility['max_level']} of 255 grey levels"),
        ("Root mean square change", f"{visibility['rms_level']:.2f} grey levels"),
        ("Mean change", f"{visibility['shift']:+.3f} grey levels"),
        ("Mean PSNR of changed images", "no pixel differs" if psnr is None else f"{psnr:.1f} dB"),
        ("Mean structural similarity", f"{visibility['ssim']:.4f} (1 is identical)"),
    ]


def _analysis(found: Mapping[str, Any]) -> dict[str, Any]:
    drawn: list[tuple[str, int, Sequence[float]]] = [
        (label, series, values) for series, (label, values) in enumerate(_curves_of(found).items())
    ]
    chart: LineChart | None = line_chart(drawn) if drawn else None
    shares = found["matrix"]
    return {
        "name": found["analysis"],
        "sentence": found["sentence"],
        "figures": [
            (name.replace("_", " "), _number(value)) for name, value in found["figures"].items()
        ],
        "chart": chart,
        "matrix": matrix(shares, found["labels"]) if shares else None,
    }


def _curves_of(found: Mapping[str, Any]) -> Mapping[str, Sequence[float]]:
    return {name: values for name, values in found["curves"].items() if values}


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:,.4g}"


def _repeating(report: Mapping[str, Any]) -> str:
    """What the command that trains these victims again gives."""
    drawn = []
    if report["sample"] is not None:
        drawn.append("the rows published before that victims trained on")
    if report["test_split"] is None:
        drawn.append("the test images")
    if not drawn:
        return "The figures, trained again from scratch."
    source = " Give SOURCE a test split of its own." if report["test_split"] is None else ""
    return (
        "Comparable trainings; the very same cannot be made by others, since "
        f"{' and '.join(drawn)} were drawn from the secret seed.{source}"
    )


def _command(report: Mapping[str, Any], found: Results) -> str:
    """What trains these victims again in the same way; each argument is one word."""
    options = [("victim", name) for name in found.victims]
    options += [("countermeasure", name) for name in _named(found.everything, "countermeasure")]
    options += [("analysis", one["analysis"]) for one in report["analyses"]]
    known = ((name, value) for name, value in _conditions(report) if value is not None)
    options += [(name, str(value)) for name, value in known]
    lines = [f"  --{name} {shlex.quote(value)}" for name, value in options]
    return " \\\n".join(["protect-release verify DATASET --clean SOURCE", *lines])


def _conditions(report: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Under which these trainings were made, by option; None where nothing need be said."""
    specs = [one["spec"] for one in report["trainings"]]
    if not specs:
        return []
    release, size = report["release"], specs[0]["net_size"]
    seeds = len({spec["seed"] for spec in specs})
    return [
        ("split", _unless(release.get("split"), "train")),
        ("test-split", _unless(report["test_split"], "test")),
        ("preset", specs[0]["preset"]),
        ("epochs", specs[0]["epochs"]),
        ("seeds", _unless(seeds, 1)),
        ("rows", release.get("verified_rows")),
        ("net-size", _unless(size, release.get("net_size"))),
        ("delivered-as", report["delivered_as"]),
        ("max-accuracy", report["gate"]["max_accuracy"]),
    ]


def _unless(value: Any, usual: Any) -> Any:
    """The value, where it is not what the option has anyway."""
    return None if value == usual else value


def _named(rows: Iterable[Any], what: str) -> list[str]:
    """The values of an attribute, each once, in the order they come in."""
    return list(dict.fromkeys(getattr(row, what) for row in rows))
