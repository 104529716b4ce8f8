"""The page of a series, which joins the results of several studies.

A page is a function of the parts' results. `PAGES` lists them by the names that `page:` takes in a series' YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import yaml

from analysis import records
from analysis.data.load import load
from analysis.data.study import SIMULATED
from analysis.pages.benchmark import benchmark
from analysis.pages.original_report import original_report
from analysis.pages.parts import Part
from analysis.pages.transfer import transfer_matrix
from analysis.report.blocks import Code, Section, Text
from analysis.report.glossary import glossary
from analysis.report.page import marked, pictures_of, write_html
from analysis.report.pictures import Picture, imports, off_screen, simulated
from analysis.report.words import listed
from trainables.errors import UserError

FILE_NAME = "series.yaml"  # in the folder of a series

PAGES: dict[str, Callable[[Mapping[str, Part]], tuple[list[str], list[Section]]]] = {
    page.__name__: page for page in (original_report, transfer_matrix, benchmark)
}


@dataclass(frozen=True)
class _Series:
    """Content of `series.yaml`: the series' name, the name of its page, and the folder of each part."""

    name: str
    page: str
    parts: dict[str, str]


def is_series(folder: Path) -> bool:
    """Whether a folder holds a series of studies that has a page."""
    return (folder / FILE_NAME).is_file()


def read_parts(folder: Path) -> dict[str, Part]:
    """Load the parts of a series that have started, by name.

    Raises:
        UserError: If the folder does not hold a series, or its `series.yaml` cannot be read.
    """
    names = _read(folder).parts
    started = {part: name for part, name in names.items() if (folder / name / records.JOURNAL_FILE).is_file()}
    return {part: Part(part, load(folder / name)) for part, name in started.items()}


def write_page(folder: Path) -> Path:
    """Write `report.html` and `figures/*.png` of a series; return the path of the HTML file.

    The page names the parts that have not started.

    Raises:
        UserError: If the folder does not hold a series, or its `series.yaml` cannot be read.
    """
    series, parts = _read(folder), read_parts(folder)
    trials, names = sum(len(part.study.runs) for part in parts.values()), series.parts.values()
    header = f"{trials:,} trials in {len(parts)} of {len(names)} studies: {', '.join(names)}."
    with off_screen():
        summary, sections = PAGES[series.page](parts)
        simulated_parts = [name for name, part in parts.items() if part.study.simulated]
        if simulated_parts:
            sections = [marked(each, lambda picture: _marked(picture, simulated_parts)) for each in sections]
        warning = (
            f"{SIMULATED} This applies to {listed(parts[name].study.name for name in simulated_parts)}."
            if simulated_parts
            else ""
        )
        content = [*sections, glossary(), _reproduce(folder, parts, sections)]
        return write_html(folder, series.name, header, summary, content, warning=warning)


def _marked(each: Picture, names: list[str]) -> Picture:
    """Return a picture marked as simulated if the line that draws it uses one of these parts."""
    return simulated(each) if re.search(rf"\b({'|'.join(map(re.escape, names))})\b", each.code) else each


def _read(folder: Path) -> _Series:
    if not is_series(folder):
        raise UserError(
            f"{folder} does not hold a series of studies: it has no {FILE_NAME}; pass the folder that has its parts"
        )
    path = folder / FILE_NAME
    try:
        series = _Series(**yaml.safe_load(path.read_text(encoding="utf-8")))
        if series.page in PAGES and all(isinstance(name, str) for name in series.parts.values()):
            return series
    except (yaml.YAMLError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as a series ({error}); run the series again to write it anew"
        ) from error
    raise UserError(f"{path}: no page {series.page!r}, or a part without a folder; there are: {', '.join(PAGES)}")


def _reproduce(folder: Path, parts: Mapping[str, Part], sections: list[Section]) -> Section:
    """Return the script that draws every figure of the page."""
    pictures = pictures_of(sections)
    lines = [
        "from pathlib import Path",
        "",
        "from analysis.pages.series import read_parts",
        *imports(pictures),
        "",
        f"parts = read_parts(Path({folder.as_posix()!r}))",
        *(f"{name} = parts[{name!r}]" for name in parts),
        *(each.code for each in pictures),
    ]
    command = f"To write this page and its figures again: `python -m analysis report {quote(folder.as_posix())}`."
    return Section("reproduce", "Reproduce the figures", [Code("\n".join(lines), id="script"), Text(command)])
