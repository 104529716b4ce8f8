"""Ranking of a plan's trial records by a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable

from study.plan.history import TrialRecord
from trainables.objective import rank_key


def ranked(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Return the records that have a finite value of `metric`, best first; ties are broken by `rank_key`.

    Args:
        records: Trials to rank.
        metric: Name of a metric or of a final result.
        mode: `max` or `min`, the better direction of `metric`.
    """

    def key(record: TrialRecord) -> tuple[float, float, str]:
        facts, trial_id = record.facts, record.trial.trial_id
        own = record.value(facts.primary_metric) if facts else math.nan
        return rank_key(record.value(metric), mode, trial_id, own=own, own_mode=facts.primary_mode if facts else "max")

    return sorted((record for record in records if math.isfinite(record.value(metric))), key=key)
