"""The first screen's sentences: which task helps, by how much, and what cures a run that fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparisons import BASE, BETTER, EQUIVALENT, TOO_FEW, WORSE
from analysis.comparisons.cells import KEY
from analysis.convergence import CATALOG
from analysis.data.tables import is_share
from analysis.findings import Findings, queries
from analysis.findings.gains import TaskGains, task_gains
from analysis.findings.queries import VALIDATION
from analysis.records.phases import ABLATE
from analysis.report import sentences
from analysis.report.claims import first_true
from analysis.report.next_step import NextStep, next_step
from analysis.report.sections.leaks import leak_warnings
from analysis.report.sections.shortcuts import shortcut_warnings
from analysis.report.sections.summary import not_known
from analysis.report.words import (
    NONE,
    circumstances,
    counted,
    ending,
    in_points,
    listed,
    metric_words,
    number,
    picked_interval,
    points,
    quoted,
)
from trainables.trial import WEIGHTS

CLASSIFIER = "On features of {task}, a linear classifier gets"
UNITS = {  # probe: sentence about {task}, {mean} and {images}, and what it is compared with, {other}
    "linear": (CLASSIFIER + " {mean} of 100 {images} right", "on those of {other}"),
    "linear_balanced_accuracy": (
        CLASSIFIER + " {mean} of 100 {images} right, with every class counted equally",
        "on those of {other}",
    ),
    "miou": (
        "Features of {task} segment the {images} with a mIoU of {mean}%",
        "with those of {other}",
    ),
}


_ABOUT_WEIGHTS = (
    sentences.PLAIN_BETTER_THAN_WEIGHTS,
    sentences.PLAIN_WORSE_THAN_WEIGHTS,
    sentences.PLAIN_EQUIVALENT_TO_WEIGHTS,
    sentences.PLAIN_WEIGHTS_NOT_TOLD_APART,
)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a study answers, computed once for the report, the terminal and MLflow.

    Attributes:
        gains: What each task gains over untrained networks.
        sentences: Which tasks help, by how much and how sure that is, the main sentence first; then what may flatter
            them: near duplicates across the splits, and shortcuts.
        cure: What the ablation found to help; empty without one.
        step: The next command.
        simulated: Whether the study trained nothing.
    """

    gains: TaskGains
    sentences: list[str]
    cure: str
    step: NextStep
    simulated: bool


def answer(findings: Findings, folder: Path) -> Answer:
    """Return what a study answers.

    Args:
        findings: Findings of the study.
        folder: The study's folder.
    """
    gains = task_gains(findings)
    step = next_step(findings, gains, folder)
    warnings = [*leak_warnings(findings), *shortcut_warnings(findings).values()]
    said = [*headline(findings, gains), *warnings]
    return Answer(gains, said, cure(findings), step, findings.study.simulated)


def headline(findings: Findings, gains: TaskGains) -> list[str]:
    """Return which pretext tasks help, by how much and how sure that is, the main sentence first."""
    if gains.rows.empty:
        return [not_known(findings, gains.dataset)]
    rows = gains.rows.set_index("task", drop=False)
    better = rows.loc[rows["answer"] == BETTER]
    notes = [*filter(None, [order_note(gains), candidates_note(findings, gains)]), *_pixels(gains)]
    if better.empty:
        return [_none(gains, rows), *_weights(findings, gains), *notes]
    best = str(better.index[0])
    rivals = queries.task_rivals(findings, best, gains.metric)
    before = queries.rivals_before(findings, best, gains.metric)
    compared = pd.concat([better.loc[[best], ["answer"]], rivals[["answer"]]])
    is_best = 0 < len(rivals) == len(rows) - 1 and sentences.PLAIN_BEST.may(compared)
    sentence, about = (sentences.PLAIN_BEST, compared) if is_best else (sentences.PLAIN_HELPS, better)
    tasks = best if is_best else listed([best, *(task for task in better.index if task != best)])
    lead = sentence.say(about, tasks=tasks, numbers=_numbers(gains, better.loc[best]))
    return [
        lead,
        *_weights(findings, gains),
        *_others(rows, best, rivals, before),
        *notes,
    ]


def cure(findings: Findings) -> str:
    """Return each task's change with the largest gain in the ablation, in plain words; empty without an ablation."""
    ranked = {task: queries.ranked(findings, task) for task in queries.ablated_tasks(findings)}
    ranked = {task: rows for task, rows in ranked.items() if len(rows)}
    better = {task: rows.iloc[0] for task in ranked if len(rows := queries.cures(findings, task))}
    if better:
        return " ".join(_change(findings, task, row) for task, row in better.items())
    if not ranked:
        return ""
    rows = pd.concat(ranked.values())
    n = counted(rows["cell"].nunique(), "change")
    return sentences.PLAIN_NO_CHANGE.say(rows, tasks=listed(ranked), n=n)


def order_note(gains: TaskGains) -> str:
    """Return what the tasks are ordered by, if their test means are in another order; otherwise nothing."""
    if gains.ordered_by != VALIDATION or gains.test_agrees:
        return ""
    return "Tasks are listed by **validation** score, by which a study chooses; their test means are in another order."


def candidates_note(findings: Findings, gains: TaskGains) -> str:
    """Return that scores are those of the best of several configurations; empty if each task had only one."""
    most = max(queries.n_candidates(findings, task) for task in gains.rows["task"])
    if most < 2:
        return ""
    return (
        f"Each task's configuration was chosen from up to {most} candidates by their means over these seeds, which "
        "tends to make its score look slightly higher than it is."
    )


def gain(row: Mapping[str, Any] | pd.Series) -> str:
    """Return a task's gain over untrained encoders with its interval: `+7.4 [5.8, 9.0]`."""
    known = "" if pd.isna(row["ci_low"]) else f" [{points(row['ci_low'])}, {points(row['ci_high'])}]"
    return f"{points(row['difference'], sign=True)}{known}"


def gain_cells(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the cells of a task's row of `TaskGains` by heading, for the terminal and notebooks."""
    return {
        "task": row["task"],
        "vs. untrained": row["answer"],
        "test %": points(row["mean"]),
        "untrained %": points(row["untrained"]),
        "difference [95%]": gain(row),
        "as chosen, it": CATALOG[row["verdict"]].verb if row["verdict"] else NONE,
    }


def _none(gains: TaskGains, rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    sentence = first_true((sentences.PLAIN_NONE_HELPS, sentences.PLAIN_NONE_SHOWN), rows)
    lead = f"The best on {gains.ordered_by} is {first['task']}. " if len(rows) > 1 else ""
    return sentence.say(rows, first=lead, numbers=_numbers(gains, first))


def _weights(findings: Findings, gains: TaskGains) -> Iterator[str]:
    """Yield whether the best task's pre-training is better than each of the pretrained weights."""
    for _, row in gains.weights.iterrows():
        name = f"the weights {row['baseline'].removeprefix(WEIGHTS)}"
        own = {"difference": row["mean_difference"], "untrained": row["baseline_mean"]}
        differences = findings.differences.merge(row[[*KEY, "metric"]].to_frame().T, on=[*KEY, "metric"])
        own["n_above"] = int((differences["difference"] > 0).sum())
        numbers = _numbers(gains, pd.Series({**row, **own}), name)
        sentence = first_true(_ABOUT_WEIGHTS, row)
        yield sentence.say(row, weights=name, margin=in_points(findings.margin or 0.0), numbers=numbers)


def _numbers(gains: TaskGains, row: pd.Series, other: str = "an untrained network") -> str:
    """Return a task's score, the difference to another network, and how sure that difference is."""
    score, compared = UNITS[gains.probe]
    level = compared.format(other=other)
    more, higher = points(abs(row["difference"])), row["difference"] >= 0
    if gains.probe == "miou":
        word = f"points {'higher' if higher else 'lower'} than"
    else:
        word = "more than" if higher else "fewer than"
    score = score.format(task=row["task"], mean=points(row["mean"]), images=gains.images)
    lead = f"{score}, **{more} {word}** {level} ({points(row['untrained'])})."
    seeds = counted(row["n_seeds"], "seed")
    if row["answer"] == TOO_FEW:
        return f"{lead} It is higher at {row['n_above']} of {seeds}, which are too few for a test."
    if pd.isna(row["ci_low"]):
        return f"{lead} All {seeds} differ by the same, which leaves nothing to estimate an interval from."
    end = "" if row["answer"] in (BETTER, WORSE, EQUIVALENT) else " That may be luck."
    span = f"{points(row['ci_low'])} to {points(row['ci_high'])}"
    return f"{lead} How sure: the 95% interval of that difference is **{span}** ({seeds}).{end}"


def _others(rows: pd.DataFrame, best: str, rivals: pd.DataFrame, before: pd.DataFrame) -> Iterator[str]:
    """Yield what is known about the other tasks.

    Args:
        rows: All tasks, by name.
        best: The first task that is better than untrained.
        rivals: Its comparisons with tasks that rank after it.
        before: Comparisons of tasks that rank before it with it.
    """
    others = rows.loc[rows["task"] != best]
    also, open_ones = others.loc[others["answer"] == BETTER], others.loc[others["answer"] != BETTER]
    for sentence, own in ((sentences.PLAIN_ALSO, also), (sentences.PLAIN_NOT_SHOWN, open_ones)):
        if len(own):
            yield sentence.say(own, tasks=listed(f"{row['task']} ({gain(row)})" for _, row in own.iterrows()))
    after_it, before_it = rivals.set_index("baseline")[["answer"]], before.set_index("cell")[["answer"]]
    if ahead := [*before_it.index[before_it["answer"] == BETTER], *after_it.index[after_it["answer"] == WORSE]]:
        yield f"On the test split, {listed(ahead)} {'is' if len(ahead) == 1 else 'are'} better than {best}."
    compared = pd.concat([before_it, after_it])
    equivalent = compared.loc[compared["answer"] == EQUIVALENT]
    if len(equivalent):
        yield sentences.PLAIN_EQUIVALENT_TASKS.say(equivalent, task=best, others=listed(equivalent.index))
    if close := list(compared.index[~compared["answer"].isin([BETTER, WORSE, EQUIVALENT])]):
        apart = f"{best} cannot be told apart from {listed(close)}."
        yield apart if ahead else f"Which task is best is still open: {apart}"


def _pixels(gains: TaskGains) -> list[str]:
    """Return the score of raw pixels if no task's mean is above it."""
    pixels = gains.levels.get("raw pixels", 0.0)
    if pixels < gains.rows["mean"].max():
        return []
    return [f"Raw pixels, without any network, reach {points(pixels)}; no task has a higher mean (not tested)."]


def _change(findings: Findings, task: str, row: pd.Series) -> str:
    """Return how the base of a task's ablation ended, and how it ends with a change that is better."""
    words = circumstances(queries.base_settings(findings, task), queries.base_changes(findings, task))
    found = {cell: queries.convergence(findings, ABLATE, task, cell) for cell in (BASE, row["cell"])}
    ends = {cell: ending(end) if end else "ended without a verdict" for cell, end in found.items()}
    before, after = f"{words} {ends[BASE]}".strip(), ends[row["cell"]]
    if len({end and end.verdict for end in found.values()}) == 1:  # it ended the same way
        said = {"task": task, "words": words, "cell": quoted(row["cell"]), "numbers": _gained(row)}
        return sentences.PLAIN_GAIN.say(row, **said)
    return sentences.PLAIN_CHANGE.say(
        row, task=task, before=before, cell=quoted(row["cell"]), after=after, numbers=_gained(row)
    )


def _gained(row: pd.Series) -> str:
    """Return the largest gain of a change in the unit of its metric, with its interval and number of seeds."""
    gained, (low, high, adjusted) = row["mean_difference"], picked_interval(row)
    if row["mode"] == "min":
        gained, low, high = -gained, -high, -low
    is_linear = str(row["metric"]).rsplit("/", 1)[-1] == "linear" and is_share(row["metric"])
    words, seeds = points if is_linear else number, counted(row["n_seeds"], "seed")
    sure = f"the same at all {seeds}" if pd.isna(low) else f"95% interval {words(low)} to {words(high)}, {seeds}"
    sure += f"; {adjusted}" if adjusted and not pd.isna(low) else ""
    if is_linear:
        return f"the linear classifier gets {points(gained)} more of 100 {row['split']} images right ({sure})"
    return f"the gain in {metric_words(row['metric'])} is {number(gained)} ({sure})"
