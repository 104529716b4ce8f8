"""Ranking of trials by a metric, with one rule for ties."""

from __future__ import annotations

import math
from collections.abc import Iterable

from study.plan.history import TrialRecord
from trainables.objective import as_objective


def ranked(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Return the records that have a finite value of `metric`, best first.

    Ties, which are frequent with small probes, are broken by the task's own validation metric and then by trial id. The
    order in which trials started does not matter, so an interrupted study makes the same choices as an undisturbed one.

    Args:
        records: Trials to rank.
        metric: Name of a metric or of a final result.
        mode: `max` or `min`, the better direction of `metric`.
    """

    def key(record: TrialRecord) -> tuple[float, float, str]:
        value = own = as_objective(record.value(metric), mode)
        if record.facts:
            own = as_objective(record.value(record.facts.primary_metric), record.facts.primary_mode)
        return -value, -own, record.trial.trial_id

    return sorted((record for record in records if math.isfinite(record.value(metric))), key=key)
