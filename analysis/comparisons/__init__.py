"""Comparisons of a study's cells: their effects, convergence rates, interactions, scores and hyperparameter importance.

Functions take frames and return frames. They decide which runs count: those of a cell, one per seed, by budget and
status. The formulas are in `analysis.stats`.
"""

from analysis.comparisons.cells import COMPARISON, KEY, grid
from analysis.comparisons.data_size import data_size_law
from analysis.comparisons.designs import (
    BASE,
    CHOSEN,
    PRETRAINING,
    PRETRAINING_TEST,
    WEIGHTS_TEST,
    Metric,
    cells_against_untrained,
    chosen_against_untrained,
    compare,
    task_comparisons,
    task_metrics,
)
from analysis.comparisons.event_times import kaplan_meier, median_steps, steps_to
from analysis.comparisons.few_labels import compare_few_labels, label_results
from analysis.comparisons.hyperparameter_importance import importance, searched_columns, why_no_importance
from analysis.comparisons.images import interval_scope
from analysis.comparisons.interactions import factorial_effects, pair_synergy, task_interaction
from analysis.comparisons.paired_effects import (
    ANSWERS,
    BETTER,
    EQUIVALENT,
    INCONCLUSIVE,
    TOO_FEW,
    WORSE,
    effects,
    paired_differences,
)
from analysis.comparisons.rates import convergence_rates, rate_differences
from analysis.comparisons.scores import improvement_probabilities, interquartile_means, normalized_scores
from analysis.comparisons.selection import finished_values, fixed_budget, left_out, outcomes
from analysis.comparisons.tasks import ALL_TASKS, TASKS_TEST, compare_tasks, rank_tasks

__all__ = [
    "ALL_TASKS",
    "ANSWERS",
    "BASE",
    "BETTER",
    "CHOSEN",
    "COMPARISON",
    "EQUIVALENT",
    "INCONCLUSIVE",
    "KEY",
    "PRETRAINING",
    "PRETRAINING_TEST",
    "TASKS_TEST",
    "TOO_FEW",
    "WEIGHTS_TEST",
    "WORSE",
    "Metric",
    "cells_against_untrained",
    "chosen_against_untrained",
    "compare",
    "compare_few_labels",
    "compare_tasks",
    "convergence_rates",
    "data_size_law",
    "effects",
    "factorial_effects",
    "finished_values",
    "fixed_budget",
    "grid",
    "importance",
    "improvement_probabilities",
    "interquartile_means",
    "interval_scope",
    "kaplan_meier",
    "label_results",
    "left_out",
    "median_steps",
    "normalized_scores",
    "outcomes",
    "pair_synergy",
    "paired_differences",
    "rank_tasks",
    "rate_differences",
    "searched_columns",
    "steps_to",
    "task_comparisons",
    "task_interaction",
    "task_metrics",
    "why_no_importance",
]
