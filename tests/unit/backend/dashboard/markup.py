"""What a page is made of, as far as the tests ask: read by the standard library's parser."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

_EMPTY = frozenset({"meta", "link", "img", "input", "br", "hr", "rect", "circle"})
_CONTROLS = frozenset({"input", "select", "textarea", "progress"})
_HANDLERS = "on"


class Page(HTMLParser):
    """A page, read.

    Attributes:
        counts: of elements by name.
        problems: what a page of ours must not have, one sentence each.
        data: texts of ``<script type="application/json">``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.data: list[str] = []
        self.ids: Counter[str] = Counter()
        self._open: list[str] = []
        self._labels: set[str] = set()
        self._controls: list[tuple[str, str | None, bool]] = []
        self._level = 0
        self._json = False
        self.feed(text)
        self.close()
        self._judge()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.counts[tag] += 1
        if "id" in given:
            self.ids[str(given["id"])] += 1
        for name, value in attrs:
            if name.startswith(_HANDLERS) or name == "style":
                self.problems.append(f"<{tag}> has {name}")
            if name in ("href", "src", "action") and not str(value).startswith(("/", "#", "?")):
                self.problems.append(f"<{tag}> points to {value}")
        if tag in ("style", "iframe", "object", "embed", "base"):
            self.problems.append(f"found <{tag}>")
        if tag == "script":
            self._json = given.get("type") == "application/json"
            if not self._json and "src" not in given:
                self.problems.append("an inline script")
        if tag == "html" and not given.get("lang"):
            self.problems.append("no language")
        if tag == "img" and not given.get("alt"):
            self.problems.append("a picture without words")
        if tag == "label" and given.get("for"):
            self._labels.add(str(given["for"]))
        if tag in _CONTROLS and given.get("type") != "hidden":
            self._controls.append((tag, given.get("id"), "label" in self._open))
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            if int(tag[1]) > self._level + 1:
                self.problems.append(f"<{tag}> after <h{self._level}>")
            self._level = int(tag[1])
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _EMPTY:
            return
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> closes <{self._open[-1] if self._open else ''}>")
        elif self._open:
            self._open.pop()
        self._json = False

    def handle_data(self, data: str) -> None:
        if self._json and data.strip():
            self.data.append(data)

    def _judge(self) -> None:
        if self._open:
            self.problems.append(f"not closed: {self._open}")
        self.problems += [f"id {name} is there twice" for name, n in self.ids.items() if n > 1]
        self.problems += [
            f"<{tag}> {name} has no label"
            for tag, name, inside in self._controls
            if not inside and name not in self._labels
        ]
