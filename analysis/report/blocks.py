"""Blocks, the content of a report's sections. The template renders each kind.

Texts mark `code` with backticks and **strong words** with double asterisks; everything else is shown literally.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from analysis.report.pictures import Picture


@dataclass(frozen=True)
class Text:
    """A paragraph, styled as plain text, a finding or a caveat."""

    text: str
    tone: Literal["plain", "finding", "caveat"] = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Bullets:
    """A list of sentences, numbered if their order matters."""

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
    """A table of strings: `n_words` columns of words, then right-aligned columns of numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_words: int = 1
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Code:
    """Preformatted text: YAML, Python, a traceback."""

    text: str
    id: str = ""
    wraps: bool = False
    kind: ClassVar[str] = "code"


@dataclass(frozen=True)
class Terms:
    """Words and their meanings, each with an anchor."""

    items: Mapping[str, str]
    kind: ClassVar[str] = "terms"


@dataclass(frozen=True)
class Files:
    """Links to files beside the page."""

    lead: str
    names: Sequence[str]
    kind: ClassVar[str] = "files"


@dataclass(frozen=True)
class Gallery:
    """Figures in a grid."""

    pictures: Sequence[Picture]
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Folded:
    """Blocks behind a summary line that unfolds them."""

    summary: str
    blocks: Sequence[Block]
    kind: ClassVar[str] = "folded"


Block = Text | Bullets | Heading | Table | Code | Terms | Files | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """One question of the report and its answer.

    Attributes:
        id: Anchor of the section.
        title: The question.
        blocks: The whole answer.
        lead: The answer in a few words, shown while the section is folded.
    """

    id: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""


def pictures_in(blocks: Sequence[Block]) -> Iterator[Picture]:
    """Yield every picture of the blocks, in the order of the page."""
    for block in blocks:
        if isinstance(block, Gallery):
            yield from block.pictures
        elif isinstance(block, Folded):
            yield from pictures_in(block.blocks)


def with_pictures(blocks: Sequence[Block], change: Callable[[Picture], Picture]) -> list[Block]:
    """Return the blocks with every picture changed."""
    found: list[Block] = []
    for block in blocks:
        if isinstance(block, Gallery):
            block = Gallery([change(each) for each in block.pictures])
        elif isinstance(block, Folded):
            block = Folded(block.summary, with_pictures(block.blocks, change))
        found.append(block)
    return found


def labeled(blocks: Sequence[Block], name: str) -> list[Block]:
    """Return the blocks with `name` before the name and alt text of each picture, for a page of several studies."""
    prefix = name.replace(" ", "-")
    return with_pictures(blocks, lambda each: replace(each, name=f"{prefix}-{each.name}", alt=f"{name}: {each.alt}"))
