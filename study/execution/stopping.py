"""Stopping of search trials that have learned nothing, and of all trials at the end of a time budget."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from ray import tune

from trainables.chance import MARGIN, Learned, Level, learned
from trainables.objective import direction
from trainables.ray_adapter.messages import Replay, TrialReport, from_result

Metrics = Mapping[str, float]

# Standard errors above the reference level beyond which a metric has begun to rise. In the library of real trials, it
# spares the only stopped trial that would have learned, and 7 of the 44 that a patience of a quarter of the budget
# stops.
RISING = 3.0


class ChanceStopper(tune.Stopper):
    """Stopper of trials that are shown to have learned nothing within `patience` steps.

    As for the verdict `at_chance`, the upper bound of what was learned must lie below a margin on every validation
    metric that has a chance level. The mere absence of evidence for learning never stops a trial, and one that has
    begun to rise is not stopped either: during the warm-up of the learning rate it has learned little, but not nothing.

    Args:
        patience: Optimizer steps after which a trial may be stopped; 0 to never stop a trial.

    Attributes:
        reasons: Reason for each stop, by Tune's trial id.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.reasons: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._untrained: dict[str, Metrics] = {}
        self._learned: set[str] = set()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether to stop the trial after this result."""
        message = from_result(result)
        if not self.patience or not isinstance(message, TrialReport | Replay) or not message.facts:
            return False
        if isinstance(message, TrialReport):
            return bool(message.metrics) and self._at_chance(trial_id, message.facts, message.step, message.metrics)
        self._looks.pop(trial_id, None)
        return [self._at_chance(trial_id, message.facts, **report) for report in message.reports][-1]

    def _at_chance(self, trial_id: str, facts: Mapping[str, Any], step: int, metrics: Metrics) -> bool:
        if not step:
            self._untrained[trial_id] = metrics
        if trial_id in self._learned or not step:
            return False
        look = self._looks[trial_id] = self._looks.get(trial_id, 0) + 1
        found = _compared(facts, metrics, self._untrained.get(trial_id, {}))
        if any(each.shown(look) for each in found.values()):
            self._learned.add(trial_id)
            return False
        n = facts.get("n_validation_images") or facts["n_validation"]
        if step < self.patience or not found or not all(each.excluded(n) for each in found.values()):
            return False
        if any(each.share > RISING * each.error for each in found.values()):
            return False
        bounds = ", ".join(
            f"{name} {metrics[name]:.4f} ({each.reference} {each.level:.4f}) at most {max(0.0, each.upper(n)):.1%}"
            for name, each in found.items()
        )
        self.reasons[trial_id] = (
            f"at chance after {step} steps: of the way to a perfect score it learned less than {MARGIN:.0%}; {bounds}"
        )
        return True

    def stop_all(self) -> bool:
        """Return False: one trial at chance says nothing about the others."""
        return False


class DeadlineStopper(tune.Stopper):
    """Stopper of a whole experiment at a time on the clock. Tune then ends no trial: each can be resumed.

    Args:
        deadline: Seconds since the epoch; infinite for never.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return False: no trial is stopped by itself."""
        return False

    def stop_all(self) -> bool:
        """Return whether the time is over."""
        return time.time() >= self.deadline


def _compared(facts: Mapping[str, Any], metrics: Metrics, untrained: Metrics) -> dict[str, Learned]:
    """Compare every validation metric that has a chance level with it, or with the untrained network."""
    found = {}
    for name, chance in facts["chance"].items():
        if not name.startswith("val/") or name not in metrics:
            continue
        mode = facts["primary_mode"] if name == facts["primary_metric"] else direction(name)
        start = Level(untrained[name], untrained.get(f"{name}_se", math.nan)) if name in untrained else None
        now = Level(metrics[name], metrics.get(f"{name}_se", math.nan))
        change_error = metrics.get(f"{name}_gain_se", math.nan)
        found[name] = learned(now, chance, mode=mode, untrained=start, change_error=change_error)
    return found
