"""Stopping of search trials that have learned nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import tune

from trainables.chance import clears_chance
from trainables.ray_adapter.messages import Replay, TrialReport, from_result


class ChanceStopper(tune.Stopper):
    """Stopper of trials whose primary metric has not cleared its chance level within `patience` steps.

    Args:
        patience: Optimizer steps within which a trial must clear chance; 0 to never stop a trial.

    Attributes:
        reasons: Reason for each stop, by Tune's trial id.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.reasons: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._cleared: set[str] = set()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether to stop the trial after this result."""
        message = from_result(result)
        if not self.patience or not isinstance(message, TrialReport | Replay) or not message.facts:
            return False
        if isinstance(message, TrialReport):
            return bool(message.metrics) and self._at_chance(trial_id, message.facts, message.step, message.metrics)
        self._looks.pop(trial_id, None)
        return [self._at_chance(trial_id, message.facts, **report) for report in message.reports][-1]

    def _at_chance(self, trial_id: str, facts: Mapping[str, Any], step: int, metrics: Mapping[str, float]) -> bool:
        if trial_id in self._cleared or not step:
            return False
        name = facts["primary_metric"]
        look = self._looks[trial_id] = self._looks.get(trial_id, 0) + 1
        value, chance = metrics[name], facts["chance"][name]
        error = metrics.get(f"{name}_se")
        if clears_chance(
            value, chance, facts["n_validation"], mode=facts["primary_mode"], standard_error=error, look=look
        ):
            self._cleared.add(trial_id)
            return False
        if step < self.patience:
            return False
        self.reasons[trial_id] = (
            f"at chance after {step} steps: {name} {value:.4f}, chance {chance:.4f}, "
            f"{facts['n_validation']} predictions"
        )
        return True

    def stop_all(self) -> bool:
        """Return False: one trial at chance says nothing about the others."""
        return False
