"""The page of a study: one self-contained HTML file with its findings, their evidence and the cost.

It only renders. `analysis.findings` computes the numbers, `analysis.figures` draws them, and each module in `sections`
answers one question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote

import jinja2

from analysis import records
from analysis.data.load import load
from analysis.data.study import SIMULATED
from analysis.findings import Findings, compute_findings
from analysis.records import StudyStarted
from analysis.records.layout import FIGURES, REPORT_FILE
from analysis.report.blocks import Code, Section, Text, pictures_in, with_pictures
from analysis.report.first_screen import FirstScreen, first_screen
from analysis.report.glossary import glossary
from analysis.report.pictures import Picture, imports, off_screen, simulated
from analysis.report.plain import Answer, answer
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sections.cost import header, what_it_cost
from analysis.report.sections.cures import what_each_did
from analysis.report.sections.recommendation import what_to_use
from analysis.report.sections.registry import with_added
from analysis.report.sections.sensitivity import how_sensitive
from analysis.report.sections.summary import summary
from analysis.report.sections.trials import Beside, find_beside
from analysis.report.sections.verdicts import did_it_converge
from analysis.report.sources import Sources
from analysis.report.text import UsedTerms, anchor, markup
from trainables import files
from trainables.errors import without_secrets


def write_report(
    folder: Path,
    findings: Findings | None = None,
    answered: Answer | None = None,
    *,
    source: str | None = None,
    tracking_uri: str = "",
) -> Path:
    """Write `report.html` and `figures/*.png` into a folder.

    The page embeds its figures and styles and makes no network requests. The report of a running study covers the
    trials so far.

    Args:
        folder: Where to write, and the study's folder if `findings` is None.
        findings: The findings to report; None computes them from `folder`.
        answered: What the findings answer; None computes it.
        source: Source of the study for `analysis.load` in the page's script, if it is a tracking URI and not `folder`.
        tracking_uri: MLflow store of the study, to link its runs if it is a server; by default the environment's.

    Returns:
        The path of the HTML file.

    Raises:
        UserError: If `findings` is None and `folder` does not hold a study.
    """
    findings = findings or compute_findings(load(folder))
    began = records.started(folder)
    with off_screen():
        sections, warning = sections_of(findings, folder, began, find_beside(folder, tracking_uri)), ""
        if findings.study.simulated:
            sections, warning = [marked(each, simulated) for each in sections], SIMULATED
        script = _reproduce(findings, source or folder.as_posix(), pictures_of(sections))
        content = [*sections, glossary(), script]
        name = findings.study.name
        screen = first_screen(findings, answered or answer(findings, folder))
        sentences = summary(findings)
        return write_html(folder, name, header(findings), sentences, content, warning=warning, screen=screen)


def write_html(
    folder: Path,
    name: str,
    header: str,
    summary: list[str],
    sections: list[Section],
    *,
    warning: str = "",
    screen: FirstScreen | None = None,
) -> Path:
    """Draw the sections' pictures into `folder/figures` and write the page.

    Args:
        folder: Folder of the page.
        name: Title of the page.
        header: Line under the title.
        summary: Sentences at the top.
        sections: Sections of the page.
        warning: Red text that stays in view; empty for none.
        screen: The first screen. With one, the sections are folded below it, and the summary as well.

    Returns:
        Path of the page.
    """
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    images = {each.name: each.save(folder / FIGURES) for each in pictures_of(sections)}
    template = _environment().get_template("report.html.j2")
    page = template.render(
        name=name,
        header=header,
        summary=summary,
        sections=sections,
        images=images,
        warning=warning,
        screen=screen,
        new_terms=UsedTerms,
    )
    path = folder / REPORT_FILE
    files.write(path, page.encode())
    return path


def marked(section: Section, change: Callable[[Picture], Picture]) -> Section:
    """Return a section with every picture changed."""
    return replace(section, blocks=with_pictures(section.blocks, change))


def pictures_of(sections: list[Section]) -> list[Picture]:
    """Return every picture of the sections, in the order of the page."""
    return [each for section in sections for each in pictures_in(section.blocks)]


def sections_of(
    findings: Findings, folder: Path, started: StudyStarted | None = None, beside: Beside | None = None
) -> list[Section]:
    """Return the sections of the page, in the order of a reader's questions."""
    sources = Sources(findings)
    sections = [
        what_to_use(findings, folder),
        did_it_converge(findings, sources),
        what_each_did(findings, sources),
        how_sensitive(findings, sources),
        how_it_compares(findings, sources),
        what_it_cost(findings, started, beside or Beside()),
    ]
    return with_added(sections, findings, folder)


def _reproduce(findings: Findings, source: str, pictures: list[Picture]) -> Section:
    """Return the script that draws every figure of the page."""
    is_uri = "://" in source
    source = without_secrets(source)
    name = findings.study.name
    lines = [
        "import analysis",
        *imports(pictures),
        "from analysis.findings import compute_findings",
        "",
        f"study = analysis.load({source!r}{f', study={name!r}' if is_uri else ''})",
        "findings = compute_findings(study)",
        *(each.code for each in pictures),
    ]
    which = f"{quote(source)}{f' --study {quote(name)}' if is_uri else ''}"
    commands = [f"`python -m analysis {command} {which}`" for command in ("report", "verdicts", "effects", "export")]
    return Section(
        "reproduce",
        "Reproduce the figures",
        [
            Code("\n".join(lines), id="script"),
            Text(f"This page, its verdicts, its effects and the frames behind them: {', '.join(commands)}."),
        ],
        "Python that draws every figure of this page again.",
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("analysis.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markup": markup, "anchor": anchor}
    return environment
