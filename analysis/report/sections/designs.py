"""Designs that are read by main effects and interactions: factorial, screening, pairs, and tasks against cells."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.findings import Findings
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.words import NONE, count, interval, listed, metric_words, p_cell, quoted, signed
from analysis.stats import ALPHA

TESTED = ["95 % interval", "Holm p", "seeds"]


def designs_tables(findings: Findings, task: str) -> Iterator[Block]:
    """Yield the tables of a task's factorial, screening and pairs designs, as far as they were run."""
    yield from _factorial(findings, task)
    yield from _synergy(findings, task)


def factorial_clause(findings: Findings, task: str) -> str:
    """Return which main effects and interactions of a task are certain; empty where no such design was run."""
    own = findings.factorial.loc[findings.factorial["task"] == task]
    if own.empty:
        return ""
    if own["p_holm"].isna().all():
        return "its factors have too few seeds to test"
    certain = own.loc[own["p_holm"] <= ALPHA].sort_values("p_holm").drop_duplicates(["term", "levels"])
    told = [
        f"{quoted(row.term)} from {row.levels} ({signed(row.estimate)} {interval(row.ci_low, row.ci_high)})"
        for row in certain.itertuples()
    ]
    return f"certain effects of its factors: {listed(told)}" if told else "no effect of its factors is certain"


def across_tasks(findings: Findings) -> Iterator[Block]:
    """Yield whether the cells act alike in all tasks."""
    found = findings.across_tasks
    told = "; ".join(found.loc[(found["answer"] != "") & found["term"].isin(["cell", "task:cell"]), "answer"])
    if told:
        yield Text(f"**Across tasks**, of the cells that all have: {told}.")


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
        caption = f"Main effects and two-factor interactions in {measured}; each seed is a block."
        head = ["term", "levels", "not told apart from", "estimate", *TESTED]
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
    caption = f"What two augmentations do together beyond the sum of what each does alone, in {measured}."
    yield Folded(f"Synergy of pairs in {task}", [Table(caption, ["pair", "synergy", *TESTED], rows)])
