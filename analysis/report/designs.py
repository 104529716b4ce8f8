"""Designs that are read by main effects and interactions: factorial, screening, pairs, and tasks against cells."""

from __future__ import annotations

from analysis import answers
from analysis.effects import outcomes
from analysis.findings import ABLATE, Findings, cells_of
from analysis.interactions import factorial_effects, pair_synergy, task_interaction
from analysis.report.blocks import Block, Folded, Table, Text
from analysis.report.words import NONE, count, interval, listed, metric_words, p_cell, quoted, signed

FACTORIAL = ("factorial", "screening")


def designs_tables(findings: Findings, task: str) -> list[Block]:
    """Return the tables of a task's factorial, screening and pairs designs, as far as they were run."""
    if task not in findings.metrics:
        return []
    return [*_factorial(findings, task), *_pairs(findings, task)]


def task_interaction_text(findings: Findings) -> list[Block]:
    """Return whether the cells act alike in all tasks, where tasks share a metric, cells and seeds."""
    columns = {metric.column for metric in findings.metrics.values()}
    tasks = answers.ablated_tasks(findings)
    if len(columns) != 1 or len(tasks) < 2:
        return []
    column = columns.pop()
    runs = outcomes(findings.ablated, column)
    tasks_of = runs.groupby("cell", sort=False)["task"].nunique()
    cells = list(tasks_of.index[tasks_of == len(tasks)])
    whole = runs.loc[runs["cell"].isin(cells)].pivot(index="seed", columns=["task", "cell"], values="value").dropna()
    if len(cells) < 2 or len(whole) < 2:
        return []
    found = task_interaction(findings.ablated, column, cells)
    told = " ".join(found.loc[(found["answer"] != "") & found["term"].isin(["cell", "task:cell"]), "answer"])
    return [Text(f"**Across tasks** (the {len(cells)} cells that all have): {told}")] if told else []


def _factorial(findings: Findings, task: str) -> list[Block]:
    factors = (findings.study.config.get(ABLATE) or {}).get("factors") or {}
    blocks: list[Block] = []
    for design in FACTORIAL:
        runs = cells_of(findings, task, design)
        if runs.empty or not factors or not all(name in runs for name in factors):
            continue
        found = factorial_effects(runs, findings.metrics[task].column, list(factors))
        certain = found.loc[found["p_holm"] <= 0.05]
        told = listed(f"{quoted(row.term)} {row.levels} ({signed(row.estimate)})" for row in certain.itertuples())
        blocks.append(
            Text(f"{design}: {'certain are ' + told if len(certain) else 'no main effect or interaction is certain'}.")
        )
        rows = [
            [
                row.term,
                row.levels,
                row.aliased_with or NONE,
                signed(row.estimate),
                interval(row.ci_low, row.ci_high) or NONE,
                p_cell(row.p_holm),
                count(row.n_seeds),
            ]
            for row in found.itertuples()
        ]
        measured = metric_words(findings.metrics[task].column)
        caption = f"Main effects and two-factor interactions in {measured}; each seed is a block."
        head = ["term", "levels", "not told apart from", "estimate", "95 % interval", "Holm p", "seeds"]
        blocks.append(Folded(f"The {design} design of {task}", [Table(caption, head, rows, 3)]))
    return blocks


def _pairs(findings: Findings, task: str) -> list[Block]:
    designs = findings.study.designs.query("design == 'pairs' and task == @task", local_dict={"task": task})
    runs = findings.ablated.loc[findings.ablated["task"] == task]
    wanted = set(designs["cell"]) | set(designs["baseline"])
    if designs.empty or not wanted <= set(runs["cell"]):
        return []
    found = pair_synergy(runs, findings.metrics[task].column, designs)
    found = found.loc[found["first"] != found["second"]].sort_values("synergy", ascending=False)
    if found.empty:
        return []
    rows = [
        [
            f"{row.first} + {row.second}",
            signed(row.synergy),
            interval(row.ci_low, row.ci_high) or NONE,
            p_cell(row.p_holm),
            count(row.n_seeds),
        ]
        for row in found.itertuples()
    ]
    measured = metric_words(findings.metrics[task].column)
    caption = f"What two augmentations do together beyond the sum of what each does alone, in {measured}."
    return [
        Folded(
            f"Synergy of pairs in {task}",
            [Table(caption, ["pair", "synergy", "95 % interval", "Holm p", "seeds"], rows)],
        )
    ]
