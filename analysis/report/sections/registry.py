"""Sections that plug-ins add to the report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.findings import Findings
from analysis.report.blocks import Section, Text
from trainables import plugins
from trainables.errors import ConfigError, first_line, suggestion
from trainables.registry import Registry

PLACES = ("what-to-use", "did-it-converge", "cures", "search", "compared", "cost")  # ids of the sections

logger = logging.getLogger(__name__)

Write = Callable[[Findings, Path], Section | None]


@dataclass(frozen=True)
class AddedSection:
    """A section of a plug-in: the function that writes it, and the id of the section that it follows."""

    write: Write
    after: str


SECTIONS: Registry[AddedSection] = Registry("section", {})


def register_section(name: str, *, after: str = PLACES[-1]) -> Callable[[Write], Write]:
    """Return a decorator that makes a function a section of the report of studies that name the plug-in.

    The function takes the findings of a study and its folder, and returns a Section, or None to leave it out. Its
    pictures are `analysis.report.pictures.Picture`, which draws a figure and shows the code that draws it.

    Args:
        name: Name of the section, and its anchor in the page.
        after: Id of the section of this package that it follows, one of PLACES.

    Raises:
        ConfigError: The name is taken, or there is no section `after`.
    """
    if after not in PLACES:
        raise ConfigError(f"section {name!r}: after = {after!r}: no such section; {suggestion(after, PLACES)}")
    if name in PLACES:
        raise ConfigError(f"section {name!r}: this package has one of this name; choose another")
    return SECTIONS.decorator(name, lambda write: AddedSection(write, after))


def with_added(sections: Sequence[Section], findings: Findings, folder: Path) -> list[Section]:
    """Return the sections of a page with those of the study's plug-ins.

    A section whose code fails says so in its place, since the rest of the report does not depend on it.

    Args:
        sections: Sections of this package.
        findings: Findings of the study.
        folder: The study's folder.
    """
    found = list(sections)
    for name, added in reversed(plugins.items_of(SECTIONS, findings.study.plugins)):
        try:
            section = added.write(findings, folder)
        except Exception as error:  # noqa: BLE001 (code of a plug-in may raise anything)
            what = f"{type(error).__name__}: {first_line(error)}"
            logger.warning("section %r of a plug-in failed: %s", name, what)
            failure = f"The code of this section, which a plug-in has added, failed: {what}"
            section = Section(name, name.replace("_", " "), [Text(failure, "caveat")], "its code failed")
        if section is not None:
            place = next(index for index, each in enumerate(found) if each.id == added.after)
            found.insert(place + 1, replace(section, id=name))
    return found
