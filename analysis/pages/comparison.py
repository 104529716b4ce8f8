"""The page that compares studies with the first of them: what differs in them, and their results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.comparisons import interval_scope
from analysis.comparisons.studies import OTHER_IMAGES, SAME_IMAGES, StudyComparison
from analysis.data.study import SIMULATED
from analysis.figures import effects_forest
from analysis.report import sentences
from analysis.report.blocks import Block, Code, Gallery, Section, Table, Text
from analysis.report.claims import first_true
from analysis.report.glossary import glossary
from analysis.report.page import marked, pictures_of, write_html
from analysis.report.pictures import Picture, Shown, imports, off_screen, picture, simulated
from analysis.report.words import count, difference, effect, listed, measured, metric_words, number, p_cell, within
from trainables.errors import without_secrets

NAME = "comparison"
KINDS = {
    "setting": "Configuration",
    "chosen": "Chosen by each study's own search",
    "data": "Data",
    "software": "Software of the last run",
}
HOW = {
    SAME_IMAGES: (
        "On the same images, results are paired by seed. Seeds that only one study has are paired in their order."
    ),
    OTHER_IMAGES: (
        "On other images, both means are independent samples of seeds and images. A difference may come from the "
        "settings or from the images, and equivalence is not tested."
    ),
}
NOTHING = "The studies have no result in common: no task with values of one metric in the first study and another one."
STATEMENTS = (
    sentences.STUDY_BETTER,
    sentences.STUDY_WORSE,
    sentences.STUDY_EQUIVALENT,
    sentences.STUDIES_NOT_TOLD_APART,
)


def comparison_sentences(comparison: StudyComparison) -> list[str]:
    """Return one sentence per comparison, with its numbers; one that says so if there is nothing to compare."""
    found = []
    for _, row in comparison.effects.iterrows():
        numbers = f"{number(row['mean'])} compared with {number(row['baseline_mean'])}, {effect(row)}"
        if row["design"] == OTHER_IMAGES:
            numbers += f" ({OTHER_IMAGES})"
        words = {"task": row["task"], "study": row["cell"], "baseline": row["baseline"]}
        words |= {"measured": measured(row), "numbers": f"{numbers}.", "margin": within(comparison.margin)}
        found.append(first_true(STATEMENTS, row).say(row, **words))
    return found or [NOTHING]


def write_comparison(folder: Path, comparison: StudyComparison, sources: Sequence[str]) -> Path:
    """Write `report.html` and `figures/*.png` of a comparison.

    Args:
        folder: Where to write.
        comparison: The comparison.
        sources: What was compared, for the script on the page.

    Returns:
        Path of the HTML file.
    """
    studies = comparison.studies
    trials = ", ".join(f"{name} ({count(len(study.runs))} trials)" for name, study in studies.items())
    made_up = [name for name, study in studies.items() if study.simulated]
    with off_screen():
        sections = [_settings(comparison), _results(comparison)]
        if made_up:
            sections = [marked(each, simulated) for each in sections]
        warning = f"{SIMULATED} This applies to {listed(made_up)}." if made_up else ""
        content = [*sections, glossary(), _reproduce(sources, pictures_of(sections))]
        title = f"{NAME} with {comparison.baseline}"
        return write_html(folder, title, trials, comparison_sentences(comparison), content, warning=warning)


def _settings(comparison: StudyComparison) -> Section:
    found, names = comparison.settings, list(comparison.studies)
    blocks: list[Block] = [
        Table(KINDS[str(kind)], ["setting", *names], rows[["name", *names]].to_numpy().tolist(), 1 + len(names))
        for kind, rows in found.groupby("kind", sort=False)
    ]
    return Section("settings", "What differs?", blocks or [Text("Nothing: neither settings nor data nor software.")])


def _results(comparison: StudyComparison) -> Section:
    effects = comparison.effects
    title = "How do the results compare?"
    if effects.empty:
        return Section("results", title, [Text(NOTHING, "caveat")])
    how = " ".join(filter(None, [*(HOW[name] for name in effects["design"].unique()), interval_scope(effects)]))
    return Section("results", title, [Gallery(list(_forests(comparison))), _table(effects), Text(how)])


def _forests(comparison: StudyComparison) -> Iterator[Picture]:
    shown = Shown(comparison.effects, "comparison.effects")
    seeds = Shown(comparison.differences, "comparison.differences")
    for metric, own in comparison.effects.groupby("metric", sort=False):
        where = f"metric == {metric!r}"
        answers = listed(f"{row['task']} {row['cell']} {difference(row)}" for _, row in own.iterrows())
        alt = f"{metric_words(str(metric))}, differences from {comparison.baseline}: {answers}"
        options = {"margin": comparison.margin, "metric": metric}
        yield picture(f"{NAME}-{metric}", alt, effects_forest, shown.query(where), seeds.query(where), **options)


def _table(effects: pd.DataFrame) -> Table:
    rows = [
        [
            *(row["task"], row["cell"], measured(row), row["design"], row["answer"]),
            *(number(row["mean"]), number(row["baseline_mean"]), difference(row), count(row["n_seeds"])),
            *(p_cell(row["p_holm"]), row["note"]),
        ]
        for _, row in effects.iterrows()
    ]
    head = ["task", "study", "metric", "evaluated on", "answer", "mean", "first study", "difference", "seeds", "Holm p"]
    return Table("Each study compared with the first one", [*head, "note"], rows, 5)


def _reproduce(sources: Sequence[str], pictures: Sequence[Picture]) -> Section:
    """Return the script that draws every figure of the page."""
    named = [without_secrets(each) for each in sources]
    lines = [
        "import analysis",
        *imports(list(pictures)),
        "",
        f"comparison = analysis.compare({', '.join(map(repr, named))})",
        *(each.code for each in pictures),
    ]
    quoted = " ".join(each if re.fullmatch(r"[\w./:#-]+", each) else repr(each) for each in named)
    command = f"To write this page again: `python -m analysis compare {quoted}`."
    return Section("reproduce", "Reproduce the figures", [Code("\n".join(lines), id="script"), Text(command)])
