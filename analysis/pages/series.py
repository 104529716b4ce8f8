"""Series: the page that joins the results of several studies.

A page is a function of the parts' results; PAGES names them for `page:` in a series' YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from analysis import records
from analysis.data.load import load
from analysis.pages.original_report.page import original_report
from analysis.pages.parts import Part
from analysis.pages.transfer import transfer_matrix
from analysis.report.blocks import Code, Section, Text
from analysis.report.page import pictures_of, write_html
from analysis.report.pictures import imports, off_screen
from study.config import strict_yaml
from trainables.errors import UserError

FILE_NAME = "series.yaml"  # in a series' folder: its name, its page, and its parts by the names of their folders

PAGES: dict[str, Callable[[Mapping[str, Part]], tuple[list[str], list[Section]]]] = {
    page.__name__: page for page in (original_report, transfer_matrix)
}


def is_series(folder: Path) -> bool:
    """Whether a folder holds a series of studies with a page that joins them."""
    return (folder / FILE_NAME).is_file()


def read_parts(folder: Path) -> dict[str, Part]:
    """Return the parts of the series in a folder that have begun, by name. Raises UserError where it holds none."""
    if not is_series(folder):
        raise UserError(f"{folder} holds no series of studies: it has no {FILE_NAME}; name the folder around its parts")
    names = strict_yaml.load((folder / FILE_NAME).read_text(encoding="utf-8"))["parts"]
    begun = {part: name for part, name in names.items() if (folder / name / records.JOURNAL_FILE).is_file()}
    return {part: Part(part, load(folder / name)) for part, name in begun.items()}


def write_page(folder: Path) -> Path:
    """Write `report.html` and `figures/*.png` of the series in a folder; return the page's path.

    A part that has not begun is said to be missing where it would stand. Raises UserError where the folder holds none.
    """
    parts = read_parts(folder)
    series = strict_yaml.load((folder / FILE_NAME).read_text(encoding="utf-8"))
    trials, names = sum(len(part.study.runs) for part in parts.values()), series["parts"].values()
    header = f"{trials:,} trials in {len(parts)} of {len(names)} studies: {', '.join(names)}."
    with off_screen():
        summary, sections = PAGES[series["page"]](parts)
        return write_html(folder, series["name"], header, summary, [*sections, _again(folder, parts, sections)])


def _again(folder: Path, parts: Mapping[str, Part], sections: list[Section]) -> Section:
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
    told = f"This page and its figures: `python -m analysis report {folder.as_posix()}`."
    return Section("reproduce", "Draw the figures again", [Code("\n".join(lines), id="script"), Text(told)])
