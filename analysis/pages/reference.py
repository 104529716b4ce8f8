"""The page of the reference recipes: whether each reaches the accuracy that is published for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.report.blocks import Section, Table, Text
from analysis.report.page import write_html
from analysis.report.words import NONE, count, counted, interval, number, signed
from analysis.stats import ALPHA
from analysis.stats.paired import t_interval
from trainables.reference.recipes import Recipe
from trainables.reference.running import Result

PASS, FAIL, NOT_RUN = "PASS", "FAIL", "NOT RUN"
HEAD = ("recipe", "answer", "seeds", "accuracy", "expected", "difference", "tolerance")
HOW = (
    "A recipe passes if its mean accuracy over the seeds differs from the expected one by the tolerance or less. "
    "The interval of the difference covers new seeds, not new test images; a single seed has none. A pass says that "
    "the mean of these seeds is within the tolerance; only an interval within the tolerance shows that for new seeds."
)


@dataclass(frozen=True)
class Verdict:
    """The answer for one recipe.

    Attributes:
        recipe: The recipe.
        answer: PASS, FAIL or NOT_RUN.
        seeds: Seeds with a result.
        accuracy: Mean over them; None if there are none.
        expected: The published accuracy, or the mean of the other library with the same seeds; None without results.
        low: Lower end of the interval of the difference; NaN with fewer than two seeds.
        high: Upper end.
        reason: Why the recipe was not run, or not with all seeds; empty otherwise.
        train_s: Seconds of training of all its trials.
    """

    recipe: Recipe
    answer: str
    seeds: tuple[int, ...]
    accuracy: float | None
    expected: float | None
    low: float
    high: float
    reason: str
    train_s: float

    @property
    def difference(self) -> float | None:
        """Mean accuracy minus the expected one."""
        return None if self.accuracy is None or self.expected is None else self.accuracy - self.expected

    def cells(self) -> list[str]:
        """Return the row of the table with the headings HEAD."""
        seeds = f"{len(self.seeds)} of {len(self.recipe.seeds)}"
        values = (number(self.accuracy), number(self.expected), self._numbers(), f"±{number(self.recipe.tolerance)}")
        return [self.recipe.name, self.answer, seeds, *values]

    def _numbers(self) -> str:
        """Return the difference with its interval."""
        return " ".join(filter(None, [signed(self.difference), interval(self.low, self.high)]))

    def to_dict(self) -> dict[str, Any]:
        """Return the answer as JSON types, with None for what is not known."""
        numbers = {"accuracy": self.accuracy, "expected": self.expected, "low": self.low, "high": self.high}
        known = {name: None if value is None or math.isnan(value) else value for name, value in numbers.items()}
        about = {"recipe": self.recipe.name, "answer": self.answer, "seeds": list(self.seeds)}
        return {**about, **known, "tolerance": self.recipe.tolerance, "reason": self.reason}

    def sentence(self) -> str:
        """Return the answer in words."""
        if self.answer == NOT_RUN:
            return f"**{self.recipe.name}: NOT RUN**: {self.reason}."
        partly = f"; {self.reason}" if self.reason else ""
        return (
            f"**{self.recipe.name}: {self.answer}**: {number(self.accuracy)} over {counted(len(self.seeds), 'seed')}, "
            f"expected {number(self.expected)} within {number(self.recipe.tolerance)}, difference "
            f"{self._numbers()}{partly}."
        )


def answer(recipe: Recipe, results: Sequence[Result], obstacle: str = "") -> Verdict:
    """Compare the results of a recipe with its expected accuracy.

    Args:
        recipe: The recipe.
        results: Results of its trials; only seeds for which all trials have one are counted.
        obstacle: Why the recipe cannot be run here; empty if it can.
    """
    by_task = {trial.task: {each.seed: each for each in results if each.task == trial.task} for trial in recipe.trials}
    seeds = tuple(seed for seed in recipe.seeds if all(seed in own for own in by_task.values()))
    missing = counted(len(recipe.seeds) - len(seeds), "seed")
    reason = "" if len(seeds) == len(recipe.seeds) else obstacle or f"{missing} not run yet"
    seconds = sum(each.train_s for each in results)
    if not seeds:
        published = recipe.expected if isinstance(recipe.expected, float) else None
        return Verdict(recipe, NOT_RUN, (), None, published, np.nan, np.nan, reason, seconds)
    own = np.array([by_task[recipe.trial.task][seed].accuracy for seed in seeds])
    if isinstance(recipe.expected, float):
        expected = np.full(len(seeds), recipe.expected)
    else:
        expected = np.array([by_task[recipe.expected.task][seed].accuracy for seed in seeds])
    differences = own - expected
    low, high = map(float, t_interval(differences, 1 - ALPHA)) if len(seeds) > 1 else (np.nan, np.nan)
    passed = abs(differences.mean()) <= recipe.tolerance  # False for NaN, which a diverged training gives
    found = float(own.mean()), float(expected.mean())
    return Verdict(recipe, PASS if passed else FAIL, seeds, *found, low, high, reason, seconds)


def write_reference(folder: Path, verdicts: Sequence[Verdict]) -> Path:
    """Write `report.html` and return its path.

    Args:
        folder: Folder of the results.
        verdicts: Answers for all recipes.
    """
    table = Table("Accuracy on the test images of CIFAR-10", list(HEAD), [each.cells() for each in verdicts], 2)
    details = Table(
        "Where the expected accuracy is from, and what differs",
        ["recipe", "source", "why this tolerance", "what differs", "steps", "minutes of training"],
        [
            [
                *(each.recipe.name, each.recipe.source, each.recipe.because, each.recipe.differs),
                *(count(each.recipe.trial.budget_steps), number(each.train_s / 60, 1) if each.train_s else NONE),
            ]
            for each in verdicts
        ],
        4,
    )
    section = Section("reference", "Do the trainers reach published results?", [table, Text(HOW), details])
    answers = [f"{name} {sum(each.answer == name for each in verdicts)}" for name in (PASS, FAIL, NOT_RUN)]
    return write_html(folder, "reference", ", ".join(answers), [each.sentence() for each in verdicts], [section])
