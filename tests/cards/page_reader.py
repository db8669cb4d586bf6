"""A page as its readers get it: its text, its tables, and what it would ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "input"}
_UNSEEN = {"style", "script", "title", "head"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What people read of it, on one line."""
        return " ".join(self._all_text().replace("\u00a0", " ").replace("\u2002", " ").split())

    def _all_text(self) -> str:
        pieces = (c if isinstance(c, str) else _spaced(c) for c in self.children)
        return "" if self.tag in _UNSEEN else "".join(pieces)

    @property
    def ancestors(self) -> list[Element]:
        return [] if self.parent is None else [self.parent, *self.parent.ancestors]

    def all(self, tag: str, name: str | None = None) -> list[Element]:
        """The elements with this tag, and class where one is given, within it in their order."""
        found = []
        for child in self.children:
            if isinstance(child, Element):
                fits = name is None or name in child.attributes.get("class", "").split()
                found += [child] * (child.tag == tag and fits) + child.all(tag, name)
        return found

    def by_id(self, name: str) -> Element:
        return next(e for e in self.everything if e.attributes.get("id") == name)

    @property
    def everything(self) -> list[Element]:
        inner = [c for c in self.children if isinstance(c, Element)]
        return [e for child in inner for e in (child, *child.everything)]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of a table, its header first."""
        lines = self.all("tr")
        return [[c.text for c in line.everything if c.tag in ("th", "td")] for line in lines]


def _spaced(element: Element) -> str:
    inline = element.tag in ("span", "em", "b", "a", "code")
    return element._all_text() if inline else f" {element._all_text()} "


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {}, None)
        self.at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(made)
        if tag not in _VOID:
            self.at = made

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.at.children.append(Element(tag, attributes, self.at))

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag, f"</{tag}> closes <{self.at.tag}>"
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.children.append(data)


def read(html: str) -> Element:
    """The whole document; an element that is not closed is an error."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert reader.at is reader.root, f"<{reader.at.tag}> is not closed"
    return reader.root
