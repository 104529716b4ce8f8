"""Section "What did each change do?": effects of augmentations and other cures, and where the evidence ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.comparisons import ANSWERS, BASE, BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE, interval_scope
from analysis.findings import Findings, queries
from analysis.records.phases import ABLATE
from analysis.report import sentences
from analysis.report.blocks import Block, Bullets, Folded, Gallery, Heading, Section, Table, Text
from analysis.report.sections.cure_figures import ablation_pictures, forests
from analysis.report.sections.designs import across_tasks, designs_tables
from analysis.report.sections.summary import cure_clause
from analysis.report.sources import Sources
from analysis.report.words import (
    NONE,
    circumstances,
    converged_count,
    count,
    counted,
    effect,
    ending,
    guessing,
    interval,
    listed,
    measured,
    metric_words,
    number,
    p_cell,
    quoted,
    signed,
    within,
)
from analysis.stats.crossed import MAX_SEEDS_NEEDED
from analysis.stats.paired import MIN_SEEDS

DESIGNS = {
    "leave_one_out": "what each augmentation adds to the policy",
    "add_one_in": "what each augmentation does alone",
    "pairs": "what each pair of augmentations does together",
    "strength": "how strong augmentation should be",
    "size_by_strength": "whether that depends on the number of images",
    "steps_by_strength": "whether that depends on the number of steps",
    "cures": "augmentation compared with more steps, more images, a smaller encoder",
    "together": "what all cures do together",
}
MOST_NAMED = 3  # cells with the same answer that a sentence lists by name
NOT_AGAINST_EACH_OTHER = (
    "Each is compared with its baseline, not with the others: if two intervals overlap, either may be better."
)
RATES = "Converged: seeds that converged, with the exact binomial interval; its p is from McNemar's test."
NOT_RUN = (
    "No ablation was run, so this study cannot say what any augmentation does, or what would cure a flat run. To find "
    "out, add `ablate: {designs: [cures, size_by_strength], seeds: 5}` to its YAML."
)
WITHOUT_CELLS = "The ablate phase had no cell to train: nothing was chosen, or nothing that its designs can change."


def what_each_did(findings: Findings, sources: Sources) -> Section:
    """Return the section on the ablation.

    Args:
        findings: What was computed for the study.
        sources: Frames that the figures are drawn from.
    """
    title = "What did each augmentation and each other cure do?"
    tasks = queries.ablated_tasks(findings)
    changes = [f"{task}: {_best_change(findings, task)}" for task in tasks]
    lead = (
        f"Largest gain shown over the base: {'; '.join(changes)}." if changes else "No cell of an ablation was trained."
    )
    return Section("cures", title, list(_blocks(findings, sources)), lead)


def _why_none(findings: Findings) -> str:
    """Return why no cell of an ablation was trained."""
    if ABLATE in queries.unfinished_phases(findings):
        return "The ablate phase has not run yet."
    return WITHOUT_CELLS if ABLATE in findings.study.outcomes else NOT_RUN


def _best_change(findings: Findings, task: str) -> str:
    better = queries.cures(findings, task)
    if len(better):
        return quoted(better.iloc[0]["cell"])
    return "none" if len(queries.ranked(findings, task)) else "no comparison with it"


def _blocks(findings: Findings, sources: Sources) -> Iterator[Block]:
    tasks = queries.ablated_tasks(findings)
    if not tasks:
        yield Text(_why_none(findings), "caveat")
        return
    for caveat in _caveats(findings):
        yield Text(caveat, "caveat")
    for task in tasks:
        yield from _of_task(findings, sources, task)
    yield from across_tasks(findings)
    yield from _not_run(findings)


def _caveats(findings: Findings) -> Iterator[str]:
    if findings.study.designs.empty:
        yield "The ablate phase has not ended: every cell is compared with the base, and seeds may still be missing."
    few = queries.distinct(findings.effects)["answer"] == TOO_FEW
    if few.any():
        share = f"{few.sum()} of {counted(len(few), 'comparison')}"
        have = "has" if few.sum() == 1 else "have"
        yield f"{share} {have} fewer than {MIN_SEEDS} seeds with both values: means are shown without a test."
    other = {task: metric for task, metric in findings.metrics.items() if not metric.column.startswith("probe/")}
    if other:
        metrics = listed(f"{task} by {metric_words(metric.column)}" for task, metric in other.items())
        yield (
            f"Without a final probe on the training data set, cells are compared by the pretext task's own metric: "
            f"{metrics}. A harder task makes that metric worse, although its features may be better."
        )


def _of_task(findings: Findings, sources: Sources, task: str) -> Iterator[Block]:
    words = circumstances(queries.base_settings(findings, task), queries.base_changes(findings, task))
    found = queries.convergence(findings, ABLATE, task, BASE)
    ended = f"The base, {words}, {ending(found)}; " if found else ""
    lead = cure_clause(findings, task)
    yield Heading(task)
    yield Text(f"{ended}{lead if ended else lead[0].upper() + lead[1:]}.", "finding")
    ranked = queries.ranked(findings, task, queries.main_baseline(findings, task))
    if better := _better(findings, task, ranked):
        rows = ranked.loc[ranked["answer"] == BETTER]
        yield Text(
            sentences.BETTER_CELLS.say(rows, baseline=quoted(rows["baseline"].iloc[0]), measured=measured(rows.iloc[0]))
        )
        yield Bullets(better, ordered=True)
        if len(better) > 1:
            yield Text(NOT_AGAINST_EACH_OTHER)
    if rest := [*_rest(findings, task, ranked), *_other_baselines(findings, task, ranked)]:
        yield Bullets(rest)
    yield from _undecided(findings, ranked)
    yield Gallery(list(ablation_pictures(findings, sources, task)))
    yield from designs_tables(findings, task)
    own = findings.effects.loc[findings.effects["task"] == task]
    if len(own):
        mapped = Gallery(list(forests(findings, sources, task, mapped=True)))
        yield Folded(f"All comparisons for {task}", [_table(findings, own), mapped])


def _better(findings: Findings, task: str, ranked: pd.DataFrame) -> list[str]:
    rows = ranked.loc[ranked["answer"] == BETTER]
    return [
        f"{quoted(row['cell'])}: {effect(row, picked=True)}{_converged(findings, task, row)}"
        for _, row in rows.iterrows()
    ]


def _converged(findings: Findings, task: str, row: pd.Series) -> str:
    rate, base = (queries.rate(findings, ABLATE, task, row[name]) for name in ("cell", "baseline"))
    if rate is None or base is None or pd.isna([rate["rate"], base["rate"]]).any():
        return ""  # where all seeds are undecided, nothing is known
    return f"; {converged_count(rate)} converge (base: {converged_count(base)})"


def _rest(findings: Findings, task: str, ranked: pd.DataFrame) -> Iterator[str]:
    """Yield which cells are worse, equivalent or failed."""
    by_answer = {answer: ranked.loc[ranked["answer"] == answer] for answer in (WORSE, EQUIVALENT)}
    if len(worse := by_answer[WORSE]):
        cells = listed(f"{quoted(row.cell)} ({signed(row.mean_difference)})" for row in worse.itertuples())
        yield sentences.WORSE_CELLS.say(worse, baseline=quoted(worse["baseline"].iloc[0]), cells=cells)
    if len(equal := by_answer[EQUIVALENT]):
        cells = listed(f"{quoted(row.cell)} ({signed(row.mean_difference)})" for row in equal.itertuples())
        words = {"baseline": quoted(equal["baseline"].iloc[0]), "margin": within(findings.margin), "cells": cells}
        yield sentences.EQUIVALENT_CELLS.say(equal, **words)
    failed = queries.failures(findings, task)
    if len(failed):
        cells = listed(
            f"{quoted(cell)} ({n} of {_trials(findings, task, cell)})"
            for cell, n in failed["cell"].value_counts().items()
        )
        yield (
            f"**Failed**: {cells}. A failure is an outcome: a cell that failed at a seed at which its baseline did not "
            "is never called better or equivalent."
        )


def _other_baselines(findings: Findings, task: str, ranked: pd.DataFrame) -> Iterator[str]:
    """Yield the cells that are compared with a baseline other than the main one, per design."""
    own = findings.effects.loc[findings.effects["task"] == task]
    own = own.loc[~own["baseline"].isin(ranked["baseline"])].sort_values("mean_difference", ascending=False)
    for (design, baseline), rows in own.groupby(["design", "baseline"], sort=False):
        answers = [_summarized(answer, cells) for answer in ANSWERS if len(cells := rows.loc[rows["answer"] == answer])]
        yield f"**{design}, compared with {quoted(baseline)}**: {'; '.join(answers)}."


def _summarized(answer: str, cells: pd.DataFrame) -> str:
    """Return the cells with one answer, largest difference first; for many, their number and both extremes."""
    named = [f"{quoted(row.cell)} ({signed(row.mean_difference)})" for row in cells.itertuples()]
    return (
        f"{answer} {listed(named)}"
        if len(named) <= MOST_NAMED
        else f"{len(named)} {answer}, from {named[0]} to {named[-1]}"
    )


def _undecided(findings: Findings, ranked: pd.DataFrame) -> Iterator[Block]:
    """Yield the undecided comparisons, the differences that they could have detected, and the seeds that they need."""
    rows = ranked.loc[ranked["answer"].isin([INCONCLUSIVE, TOO_FEW])]
    if rows.empty:
        return
    table = [
        [
            *(
                quoted(row.cell),
                row.note or NONE,
                signed(row.mean_difference),
                interval(row.ci_low, row.ci_high) or NONE,
            ),
            *(p_cell(row.p_holm), count(row.n_seeds), number(row.smallest_detectable), _needed(row)),
        ]
        for row in rows.itertuples()
    ]
    margin = "" if findings.margin is None else f" for {findings.margin:g}"
    head = ["cell", "note", "difference", "95% interval", "Holm p", "seeds", "detectable", f"seeds needed{margin}"]
    caption = (
        "Where the evidence is not enough. Detectable: the smallest difference that this many seeds find with "
        f"probability 0.8, given their spread. Seeds needed{margin}: to find the smallest difference that matters."
    )
    yield Folded(f"Where the evidence is not enough ({counted(len(rows), 'change')})", [Table(caption, head, table, 2)])


def _needed(row: Any) -> str:
    if row.answer == TOO_FEW:
        return f"at least {row.min_seeds}"
    if pd.isna(row.seeds_needed):
        return NONE
    return f"{'at least' if row.seeds_needed >= MAX_SEEDS_NEEDED else 'about'} {count(row.seeds_needed)}"


def _trials(findings: Findings, task: str, cell: str) -> int:
    runs = findings.ablated
    return int(((runs["task"] == task) & (runs["cell"] == cell)).sum())


def _table(findings: Findings, own: pd.DataFrame) -> Table:
    changes = findings.rate_changes.set_index(["task", "design", "cell", "baseline"])
    rows = []
    for _, row in own.iterrows():
        rate = queries.rate(findings, ABLATE, row["task"], row["cell"])
        share = NONE
        if rate is not None:
            share = f"{converged_count(rate)} {interval(rate['ci_low'], rate['ci_high'], 2)}"
        key = (row["task"], row["design"], row["cell"], row["baseline"])
        rows.append(
            [
                *(row["design"], row["cell"], row["baseline"], row["answer"]),
                *(number(row["mean"]), number(row["baseline_mean"]), signed(row["mean_difference"])),
                interval(row["ci_low"], row["ci_high"]) or NONE,
                p_cell(row["p_holm"]),
                count(row["n_seeds"]) + (f", {row['n_failed']} failed" if row["n_failed"] else ""),
                share,
                _mcnemar(changes.loc[key]) if key in changes.index else NONE,
            ]
        )
    head = [
        "design",
        "cell",
        "compared with",
        "answer",
        "mean",
        "baseline mean",
        "difference",
        "95% interval",
        "Holm p",
        "seeds",
    ]
    tests = listed(sorted(set(own["test"]) - {""})) or "no test"
    runs = findings.ablated.loc[findings.ablated["task"] == own["task"].iloc[0]]
    guessed = guessing(runs, own["metric"].unique(), own["split"].iloc[0])
    caption = (
        f"{measured(own.iloc[0])}, {tests}; Holm-adjusted over the cells of a design, where a comparison that several "
        f"designs share counts once, in the first. {interval_scope(own)}{guessed} {RATES}"
    )
    return Table(caption, [*head, "converged", "p (McNemar)"], rows, 4)


def _mcnemar(change: pd.Series) -> str:
    """Return the p-value of a change in convergence, or the number of seeds that a test would need."""
    if not change["n_pairs"]:
        return NONE
    return f"needs {count(change['pairs_needed'])} seeds" if pd.isna(change["p_holm"]) else p_cell(change["p_holm"])


def _not_run(findings: Findings) -> list[Block]:
    ran = set(findings.study.designs["design"])
    missing = [f"{quoted(name)} ({what})" for name, what in DESIGNS.items() if name not in ran]
    if not ran or not missing:
        return []
    return [
        Text(f"Designs that were not run: {listed(missing)}. To run them, add them to `ablate.designs` of a study.")
    ]
