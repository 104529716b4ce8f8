"""Sentences that claim something: their templates, and the condition under which each may appear.

A claim appears only where its numbers exclude the alternative. What is not excluded is worded as "not shown". The
sections of the report take every such sentence from here, and a sentence refuses rows that do not meet its condition.
docs/statistics.md lists them by name, with their measured error rates. Verdicts are in `analysis.convergence`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.comparisons import BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.comparisons.interactions import DIFFERENT, NOT_SHOWN
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


def _all(*answers: str) -> Condition:
    words = " or ".join(f"`{answer}`" for answer in answers)
    return Condition(f"every row is {words}", lambda rows: bool(rows["answer"].isin(answers).all()))


def _none(answer: str) -> Condition:
    return Condition(f"no row is `{answer}`", lambda rows: not (rows["answer"] == answer).any())


def _first(*answers: str) -> Condition:
    words = " or ".join(f"`{answer}`" for answer in answers)
    return Condition(f"the first row is {words}", lambda rows: rows["answer"].iloc[0] in answers)


def _both(*conditions: Condition) -> Condition:
    return Condition(
        " and ".join(each.text for each in conditions), lambda rows: all(each.met(rows) for each in conditions)
    )


_SIGNIFICANT = Condition("every row has p_holm ≤ 0.05", lambda rows: bool((rows["p_holm"] <= ALPHA).all()))
_TESTED = Condition("some row was tested", lambda rows: bool(rows["p_holm"].notna().any()))
_NOT_SIGNIFICANT = Condition("no row has p_holm ≤ 0.05", lambda rows: not (rows["p_holm"] <= ALPHA).any())
_UNTESTED = Condition("no row was tested: p_holm is missing", lambda rows: bool(rows["p_holm"].isna().all()))
_ALWAYS = Condition("always: the difference is given with its answer", lambda rows: True)

# Pretext tasks on the test split, compared with each other. Rows: the task named, compared with every other one.
BEST_TASK = Sentence(
    "best_task",
    "**{task} is the best of {n} pretext tasks on {dataset}**: {numbers}. The runner-up, {rival}, is told apart on the "
    "test split ({difference}).",
    _all(BETTER),
)
LEADING_TASK = Sentence(
    "leading_task",
    "**Of {n} pretext tasks, {task} has the highest {rank}**. On {dataset}: {numbers}. The runner-up, {rival}, is not "
    "told apart on the test split ({difference}).",
    _first(EQUIVALENT, INCONCLUSIVE, TOO_FEW),
)
OVERTAKEN_TASK = Sentence(
    "overtaken_task",
    "**Of {n} pretext tasks, {task} has the highest {rank}**. On {dataset}: {numbers}. On the test split, {rival} is "
    "better ({difference}).",
    _first(WORSE),
)

# Pretext tasks compared with untrained encoders of the same seeds. Rows: `against_untrained` of the tasks named.
NO_TASK_BEATS_UNTRAINED = Sentence(
    "no_task_beats_untrained",
    "**No pretext task beats an untrained encoder on {dataset}** (test split; each is worse, or equivalent within "
    "{margin}): the closest is {numbers}",
    _all(WORSE, EQUIVALENT),
)
NO_TASK_SHOWN_TO_BEAT_UNTRAINED = Sentence(
    "no_task_shown_to_beat_untrained",
    "**No pretext task is shown to beat an untrained encoder on {dataset}** (test split): the closest is {numbers}",
    _none(BETTER),
)
NO_BETTER_THAN_UNTRAINED = Sentence(
    "no_better_than_untrained",
    "**No better than an untrained encoder** (test split; worse, or equivalent within {margin}): {numbers}",
    _all(WORSE, EQUIVALENT),
)
NOT_SHOWN_BETTER_THAN_UNTRAINED = Sentence(
    "not_shown_better_than_untrained",
    "**Not shown to be better than an untrained encoder** (test split): {numbers}",
    _none(BETTER),
)
FEATURES_WORSE = Sentence("features_worse", "its features are worse than untrained ones ({means})", _all(WORSE))
FEATURES_EQUIVALENT = Sentence(
    "features_equivalent", "its features are equivalent to untrained ones ({means})", _all(EQUIVALENT)
)
FEATURES_NOT_SHOWN_BETTER = Sentence(
    "features_not_shown_better", "its features are not shown to be better than untrained ones ({means})", _none(BETTER)
)
TRANSFER = Sentence(
    "transfer",
    "**On {dataset}** (test split), an untrained encoder scores {untrained}. {n_better} of {n} pre-trained encoders "
    "are shown to be better. The largest difference: {largest}",
    _ALWAYS,
)

# Changes of an ablation compared with their baseline. Rows: `effects` of the cells named.
CURES = Sentence("cures", "**{cell}** cures it ({rate} then converge): {numbers}{more}", _all(BETTER))
HELPS = Sentence("helps", "**{cell}** helps, though it {ending}: {numbers}{more}", _all(BETTER))
DOES_BETTER = Sentence("does_better", "**{cell}** does better: {numbers}{more}", _all(BETTER))
ALSO_BETTER = Sentence("also_better", "; also better, not compared with it: {cells}", _all(BETTER))
ABLATION_FOUND_BETTER = Sentence(
    "ablation_found_better",
    "**The ablation found better**: {cells}. Change that in the YAML and confirm it with fresh seeds.",
    _all(BETTER),
)
BETTER_CELLS = Sentence("better_cells", "Better than {baseline} in {measured}, largest gain first:", _all(BETTER))
WORSE_CELLS = Sentence("worse_cells", "**Worse**: {cells}.", _all(WORSE))
EQUIVALENT_CELLS = Sentence("equivalent_cells", "**Equivalent**, within {margin}: {cells}.", _all(EQUIVALENT))
NO_CHANGE_BETTER = Sentence("no_change_better", "no tested change does better ({numbers})", _all(WORSE, EQUIVALENT))
NO_CHANGE_SHOWN_BETTER = Sentence(
    "no_change_shown_better",
    "no change is shown to help: the largest difference, {largest}, is inconclusive (differences below {detectable} "
    "can be missed)",
    _both(_none(BETTER), _first(INCONCLUSIVE)),
)
NO_CHANGE_TESTED = Sentence(
    "no_change_tested",
    "no change is shown to help: the largest difference is {largest}",
    _both(_none(BETTER), _first(TOO_FEW)),
)
NOTHING_SHOWN_BETTER = Sentence(
    "nothing_shown_better", "No change that the ablation tested is shown to do better.", _none(BETTER)
)

# Seeds at which a task leaves chance. Rows: `take_offs` of the change named.
LEAVES_CHANCE = Sentence(
    "leaves_chance", "it leaves chance more often with {cell} ({rate}, Holm {p}){more}", _SIGNIFICANT
)
LEFT_CHANCE_TESTED = Sentence(
    "left_chance_tested",
    "it left chance at more seeds with {cell}, which is not shown to be more than luck ({rate}, Holm {p}){more}",
    _both(_TESTED, _NOT_SIGNIFICANT),
)
LEFT_CHANCE_UNTESTED = Sentence(
    "left_chance_untested",
    "it left chance at more seeds with {cell} ({rate}; too few seeds to test: {needed} could show it){more}",
    _UNTESTED,
)

# Main effects and interactions. Rows: `factorial` of a task, or one term of `across_tasks`.
FACTORS_SIGNIFICANT = Sentence("factors_significant", "effects shown: {effects}", _SIGNIFICANT)
NO_FACTOR_SIGNIFICANT = Sentence(
    "no_factor_significant", "no effect of its factors is shown", _both(_TESTED, _NOT_SIGNIFICANT)
)
FACTORS_UNTESTED = Sentence("factors_untested", "its factors have too few seeds to test", _UNTESTED)
CELLS_DIFFER = Sentence("cells_differ", "the cells differ, on average over tasks ({numbers})", _all(DIFFERENT))
CELLS_NOT_SHOWN_TO_DIFFER = Sentence(
    "cells_not_shown_to_differ",
    "the cells are not shown to differ, on average over tasks ({numbers})",
    _all(NOT_SHOWN),
)
EFFECT_DEPENDS_ON_TASK = Sentence(
    "effect_depends_on_task", "the effect of a cell depends on the task ({numbers})", _all(DIFFERENT)
)
EFFECT_NOT_SHOWN_TO_DEPEND = Sentence(
    "effect_not_shown_to_depend", "the effect of a cell is not shown to depend on the task ({numbers})", _all(NOT_SHOWN)
)
ACROSS_TASKS_UNTESTED = Sentence("across_tasks_untested", "too few seeds to test {what}", _all(TOO_FEW))

# Means without a test. Rows: `not_above_baselines`, `against_chance` of a configuration.
MEAN_NOT_ABOVE_BASELINE = Sentence(
    "mean_not_above_baseline",
    "Test-split mean not above an untrained baseline's (means, not a test): {means}.",
    Condition(
        "every row has a mean of at most the baseline's",
        lambda rows: bool((rows["mean"] <= rows["baseline_mean"]).all()),
    ),
)
NO_SEED_BEAT_CHANCE = Sentence(
    "no_seed_beat_chance",
    "**{tasks}: no seed of at least one configuration is shown to beat chance.** Check whether its probe beats random "
    "initialization before using it.",
    Condition("no row has a bound beyond chance", lambda rows: not rows["beats_chance"].fillna(value=False).any()),
)

# The cause of a flat run. Rows: `effects` of single changes, with the column learned: whether the run left chance.
CAUSE = Sentence(
    "cause",
    "**The cause was {main}**{also}: among single changes, {each}.",
    Condition(
        "every row is `better` and left chance", lambda rows: bool(((rows["answer"] == BETTER) & rows["learned"]).all())
    ),
)
NO_CAUSE_SHOWN = Sentence(
    "no_cause_shown",
    "**No single change is shown to be what it lacked**: the largest difference is {largest}.",
    Condition(
        "no row is `better` and left chance", lambda rows: not ((rows["answer"] == BETTER) & rows["learned"]).any()
    ),
)
_TOGETHER = _both(_first(BETTER), Condition("left chance", lambda rows: bool(rows["learned"].iloc[0])))
LACKED_BOTH = Sentence(
    "lacked_both",
    "**It lacked two things at once, optimizer steps and augmentation**: {each}; with both it {end}, {numbers} "
    "compared with the steps alone.",
    _both(
        _TOGETHER,
        Condition("each change alone is `worse` or `equivalent`", lambda rows: _all(WORSE, EQUIVALENT).met(rows[1:])),
    ),
)
SHOWN_TOGETHER = Sentence(
    "shown_together",
    "**Optimizer steps and augmentation are shown to help together, and neither is shown to help alone**: {each}; with "
    "both it {end}, {numbers} compared with the steps alone.",
    _both(_TOGETHER, Condition("no change alone is `better`", lambda rows: _none(BETTER).met(rows[1:]))),
)

SENTENCES: Mapping[str, Sentence] = {each.name: each for each in list(vars().values()) if isinstance(each, Sentence)}
