"""Numbers on the page that are no cell: there should be none, but for digits inside names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser

NAMES = (
    r"\b(?:n|k_probe|L0) = \d+(?![\d.,])",  # the setting of a metric, which is part of its name
    r"Lens [123]\b",
    r"\bD[1-5]n?\b",
    r"\b[Ff]1\b",
    r"\bL0\b",
    r"E ρ²",
    r"factor √2\b",
    r"\bGemma-2-2b\b",
    r"\bSynthSAEBench-16k\b",
    r"\bSAEBench 0\.6\.0\b",
    r"\b2026, arXiv 2605\.18229\b",
)
"""Patterns of names that hold digits. Substrates and the study's name are added by the caller."""

_SILENT = {"script", "style"}
_INLINE = {"b", "code", "span", "small", "data", "a"}
CONTEXT = 30


class _Text(HTMLParser):
    """Visible text in which a cell's own text is left out; a block element ends a line."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._cells = self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._cells += tag == "data" and any(name == "data-cell" and value for name, value in attrs)
        self._silent += tag in _SILENT
        if tag not in _INLINE:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._cells = max(0, self._cells - (tag == "data"))
        self._silent = max(0, self._silent - (tag in _SILENT))

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append("\N{WHITE SQUARE}" if self._cells else data)


def untraced_numbers(html: str, names: Iterable[str] = ()) -> list[str]:
    """Runs of numerals (of any script, fractions and superscripts too) in the visible text outside of cells and names.

    Args:
        html: the page.
        names: more names that may hold digits, literally: the study's and its substrates'; a name without a letter is
            not taken.

    Returns:
        Each run between the characters around it, in the page's order.
    """
    reader = _Text()
    reader.feed(html)
    reader.close()
    text = "".join(reader.parts)
    own = [rf"(?<!\w){re.escape(name)}(?!\w)" for name in names if any(c.isalpha() for c in name)]
    for pattern in (*NAMES, *own):
        text = re.sub(pattern, "\N{WHITE SQUARE}", text)
    found, end = [], -1
    for start, character in enumerate(text):
        if character.isnumeric() and start > end:
            end = start
            while end + 1 < len(text) and text[end + 1].isnumeric():
                end += 1
            found.append(" ".join(text[max(0, start - CONTEXT) : end + CONTEXT].split()))
    return found
