"""Claims: a sentence's template together with the condition on its numbers under which it may appear."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.stats import ALPHA


@dataclass(frozen=True)
class Condition:
    """A condition on the comparisons that a sentence is about.

    Attributes:
        text: The condition in words, for docs/statistics.md.
        met: Function of the comparisons, one row each; without a row no condition is met.
    """

    text: str
    met: Callable[[pd.DataFrame], bool]


@dataclass(frozen=True)
class Sentence:
    """A template that may appear only where its condition is met.

    Attributes:
        name: Name in docs/statistics.md.
        text: Template of `str.format`.
        condition: Condition on the rows that the sentence is about.
    """

    name: str
    text: str
    condition: Condition

    def may(self, rows: pd.DataFrame) -> bool:
        """Whether the sentence may be said of these rows of comparisons."""
        return len(rows) > 0 and self.condition.met(rows)

    def say(self, rows: pd.DataFrame | pd.Series, **words: object) -> str:
        """Fill in the template.

        Args:
            rows: The comparisons that the sentence is about, or a single one.
            words: The template's values.

        Raises:
            ValueError: If the rows do not meet the condition.
        """
        rows = rows.to_frame().T if isinstance(rows, pd.Series) else rows
        if not self.may(rows):
            raise ValueError(f"sentence {self.name!r} needs rows where {self.condition.text}; these are:\n{rows}")
        return self.text.format(**words)


def first_true(candidates: tuple[Sentence, ...], rows: pd.DataFrame | pd.Series) -> Sentence:
    """Return the first sentence that may be said of the rows.

    Raises:
        ValueError: If none may.
    """
    rows = rows.to_frame().T if isinstance(rows, pd.Series) else rows
    for each in candidates:
        if each.may(rows):
            return each
    raise ValueError(f"none of {', '.join(each.name for each in candidates)} may be said of these rows:\n{rows}")


def all_are(*answers: str) -> Condition:
    """Return the condition that every comparison has one of these answers."""
    words = " or ".join(f"`{answer}`" for answer in answers)
    return Condition(f"every row is {words}", lambda rows: bool(rows["answer"].isin(answers).all()))


def none_is(answer: str) -> Condition:
    """Return the condition that no comparison has this answer."""
    return Condition(f"no row is `{answer}`", lambda rows: not (rows["answer"] == answer).any())


def first_is(*answers: str) -> Condition:
    """Return the condition that the first comparison has one of these answers."""
    words = " or ".join(f"`{answer}`" for answer in answers)
    return Condition(f"the first row is {words}", lambda rows: rows["answer"].iloc[0] in answers)


def both(*conditions: Condition) -> Condition:
    """Return the condition that all of these are met."""
    return Condition(
        " and ".join(each.text for each in conditions), lambda rows: all(each.met(rows) for each in conditions)
    )


SIGNIFICANT = Condition("every row has p_holm ≤ 0.05", lambda rows: bool((rows["p_holm"] <= ALPHA).all()))
TESTED = Condition("some row was tested", lambda rows: bool(rows["p_holm"].notna().any()))
NOT_SIGNIFICANT = Condition("no row has p_holm ≤ 0.05", lambda rows: not (rows["p_holm"] <= ALPHA).any())
UNTESTED = Condition("no row was tested: p_holm is missing", lambda rows: bool(rows["p_holm"].isna().all()))
ALWAYS = Condition("always: the difference is given with its answer", lambda rows: True)
