"""Section "What to use": the chosen configurations, better ones from the ablation, and a study that retrains them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import yaml

from analysis.data.tables import LAST, split_of
from analysis.findings import Findings, queries
from analysis.records.layout import RECOMMENDED_FILE
from analysis.records.phases import CONFIRM
from analysis.report import sentences
from analysis.report.blocks import Block, Code, Folded, Heading, Section, Table, Text
from analysis.report.sections.label_free import without_labels
from analysis.report.sections.summary import not_chosen
from analysis.report.words import (
    NONE,
    PROBES,
    circumstances,
    counted,
    difference,
    ending,
    guessing,
    listed,
    metric_words,
    number,
    quoted,
    signed,
)


def what_to_use(findings: Findings, folder: Path) -> Section:
    """Return the section on the chosen configurations.

    Args:
        findings: What was computed for the study.
        folder: The study's folder, with `recommended.yaml` once the study has written it.
    """
    settings = {task: choice["config"] for task, choice in queries.chosen(findings).items()}
    lead = "; ".join(f"{task}: lr {config['lr']:.2g}" for task, config in settings.items() if "lr" in config)
    return Section("what-to-use", "What to use", list(_blocks(findings, folder / RECOMMENDED_FILE)), lead)


def _blocks(findings: Findings, recommended: Path) -> Iterator[Block]:
    choices = queries.chosen(findings)
    if not choices:
        yield Text(not_chosen(findings), "caveat")
        return
    yield _glance(findings)
    yield from without_labels(findings)
    if recommended.exists():
        command = f"python study/run.py {quote(recommended.as_posix())}"
        yield Text(f"To train the chosen configurations again with fresh seeds, run `{command}`.")
        yield Folded(RECOMMENDED_FILE, [Code(recommended.read_text(encoding="utf-8"))])
    for task, choice in choices.items():
        yield from _of_task(findings, task, choice)


def _glance(findings: Findings) -> Table:
    dataset = queries.answered_dataset(findings)
    rows: list[list[str]] = []
    metrics: list[str] = []
    for task in queries.chosen(findings):
        found = queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))
        ended = ending(found) if found else NONE
        tested = queries.against_untrained(findings, task, dataset)
        numbers = [NONE] * 3
        if tested is not None:
            row = tested.row
            metrics.append(row["metric"])
            numbers = [number(row["mean"]), number(row["baseline_mean"]), difference(row)]
        rows.append([task, ended, _helps(findings, task), *numbers])
    head = ["task", "as chosen, it …", "largest gain shown over the ablation's base"]
    if not metrics:  # nothing was probed on the test split, as without labels
        return Table("Each task's chosen configuration.", head, [row[: len(head)] for row in rows], len(head))
    probe = PROBES[metrics[0].rsplit("/", 1)[-1]]
    head += [probe, "untrained", "difference"]
    guessed = guessing(findings.study.tested, metrics, "test")
    caption = (
        f"{probe[0].upper()}{probe[1:]} on the test split of {dataset}, mean over seeds, compared with untrained "
        f"encoders of the same seeds.{guessed}"
    )
    return Table(caption, head, rows, 3)


def _helps(findings: Findings, task: str) -> str:
    better = queries.cures(findings, task)
    if len(better):
        return f"{quoted(better.iloc[0]['cell'])} {signed(better.iloc[0]['mean_difference'])}"
    return "none shown" if len(queries.ranked(findings, task)) else NONE


def _of_task(findings: Findings, task: str, choice: dict[str, Any]) -> list[Block]:
    values = choice.get("values") or []
    each = ", ".join(map(number, values))
    chosen_by = (
        f"Mean {choice.get('metric', '')} {number(choice.get('mean'))} over {counted(len(values), 'fresh seed')}"
    )
    most = queries.n_candidates(findings, task)
    best_of = f", the best of {most} candidates on these seeds," if most > 1 else ""
    whole = yaml.safe_dump({task: choice["config"]}, sort_keys=False, allow_unicode=True)
    runs = findings.study.runs
    own = runs.loc[runs["trial_id"].isin(choice.get("trial_ids", []))]
    guessed = guessing(own, [f"{LAST}{choice.get('metric', '')}"], "validation")
    return [
        Heading(task),
        Text(f"{chosen_by}{best_of} on the validation split ({each}).{guessed} {_does_better(findings, task)}".strip()),
        Folded("Full configuration", [Code(whole)]),
    ]


def _does_better(findings: Findings, task: str) -> str:
    """Return whether the ablation found a cell better than the chosen configuration; empty if its base did not run."""
    if not queries.base_settings(findings, task):
        return ""
    better, changes = queries.cures(findings, task), queries.base_changes(findings, task)
    if not changes and len(better):
        cells = listed(f"{quoted(row.cell)} ({signed(row.mean_difference)})" for row in better.head(3).itertuples())
        return sentences.ABLATION_FOUND_BETTER.say(better, cells=cells)
    ranked = queries.ranked(findings, task)
    if not changes:
        return sentences.NOTHING_SHOWN_BETTER.say(ranked) if len(ranked) else ""
    words = circumstances(queries.base_settings(findings, task), changes)
    return f"The ablation is about another case, {words}. {_best_cell(findings, task)}".strip()


def _best_cell(findings: Findings, task: str) -> str:
    """Return the highest mean of the ablation's cells, and the mean of the chosen configuration with other seeds."""
    metric = findings.metrics.get(task)
    trials = queries.chosen(findings)[task].get("trial_ids", [])
    runs = findings.study.runs.loc[findings.study.runs["trial_id"].isin(trials)]
    ranked = queries.ranked(findings, task)
    if metric is None or metric.column not in runs or runs[metric.column].isna().all() or ranked.empty:
        return ""
    means = findings.ablated.loc[findings.ablated["task"] == task].groupby("cell")[metric.column].mean().dropna()
    best = str(means.idxmax() if metric.mode == "max" else means.idxmin())
    split = split_of(findings.ablated, metric.column)
    mean = (
        f"The highest mean {metric_words(metric.column)} there ({split} split) is {number(means[best])}, {quoted(best)}"
    )
    return f"{mean}; the chosen configuration has {number(runs[metric.column].mean())} (other seeds, not tested)."
