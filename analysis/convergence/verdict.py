"""Types: a verdict, a rule, and what a rule finds in a trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analysis.convergence.curves import Trial

OR = " or "  # between the names in the column `possible`


@dataclass(frozen=True)
class Finding:
    """Evidence for a verdict on one trial.

    Attributes:
        evidence: The numbers that the verdict is based on, as one line of text.
        best_step: Step around which validation was best; 0 if the verdict does not depend on it.
        more_steps: Further steps that are worth training; 0 if none are.
        possible: Names of the verdicts that the numbers leave possible; empty where they leave this one alone.
    """

    evidence: str
    best_step: int = 0
    more_steps: int = 0
    possible: tuple[str, ...] = ()


Rule = Callable[[Trial], Finding | None]


@dataclass(frozen=True)
class Verdict:
    """One way in which a trial can end, with everything that the report says and draws about it.

    Attributes:
        name: Value of the column `verdict`.
        meaning: Explanation for readers without background: the end of a sentence that begins with the name.
        verb: Predicate of a sentence about a configuration: "it `overfits`".
        letter: Character in the squares of the verdict map.
        color: Color of those squares, as "#rrggbb".
        remedies: Function that returns the changes to try for a trial, likeliest first.
        advice: Label of the remedies.
    """

    name: str
    meaning: str
    verb: str
    letter: str
    color: str
    remedies: Callable[[Finding, Trial], list[str]]
    advice: str = "Cure"

    @property
    def label(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")
