"""Best result of each task so far, beside the level of the untrained networks that it started from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.records.phases import CONFIRM
from study.plan.history import History, TrialRecord, finished
from study.plan.ranking import ranked

SHOWN_VALUES = ("lr", "batch_size", "augmentation_strength", "seed")


@dataclass(frozen=True)
class Best:
    """A task's best value so far of the metric that its search optimizes.

    Attributes:
        metric: Name of the metric.
        mode: `max` or `min`.
        value: Mean over fresh seeds once configurations have been confirmed, otherwise the best single trial's value,
            which selection makes optimistic.
        seeds: Number of trials that `value` is the mean of.
        trial_id: Id of the trial, or of the first of them.
        values: The configuration's lr, batch_size and augmentation_strength, and a single trial's seed.
        untrained: Mean of the same metric over the same trials before their first step; None if it was not reported.
    """

    metric: str
    mode: str
    value: float
    seeds: int
    trial_id: str
    values: Mapping[str, Any]
    untrained: float | None = None


def best_so_far(history: History, objectives: Mapping[str, Sequence[str]]) -> dict[str, Best]:
    """Return the best of each task: what the confirm phase chose, or before that the best single trial.

    Args:
        history: State of the study.
        objectives: Per task, the metric that its search optimizes, and its direction.
    """
    chosen = history.outcomes.get(CONFIRM, {}).get("chosen", {})
    found = {}
    for task, (metric, mode) in objectives.items():
        if task in chosen:
            choice = chosen[task]
            values = {name: choice["config"][name] for name in SHOWN_VALUES if name != "seed"}
            trial_ids = choice["trial_ids"]
            untrained = _untrained([history.trials[each] for each in trial_ids if each in history.trials], metric)
            found[task] = Best(metric, mode, choice["mean"], len(choice["seeds"]), trial_ids[0], values, untrained)
            continue
        trials = [record for record in history.trials.values() if record.trial.task == task]
        # A trial that was stopped or is still running has had fewer steps: it counts only if none has finished.
        if best_first := ranked(finished(trials), metric, mode) or ranked(trials, metric, mode):
            best = best_first[0]
            values = {name: getattr(best.trial, name) for name in SHOWN_VALUES}
            untrained = _untrained([best], metric)
            found[task] = Best(metric, mode, best.value(metric), 1, best.trial.trial_id, values, untrained)
    return found


def _untrained(records: Sequence[TrialRecord], metric: str) -> float | None:
    values = [record.untrained[metric] for record in records if metric in record.untrained]
    return float(np.mean(values)) if values else None
