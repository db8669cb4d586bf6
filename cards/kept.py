"""A card put over the README.md that is there already, of which nothing that its owner wrote is
lost.

What the card says stands between two comments. Everything outside them is the owner's, and so are
the keys, tags, tasks, splits and configurations of the YAML that the card does not write.
Verifications after publication, which the published card alone knows, outlive it too. A card that
lost one of its two marks cannot be told from the owner's text: `torn` says so, for the owner to
mend it; merged nevertheless, it is kept below ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from cards.markdown import fenced
from cards.verified import keep_verifications

_BEGIN = "<!-- protect-release: begin; this part is written anew with every release -->"
_END = "<!-- protect-release: end; lines of your own are kept above the beginning or below -->"
# Known by how they begin, so that a later version may word them otherwise.
_BEGINS = r"^<!-- protect-release: begin\b[^\n]*-->[ \t\r]*$"
_ENDS = r"^<!-- protect-release: end\b[^\n]*-->(?=[ \t\r]*$)"
_OURS = re.compile(rf"{_BEGINS}(?:(?!{_BEGINS}).)*?{_ENDS}", re.MULTILINE | re.DOTALL)
_ANY_MARK = re.compile(r"^<!-- protect-release:( begin)?", re.MULTILINE)
_OPENING = re.compile(r"\A\s*^---[ \t]*\r?$", re.MULTILINE)
_FRONT = re.compile(r"\A\s*^---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.MULTILINE | re.DOTALL)
_DEFAULT = "default"
_LISTS = ("tags", "task_categories")
_SPLITS = {"configs": ("data_files", "split"), "dataset_info": ("splits", "name")}
"""Keys of ours whose value may hold more than ours: lists of words, and configurations, each with
where its splits are listed and what names one there."""
_MAP, _SEQUENCE, _NULL = (f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "null"))


def marked(body: str) -> str:
    """The body between its two marks; a mark within it, in a citation say, is made none."""
    inside = body.replace("<!-- protect-release:", "<!--protect-release:")
    return f"{_BEGIN}\n{inside}\n{_END}"


def merge(existing: str, ours: str) -> str:
    """`existing` with `ours`, a card as `render` makes it, in the place of the card it had; every
    line outside the marks is kept byte for byte, where there are none the whole text below ours.

    Keys of our YAML win. Others, tags that were added, and configurations but `default` are kept,
    comments in it are not. YAML that cannot be read is kept as a code block below the card. The
    lines of the section `Verified again` are kept, too. Merging the same card twice changes
    nothing. ValueError where `ours` is no card.
    """
    our_front, our_body = _split(ours)
    mine = _OURS.search(our_body)
    if not our_front or mine is None:
        raise ValueError("this is no card of protect-release: render one first")
    front, body = _split(existing.removeprefix("\ufeff"))
    found = _OURS.search(body)
    before = our_body[: mine.start()] if found is None else body[: found.start()]
    after = _below(body) if found is None else body[found.end() :]
    card = mine[0] if found is None else keep_verifications(found[0], mine[0])
    if _is_readable(front):
        our_front = _merged_front(front, our_front)
    else:
        after = f"\n\n{fenced(front, 'yaml')}{after}"
    return f"---\n{our_front}---\n{before}{card}{after}"


def torn(readme: str) -> str | None:
    """What a README.md lost of the card that it had, so that the rest of that cannot be told from
    its owner's text; None where the card is whole, or there is none."""
    text = readme.removeprefix("\ufeff")
    if _OPENING.match(text) and not _FRONT.match(text):
        return "the line --- that ends its YAML"
    body = _split(text)[1]
    mark = _ANY_MARK.search(body)
    if mark is None or _OURS.search(body):
        return None
    lost = "end" if mark[1] else "begin"
    return f"the line <!-- protect-release: {lost} ... --> of its card"


def lacking(readme: str, release: str) -> str | None:
    """What keeps a published README.md from being a whole card of which `release` is the newest;
    None where it is one. Lines of its owner are no matter."""
    if not readme.strip():
        return "is empty"
    if lost := torn(readme):
        return f"has lost {lost}"
    front, body = _split(readme.removeprefix("\ufeff"))
    if not front.strip() or not _is_readable(front):
        return "has no YAML at its top that can be read"
    found = _OURS.search(body)
    if found is None:
        return "has no card of this tool"
    return None if release in found[0] else f"does not tell of {release}, the newest release"


def _below(body: str) -> str:
    """The whole of a text as it follows our end mark."""
    return f"\n{body}" if body.strip() else "\n"


def _split(card: str) -> tuple[str, str]:
    """The YAML, empty where there is none, and what follows it."""
    found = _FRONT.match(card)
    return ("", card) if found is None else (found[1], card[found.end() :])


def _is_readable(front: str) -> bool:
    """Whether it is YAML as the Hub takes it: a mapping, or nothing at all."""
    try:
        values = yaml.safe_load(front)
    except (yaml.YAMLError, ValueError):  # ValueError: a date that there is not
        return False
    return values is None or isinstance(values, dict)


def _merged_front(theirs: str, ours: str) -> str:
    """Our YAML with what only theirs says, as it is written there: a version 1.10 that was read as
    a number would become 1.1."""
    made, old = _entries(ours), _entries(theirs)
    pairs = [(key, _with_theirs(name, value, old)) for name, (key, value) in made.items()]
    pairs += [pair for name, pair in old.items() if name not in made]
    if pairs == list(made.values()):
        return ours
    return str(yaml.serialize(yaml.MappingNode(_MAP, pairs), allow_unicode=True))


def _entries(front: str) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The key and the value of each entry, by the key's text."""
    node = yaml.compose(front, yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {key.value: (key, value) for key, value in pairs}


def _with_theirs(name: str, ours: yaml.Node, old: Mapping[str, tuple[yaml.Node, yaml.Node]]) -> Any:
    """Our value, with what theirs says beside it; the very same where that is nothing."""
    if name not in old:
        return ours
    theirs = old[name][1]
    if name in _LISTS:
        known = {word.value for word in ours.value}
        added = [word for word in _items(theirs, yaml.ScalarNode) if word.value not in known]
        return _longer(ours, added)
    if name not in _SPLITS:
        return ours
    entries = _items(theirs, yaml.MappingNode)
    default = [entry for entry in entries if _config(entry) == _DEFAULT]
    added = [entry for entry in entries if _config(entry) != _DEFAULT]
    return _longer(_with_splits(ours, default, *_SPLITS[name]), added)


def _longer(ours: yaml.Node, added: list[yaml.Node]) -> yaml.Node:
    return yaml.SequenceNode(_SEQUENCE, [*_items(ours), *added]) if added else ours


def _with_splits(
    ours: yaml.Node, theirs: list[yaml.MappingNode], listed: str, key: str
) -> yaml.Node:
    """Our one configuration, alone or in a list, with their splits of it that are not ours."""
    (entry,) = _items(ours, yaml.MappingNode)
    splits = _value(entry, listed)
    known = {_text(split, key) for split in _items(splits, yaml.MappingNode)} | {None}
    there = [split for other in theirs for split in _items(_value(other, listed), yaml.MappingNode)]
    added = [split for split in there if _text(split, key) not in known]
    if not added:
        return ours
    pairs = [(k, _longer(v, added) if v is splits else v) for k, v in entry.value]
    made = yaml.MappingNode(_MAP, pairs)
    return yaml.SequenceNode(_SEQUENCE, [made]) if isinstance(ours, yaml.SequenceNode) else made


def _value(entry: yaml.MappingNode, name: str) -> yaml.Node:
    """What stands under this key; nothing where it is not there."""
    nothing = yaml.ScalarNode(_NULL, "")
    return next((value for key, value in entry.value if key.value == name), nothing)


def _text(entry: yaml.MappingNode, name: str) -> str | None:
    """The word under this key; None where there is none."""
    found = _value(entry, name)
    return found.value if isinstance(found, yaml.ScalarNode) and found.tag != _NULL else None


def _items(node: yaml.Node, kind: type[yaml.Node] = yaml.Node) -> list[Any]:
    """The items of a list, or the one thing that stands in its place, of one kind."""
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [item for item in items if isinstance(item, kind) and item.tag != _NULL]


def _config(entry: yaml.MappingNode) -> str:
    """The name of the configuration that this is about."""
    return _text(entry, "config_name") or _DEFAULT
