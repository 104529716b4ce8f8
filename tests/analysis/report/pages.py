"""Views of a report for its tests: the page as a browser reads it, and the text of a section."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path

from analysis.findings import Findings
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Table
from analysis.report.sections.cures import what_each_did
from analysis.report.sections.recommendation import what_to_use
from analysis.report.sections.verdicts import did_it_converge
from analysis.report.sources import Sources

SUMMARY = "summary"
ORDER = [SUMMARY, "what-to-use", "did-it-converge", "cures", "search", "compared", "cost", "glossary", "reproduce"]
VOID = {"wbr", "meta", "img", "br", "link", "hr"}


class Page(HTMLParser):
    """What the tests look at in a page; `unclosed` are the tags that do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.sections: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.unclosed: list[str] = []
        self.text = ""
        self.texts: dict[str, str] = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag == "img":
            self.images.append(values)
        if tag == "section":
            self.sections.append(values["id"] or "")
            self.texts[self.sections[-1]] = ""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.sections:
            self.texts[self.sections[-1]] += data

    @property
    def figures(self) -> list[dict[str, str | None]]:
        """The images that are figures, without what a task sees on the first screen."""
        return [image for image in self.images if "title" in image]

    def section(self, name: str) -> str:
        """Return the text of one section."""
        return self.texts[name]


def texts(blocks: Sequence[Block]) -> Iterator[str]:
    """Yield every text of the blocks, marked up as they are; figures as the code that draws them."""
    for block in blocks:
        match block:
            case Folded():
                yield block.summary
                yield from texts(block.blocks)
            case Bullets():
                yield from block.items
            case Table():
                yield from ("|".join(row) for row in (block.head, *block.rows))
            case Gallery():
                yield from (each.code for each in block.pictures)
            case _:
                yield block.text


def section(findings: Findings, name: str) -> str:
    """Return what a section says, without drawing its figures."""
    makers = {"did-it-converge": did_it_converge, "cures": what_each_did}
    found = makers[name](findings, Sources(findings)) if name in makers else what_to_use(findings, Path("none"))
    return "\n".join(texts(found.blocks))
