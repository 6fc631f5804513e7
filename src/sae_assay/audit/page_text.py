"""Reads a report's page: its numbers that are cells, its other texts, and the data inside its scripts. Nothing is run."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

from sae_assay.audit.reading import Unsafe

SILENT = ("script", "style")
SHOWN_ATTRIBUTES = ("title", "alt", "aria-label", "placeholder", "content")


@dataclass(frozen=True)
class Number:
    """One `<data data-cell=ID value=RAW>SHOWN</data>`."""

    cell: str
    value: str
    text: str


@dataclass
class Page:
    """What a page shows.

    Attributes:
        numbers: its cells, in order.
        texts: every other text, attributes that are shown included, white space folded.
        scripts: id -> text of its script elements.
    """

    numbers: list[Number] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    scripts: dict[str, str] = field(default_factory=dict)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._text: list[str] = []
        self._cell: dict[str, str] | None = None
        self._script: str | None = None
        self._hidden: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        shown = [given[name] for name in SHOWN_ATTRIBUTES if name in given]
        if tag in SILENT:
            self._flush()
            self._script = given.get("id", tag)
            return
        if tag == "data" and "data-cell" in given:
            self._flush()
            self._cell = given
        if self._cell is not None and given.get("aria-hidden") == "true":  # a verdict's sign beside its word
            self._hidden = tag
        self.page.texts += [" ".join(text.split()) for text in shown]

    def handle_endtag(self, tag: str) -> None:
        if tag in SILENT and self._script is not None:
            text = "".join(self._text)
            self.page.scripts[self._script] = self.page.scripts.get(self._script, "") + text
            self._text, self._script = [], None
        elif tag == "data" and self._cell is not None:
            cell = self._cell
            self.page.numbers.append(Number(cell["data-cell"], cell.get("value", ""), "".join(self._text)))
            self._text, self._cell = [], None
        elif tag == self._hidden:
            self._hidden = None
        elif self._cell is None:
            self._flush()

    def handle_data(self, data: str) -> None:
        if self._hidden is not None:
            self.page.texts.append(data)
        else:
            self._text.append(data)

    def handle_comment(self, data: str) -> None:
        self.page.texts.append(" ".join(data.split()))

    def _flush(self) -> None:
        text = " ".join("".join(self._text).split())
        if text:
            self.page.texts.append(text)
        self._text = []

    def close(self) -> None:
        super().close()
        self._flush()


def read_page(html: str, where: str) -> Page:
    """The parts of a page.

    Raises:
        Unsafe: it is no HTML that can be read.
    """
    reader = _Reader()
    try:
        reader.feed(html)
        reader.close()
    except (AssertionError, ValueError, RecursionError) as error:
        raise Unsafe(where, f"is no HTML that can be read: {error}", "run `dvc pull`, or render it again") from None
    return reader.page
