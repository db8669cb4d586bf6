"""The README.md of a dataset: YAML that `load_dataset` and the Hub read, and a text for people,
which stands between two marks so that what its owner wrote around it can be kept."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cards.facts import CardFacts, budget_in_words
from cards.figures import setting_notes
from cards.kept import marked
from cards.markdown import code, escaped, fenced, mean_percent, percent
from cards.recipes import FINETUNE
from cards.tables import all_rows, measured_table, new_rows_alone, releases_table
from cards.verified import section
from cards.wording import article

if TYPE_CHECKING:
    from jinja2 import Environment

_TAGS = ("protect-release", "unlearnable-examples", "data-protection")
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
_LISTED_CLASSES = 50
_STANDS_FOR = {
    FINETUNE: "fine-tuning large pre-trained models",
    "simclr": "learning without labels",
}


def render(facts: CardFacts) -> str:
    """The whole README.md, ending in a newline; `cards.kept.merge` puts it over an older one."""
    template = _environment().get_template("card.md.j2")
    classes = list(facts.class_names)
    body = template.render(
        facts=facts,
        aim=_aim(facts),
        budget=budget_in_words(facts.budget),
        classes=classes[:_LISTED_CLASSES],
        further_classes=len(classes) - len(classes[:_LISTED_CLASSES]),
        has_grown=len(facts.releases) > 1,
        at=_at(facts.branch),
        measured_table=measured_table(facts),
        all_rows=all_rows(facts),
        new_rows_alone=new_rows_alone(facts),
        releases_table=releases_table(facts.releases),
        verified_again=section(facts.verified),
        setting_notes=setting_notes(row.countermeasure for row in facts.measured),
        not_considered=_not_considered(facts),
    )
    return f"---\n{front_matter(facts)}\n---\n\n{marked(body.strip())}\n"


def _aim(facts: CardFacts) -> str:
    """How many images were changed, by how much, and what for."""
    changed = _changed(facts)
    if changed == "None":
        return "None of them was changed, so that nothing keeps a classifier from learning."
    unbounded = any("unbounded" in entry.budget for entry in facts.releases)
    measured = "what was measured follows" if facts.is_verified else "nothing was measured"
    return (
        f"{changed} changed{'' if unbounded else ' slightly'}, with the aim that an image "
        "classifier trained on them does badly on ordinary, unchanged images; "
        f"{measured}."
    )


def _changed(facts: CardFacts) -> str:
    """Which images were changed, at the beginning of a sentence."""
    if facts.psnr is None:  # the newest release changed no pixel
        return "None" if len(facts.releases) == 1 else "Not all of them were"
    if not facts.unprotected_rows:
        return "Each one was"
    if facts.unprotected_rows == facts.released:
        return "None"
    return "Most were" if 2 * facts.unprotected_rows < facts.released else "Some were"


def _at(branch: str | None) -> Markup:
    """What a call for the dataset needs beside its name."""
    return Markup("") if branch is None else Markup(", revision=") + _quoted(branch)


def _not_considered(facts: CardFacts) -> list[str]:
    """Uses that no victim stood for."""
    uses = [use for name, use in _STANDS_FOR.items() if not facts.tried(name)]
    return [*uses, "generating images"]


def front_matter(facts: CardFacts) -> str:
    """The YAML between the two lines of dashes."""
    from huggingface_hub import DatasetCardData

    data = DatasetCardData(
        license=facts.license,
        pretty_name=facts.pretty_name,
        task_categories=["image-classification"],
        size_categories=[size_category(facts.released)],
        tags=[*_TAGS, *dict.fromkeys(entry.method for entry in facts.releases)],
        configs=[_default_config(facts)],
        dataset_info=_dataset_info(facts),
    )
    return str(data.to_yaml()).strip()


def size_category(rows: int) -> str:
    """The Hub's name for datasets of this many rows."""
    return next((name for limit, name in _SIZES if rows < limit), "n>1B")


def _default_config(facts: CardFacts) -> dict[str, Any]:
    # One glob a release, so that shards of a later one are visible only once the card lists them.
    files = {"split": facts.split, "path": list(facts.data_files)}
    return {"config_name": "default", "data_files": [files]}


def _dataset_info(facts: CardFacts) -> dict[str, Any]:
    split = {"name": facts.split, "num_bytes": facts.num_bytes, "num_examples": facts.released}
    sizes = {"download_size": facts.download_size, "dataset_size": facts.num_bytes}
    features = {} if facts.features is None else {"features": [dict(f) for f in facts.features]}
    return features | {"splits": [split]} | sizes


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("cards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "article": article,
        "md": escaped,
        "code": code,
        "fenced": fenced,
        "percent": percent,
        "mean_percent": mean_percent,
        "quoted": _quoted,
        "count": "{:,}".format,
    }
    return made


def _quoted(value: object) -> Markup:
    """A Python literal inside a code block, where HTML escapes would be shown."""
    return Markup(json.dumps(value, ensure_ascii=False))
