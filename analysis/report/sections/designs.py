"""Designs with main effects and interactions: factorial, screening, pairs, and cells across tasks."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.findings import Findings
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.words import NONE, count, interval, listed, metric_words, p_cell, quoted, signed
from analysis.stats import ALPHA

TESTED = ["95% interval", "Holm p", "seeds"]


def designs_tables(findings: Findings, task: str) -> Iterator[Block]:
    """Yield the tables of a task's factorial, screening and pairs designs, if they were run."""
    yield from _factorial(findings, task)
    yield from _synergy(findings, task)


def factorial_clause(findings: Findings, task: str) -> str:
    """Return which main effects and interactions of a task are significant; empty without such a design."""
    own = findings.factorial.loc[findings.factorial["task"] == task]
    if own.empty:
        return ""
    if own["p_holm"].isna().all():
        return "its factors have too few seeds to test"
    significant = own.loc[own["p_holm"] <= ALPHA].sort_values("p_holm").drop_duplicates(["term", "levels"])
    effects = [
        f"{quoted(row.term)} from {row.levels} ({signed(row.estimate)} {interval(row.ci_low, row.ci_high)})"
        for row in significant.itertuples()
    ]
    return f"significant effects: {listed(effects)}" if effects else "no effect of its factors is significant"


def across_tasks(findings: Findings) -> Iterator[Block]:
    """Yield whether the cells have the same effect in all tasks."""
    found = findings.across_tasks
    answers = "; ".join(found.loc[(found["answer"] != "") & found["term"].isin(["cell", "task:cell"]), "answer"])
    if answers:
        yield Text(f"**Across tasks**, for the cells that all tasks have: {answers}.")


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
    yield Folded(f"Synergy of pairs in {task}", [Table(caption, ["pair", "synergy", *TESTED], rows)])
