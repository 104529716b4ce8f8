"""The first screen of a report: what a reader sees without scrolling, before any fold."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image

from analysis.comparisons import BETTER
from analysis.convergence import CATALOG
from analysis.findings import Findings, queries
from analysis.findings.gains import TaskGains
from analysis.findings.inputs import images_of
from analysis.records.phases import CONFIRM, SEARCH
from analysis.report.next_step import NextStep
from analysis.report.plain import Answer, gain
from analysis.report.words import NONE, PROBES, each_seed, in_points, listed, points
from trainables.errors import UserError
from trainables.trial import WEIGHTS

QUESTIONS = {  # what a pretext task asks of an image, for readers who have not met it
    "rotation": "By how much was the image turned?",
    "context_encoder": "What was in the hole?",
    "simclr": "Which two views show the same image?",
    "context_prediction": "Where does the second patch belong?",
}
TILE = 72  # px, shown at half that size
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)  # distances between the ticks of the axis
MOST_TICKS = 8
CHARACTER_WIDTH = 2.2  # % of the axis where it is narrow, for the labels of lines
BUILT_IN = "shapes"  # data set whose images a simulated study, which has none, shows


@dataclass(frozen=True)
class TaskRow:
    """One pretext task.

    Attributes:
        task: Its name.
        question: What it asks of an image; empty for a task that the report does not know.
        strip: Data URI of what it sees of one image; empty without images.
        mean: Position of its mean on the axis in percent; None if it was not evaluated.
        seeds: Positions of its seeds.
        low, high: Position of the interval of its gain, counted from the untrained network; None if there is none.
        answer: How it compares with an untrained network.
        numbers: Its mean.
        gain: Its gain with the interval.
        ended: How training ended.
        meaning: What that ending means.
    """

    task: str
    question: str
    strip: str
    mean: float | None
    seeds: Sequence[float]
    low: float | None
    high: float | None
    answer: str
    numbers: str
    gain: str
    ended: str
    meaning: str


@dataclass(frozen=True)
class Level:
    """A line of the plot: a level that the tasks are compared with, and others that are within the margin of it.

    Attributes:
        name: Name of the level that the line is drawn at, one of `LEVELS`.
        x: Its position on the axis in percent.
        labels: Its name and value; below it, `≈` with name and value of each level within the margin.
        is_left: Whether the labels are on the left of the line, and not on the right.
        row: Line of text above the plot, counted from the bottom, in which the last label is.
    """

    name: str
    x: float
    labels: Sequence[str]
    is_left: bool
    row: int

    @property
    def lines(self) -> int:
        """Lines of text from the plot to its first label."""
        return self.row + len(self.labels)

    @property
    def span(self) -> tuple[float, float]:
        """Both ends of the labels, in percent of the axis."""
        width = _width(self.labels)
        return (self.x - width, self.x) if self.is_left else (self.x, self.x + width)


@dataclass(frozen=True)
class FirstScreen:
    """The content of the first screen.

    Attributes:
        sentences: The answer, then what is known about the other tasks.
        rows: One row per task, the best first.
        levels: The lines of the plot.
        near: What `≈` means; empty if no level is near another.
        sees: Heading of what the tasks see; empty without images.
        ticks: Position and label of each tick of the axis.
        axis: What the axis shows.
        line_decides: Whether no gain is shown where an interval reaches the line of untrained networks. That does not
            hold if a task's untrained networks are of other seeds, or if a test differs from its interval.
        code: Python that returns the numbers of the plot.
        cure: What the ablation found to help; empty without one.
        step: The next command.
    """

    sentences: Sequence[str]
    rows: Sequence[TaskRow]
    levels: Sequence[Level]
    near: str
    sees: str
    ticks: Sequence[tuple[float, str]]
    axis: str
    line_decides: bool
    code: str
    cure: str
    step: NextStep


def first_screen(findings: Findings, answer: Answer) -> FirstScreen:
    """Return the first screen of a study.

    Args:
        findings: Findings of the study.
        answer: What they answer.
    """
    gains = answer.gains
    top = _top(gains)
    strips = _strips(findings)
    evaluated = list(gains.rows["task"]) if len(gains.rows) else []
    tasks = [*evaluated, *(task for task in queries.tasks(findings) if task not in evaluated)]
    rows = gains.rows.set_index("task", drop=False) if evaluated else gains.rows
    probe = PROBES.get(gains.probe, "")
    levels = _levels(gains.levels, findings.margin or 0.0, top)
    return FirstScreen(
        sentences=answer.sentences,
        rows=[
            _row(findings, task, rows.loc[task] if task in evaluated else None, top, strips.get(task, ""), gains.levels)
            for task in tasks
        ],
        levels=levels,
        near=f"≈ within {in_points(findings.margin or 0.0)} of the line" if "≈" in str(levels) else "",
        sees=(f"what it sees of {'a built-in' if findings.study.simulated else 'one'} image") if strips else "",
        ticks=[(100 * value / top, f"{100 * value:.0f}") for value in _ticks(top)] if evaluated else [],
        axis=f"{probe[:1].upper()}{probe[1:]} on the test split of {gains.dataset}, in %",
        line_decides=_line_decides(gains),
        code="task_gains(findings).rows",
        cure=answer.cure,
        step=answer.step,
    )


def _line_decides(gains: TaskGains) -> bool:
    rows = gains.rows
    if rows.empty or rows["untrained"].nunique() > 1:
        return False
    return not ((rows["answer"] == BETTER) & (rows["ci_low"] <= 0)).any()


def _row(
    findings: Findings, task: str, row: pd.Series | None, top: float, strip: str, levels: Mapping[str, float]
) -> TaskRow:
    ended, meaning = _ending(findings, task)
    question = QUESTIONS.get(task, "")
    if row is None:
        return TaskRow(task, question, strip, None, [], None, None, "not evaluated", NONE, "", ended, meaning)
    low, high = (row["untrained"] + row[end] for end in ("ci_low", "ci_high"))
    line = levels.get("untrained", row["untrained"])
    own = "" if np.isclose(line, row["untrained"]) else f" from {points(row['untrained'])} at the same seeds"
    span = (None, None) if pd.isna(low) else tuple(float(np.clip(100 * end / top, 0, 100)) for end in (low, high))
    return TaskRow(
        task=task,
        question=question,
        strip=strip,
        mean=100 * row["mean"] / top,
        seeds=[100 * value / top for value in row["seeds"]],
        low=span[0],
        high=span[1],
        answer=str(row["answer"]),
        numbers=points(row["mean"]),
        gain=f"{gain(row)}{own}",
        ended=ended,
        meaning=meaning,
    )


def _ending(findings: Findings, task: str) -> tuple[str, str]:
    """Return how the chosen configuration ended or else the search trials, and what that means."""
    found = queries.convergence(findings, CONFIRM, task, queries.chosen_cell(findings, task))
    if found is not None:
        verdict = CATALOG[found.verdict]
        return f"{verdict.label} ({each_seed(found)})", f"{verdict.meaning}. {found.evidence}"
    verdicts = findings.verdicts
    own = verdicts.loc[(verdicts["phase"] == SEARCH) & (verdicts["task"] == task), "verdict"]
    counts = [f"{n} {CATALOG[str(name)].label}" for name, n in own.value_counts().items()]
    return (f"search: {listed(counts)}" if counts else NONE), ""


def _levels(levels: Mapping[str, float], margin: float, top: float) -> list[Level]:
    """Return a line for each level that is not within the margin of an earlier one, with labels that do not overlap.

    Args:
        levels: Levels by name; the first is the most important.
        margin: The smallest difference that matters, in the levels' unit.
        top: End of the axis.
    """
    near: dict[str, list[str]] = {}
    for name, value in levels.items():
        line = next((each for each in near if abs(levels[each] - value) <= margin), name)
        same = "= " if points(levels[line]) == points(value) else "≈ "
        near.setdefault(line, []).append(f"{'' if line == name else same}{name.removeprefix(WEIGHTS)} {points(value)}")
    placed: list[Level] = []
    lowest = min(near, key=levels.__getitem__, default="")
    for line in sorted(near, key=levels.__getitem__, reverse=True):  # so that no line crosses the label of another
        x = 100 * levels[line] / top
        width = _width(near[line])
        level = Level(line, x, near[line], is_left=x + width > 100 or (line == lowest and x > width), row=0)
        low, high = level.span
        below = [each.lines for each in placed if each.span[0] < high and low < each.span[1]]
        placed.append(replace(level, row=max(below, default=0)))
    return placed


def _width(labels: Sequence[str]) -> float:
    return CHARACTER_WIDTH * max(map(len, labels))


def _top(gains: TaskGains) -> float:
    """Return the end of the axis, which begins at 0, so that a small gain looks small."""
    if gains.rows.empty:
        return 1.0
    ends = gains.rows["untrained"] + gains.rows["ci_high"].fillna(0)
    seeds = [value for values in gains.rows["seeds"] for value in values]
    return float(min(1.0, 1.04 * max([*seeds, *ends, *gains.levels.values(), 1e-3])))


def _ticks(top: float) -> np.ndarray:
    step = next((each for each in STEPS if top / each <= MOST_TICKS), STEPS[-1])
    return np.arange(0, top, step)


def _strips(findings: Findings) -> dict[str, str]:
    """Return what each task sees of the first training image, as data URIs; none if the images cannot be read."""
    study, dataset = findings.study, queries.main_dataset(findings)
    if not dataset or not study.config.get("dataset"):
        return {}
    if study.simulated:
        study, dataset = replace(study, config={**study.config, "simulate": False, "dataset": BUILT_IN}), BUILT_IN
    try:
        images = images_of(study, dataset).images
        return {task: _png(task, images) for task in queries.tasks(findings) if task in QUESTIONS}
    except (UserError, OSError):
        return {}


def _png(task: str, images: np.ndarray) -> str:
    from analysis.figures.task_views import strip  # imports torch, which takes seconds

    written = io.BytesIO()
    Image.fromarray(strip(task, images, TILE)).save(written, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()
