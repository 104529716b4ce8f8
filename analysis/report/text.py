"""Texts of the report as HTML: escaped, with `code`, **strong words**, links to the glossary and to other pages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from analysis.report.glossary import GLOSSARY

_WORDS = {word: words for words in GLOSSARY for word in words.split(", ")}  # "better, worse" is one entry for both
_WORD = re.compile(rf"(?<![\w-])({'|'.join(sorted(map(re.escape, _WORDS), key=len, reverse=True))})s?(?![\w-])")
_OUTSIDE = re.compile(r"(<code>.*?</code>|<a .*?</a>|<[^>]*>)")  # text between these parts may become a link


class Link(str):
    """Text of a table's cell that is a link.

    Attributes:
        href: Address of the link.
    """

    href: str

    def __new__(cls, text: str, href: str) -> Link:
        """Create the text with its address."""
        made = super().__new__(cls, text)
        made.href = href
        return made


@dataclass
class UsedTerms:
    """Words of the glossary that a section has linked already: only the first use of each is a link."""

    seen: set[str] = field(default_factory=set)

    def link(self, html: str) -> str:
        """Return HTML with the first use of each word linked to the glossary, and explained on hover."""
        parts = _OUTSIDE.split(html)
        return "".join(part if index % 2 else _WORD.sub(self._linked, part) for index, part in enumerate(parts))

    def _linked(self, found: re.Match[str]) -> str:
        entry = _WORDS[found[1]]
        if entry in self.seen:
            return found[0]
        self.seen.add(entry)
        meaning = escape(GLOSSARY[entry].replace("`", ""))
        return f'<a class="term" href="#{anchor(entry)}" title="{meaning}">{found[0]}</a>'


def anchor(word: str) -> str:
    """Return the anchor of a word of the glossary."""
    return "word-" + re.sub(r"\W+", "-", word).lower()


def markup(text: str, *, in_table: bool = False, terms: UsedTerms | None = None) -> Markup:
    """Convert a text to HTML: escaped, with `code` and **strong** as elements and intervals kept on one line.

    Args:
        text: The text.
        in_table: Whether long names may break after each of their parts.
        terms: The words linked so far in this section; None links none.
    """
    html = str(escape(str(text)))
    if in_table:
        html = re.sub(r"[\w/=.]{16,}", lambda name: re.sub(r"(?<=[_/=])(?=\w)", "<wbr>", name[0]), html)
    html = re.sub(r"\[[-−+.\d]+, [-−+.\d]+\]", r'<span class="interval">\g<0></span>', html)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)
    if isinstance(text, Link):
        html = f'<a href="{escape(text.href)}">{html}</a>'
    return Markup(html if terms is None else terms.link(html))
