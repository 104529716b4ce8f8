"""Designs with main effects and interactions: factorial, screening, pairs, and cells across tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.comparisons import TOO_FEW, interval_scope
from analysis.comparisons.interactions import DIFFERENT
from analysis.findings import Findings
from analysis.report import sentences
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.claims import first_true
from analysis.report.words import NONE, count, interval, listed, metric_words, p_cell, p_value, quoted, signed
from analysis.stats import ALPHA

TESTED = ["95% interval", "Holm p", "seeds"]
ACROSS_TASKS = {  # by term: what it is about, and both sentences
    "cell": ("whether the cells differ", sentences.CELLS_DIFFER, sentences.CELLS_NOT_SHOWN_TO_DIFFER),
    "task:cell": (
        "whether the effect of a cell depends on the task",
        sentences.EFFECT_DEPENDS_ON_TASK,
        sentences.EFFECT_NOT_SHOWN_TO_DEPEND,
    ),
}


def designs_tables(findings: Findings, task: str) -> Iterator[Block]:
    """Yield the tables of a task's factorial, screening and pairs designs, if they were run."""
    yield from _factorial(findings, task)
    yield from _synergy(findings, task)


def factorial_clause(findings: Findings, task: str) -> str:
    """Return which main effects and interactions of a task are significant; empty without such a design."""
    own = findings.factorial.loc[findings.factorial["task"] == task]
    if own.empty:
        return ""
    significant = own.loc[own["p_holm"] <= ALPHA].sort_values("p_holm").drop_duplicates(["term", "levels"])
    if significant.empty:
        candidates = (sentences.FACTORS_UNTESTED, sentences.NO_FACTOR_SIGNIFICANT)
        return first_true(candidates, own).say(own)
    effects = [
        f"{quoted(row.term)} from {row.levels} ({signed(row.estimate)} {interval(row.ci_low, row.ci_high)}"
        f"{f'; cannot be distinguished from {quoted(row.aliased_with)}' if row.aliased_with else ''})"
        for row in significant.itertuples()
    ]
    return sentences.FACTORS_SIGNIFICANT.say(significant, effects=listed(effects))


def across_tasks(findings: Findings) -> Iterator[Block]:
    """Yield whether the cells have the same effect in all tasks."""
    found = findings.across_tasks
    answers = [_across(row) for _, row in found.loc[found["term"].isin(list(ACROSS_TASKS))].iterrows()]
    if answers:
        yield Text(f"**Across tasks**, for the cells that all tasks have: {'; '.join(answers)}.")


def _across(row: pd.Series) -> str:
    what, different, not_shown = ACROSS_TASKS[row["term"]]
    if row["answer"] == TOO_FEW:
        return sentences.ACROSS_TASKS_UNTESTED.say(row, what=what)
    sentence = different if row["answer"] == DIFFERENT else not_shown
    return sentence.say(row, numbers=f"F = {row['F']:.3g}, {p_value(row['p'])}")


def _factorial(findings: Findings, task: str) -> Iterator[Block]:
    own = findings.factorial.loc[findings.factorial["task"] == task]
    for design, found in own.groupby("design", sort=False):
        rows = [
            [
                *(row.term, row.levels, row.aliased_with or NONE, signed(row.estimate)),
                *(interval(row.ci_low, row.ci_high) or NONE, p_cell(row.p_holm), count(row.n_seeds)),
            ]
            for row in found.itertuples()
        ]
        measured = metric_words(findings.metrics[task].column)
        caption = (
            f"Main effects and two-factor interactions in {measured}; each seed is a block. {interval_scope(found)}"
        )
        head = ["term", "levels", "aliased with", "estimate", *TESTED]
        yield Folded(f"The {design} design of {task}", [Table(caption, head, rows, 3)])


def _synergy(findings: Findings, task: str) -> Iterator[Block]:
    own = findings.synergy
    own = own.loc[(own["task"] == task) & (own["first"] != own["second"])].sort_values("synergy", ascending=False)
    if own.empty:
        return
    rows = [
        [
            *(f"{row.first} + {row.second}", signed(row.synergy), interval(row.ci_low, row.ci_high) or NONE),
            *(p_cell(row.p_holm), count(row.n_seeds)),
        ]
        for row in own.itertuples()
    ]
    measured = metric_words(findings.metrics[task].column)
    caption = f"Synergy: the joint effect of two augmentations minus the sum of their single effects, in {measured}."
    caption = f"{caption} {interval_scope(own)}"
    yield Folded(f"Synergy of pairs in {task}", [Table(caption, ["pair", "synergy", *TESTED], rows)])
