"""Blocks: what a section of the report is made of. The template knows how each kind looks.

Texts may hold `code` in backticks and **strong words** in double asterisks; all else is shown as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from markupsafe import Markup, escape

from analysis.report.pictures import Picture


@dataclass(frozen=True)
class Text:
    """A paragraph. A caveat is set apart from what is found; a finding stands out."""

    text: str
    tone: Literal["plain", "finding", "caveat"] = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, numbered where their order says something."""

    items: Sequence[str]
    ordered: bool = False
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Table:
    """A table of texts; the first `n_words` columns are words, the others numbers, set flush right."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_words: int = 1
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Code:
    """Text shown to the letter: YAML, Python, a traceback."""

    text: str
    id: str = ""
    wraps: bool = False
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Gallery:
    """Figures beside and below one another."""

    pictures: Sequence[Picture]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "folded"


Block = Text | Bullets | Heading | Table | Code | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """One question of the report and its answer."""

    id: str
    title: str
    blocks: Sequence[Block]


def pictures_in(blocks: Sequence[Block]) -> Iterator[Picture]:
    """Yield every picture of the blocks in the order in which they are shown."""
    for block in blocks:
        if isinstance(block, Gallery):
            yield from block.pictures
        elif isinstance(block, Folded):
            yield from pictures_in(block.blocks)


def labeled(blocks: Sequence[Block], name: str) -> list[Block]:
    """Return the blocks with a name before each picture's own, so that several studies fit on one page."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Gallery):
            prefix = name.replace(" ", "-")
            pictures = [
                replace(each, name=f"{prefix}-{each.name}", alt=f"{name}: {each.alt}") for each in block.pictures
            ]
            block = Gallery(pictures)
        elif isinstance(block, Folded):
            block = Folded(block.summary, labeled(block.blocks, name))
        found.append(block)
    return found


def markup(text: str, *, in_table: bool = False) -> Markup:
    """Return a text as HTML: everything escaped, `code` and **strong** turned into elements, no interval broken.

    in_table: whether long names may be broken, after each of their parts.
    """
    html = str(escape(text))
    if in_table:
        html = re.sub(r"[\w/=.]{16,}", lambda name: re.sub(r"(?<=[_/=])(?=\w)", "<wbr>", name[0]), html)
    html = re.sub(r"\[[-−+.\d]+, [-−+.\d]+\]", r'<span class="interval">\g<0></span>', html)
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html))
