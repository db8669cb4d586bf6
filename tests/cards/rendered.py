"""A card as it is read: by machines, and by people once it is rendered."""

from __future__ import annotations

import re
from typing import Any

import yaml
from markdown_it import MarkdownIt


def front(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---\n")[1])
    return found


def body(card: str) -> str:
    return card.split("---\n", 2)[2]


def html(card: str) -> str:
    """As GitHub and the Hub render it: CommonMark with tables."""
    return str(MarkdownIt("commonmark").enable("table").render(body(card)))


def text(card: str) -> str:
    """What people read."""
    return re.sub(r"<[^>]+>", "", html(card)).replace("&quot;", '"')


def tables(card: str) -> list[list[list[str]]]:
    """The cells of each line of each table, its header first; code is as other text."""
    shown = re.sub(r"</?code>", "", html(card))
    found = re.findall(r"<table>(.*?)</table>", shown, re.DOTALL)
    lines = [re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL) for table in found]
    return [[re.findall(r"<t[hd]>(.*?)</t[hd]>", line) for line in table] for table in lines]
