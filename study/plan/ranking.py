"""Ranking: which trial of several is the best, ties included."""

from __future__ import annotations

import math
from collections.abc import Iterable

from study.plan.history import TrialRecord
from trainables.objective import as_objective


def ranked(records: Iterable[TrialRecord], metric: str, mode: str) -> list[TrialRecord]:
    """Return the records that have a finite value, best first.

    Equals, which a small probe makes often, go by their task's own validation metric and then by id, never by which
    of them happened to start first: an interrupted study has to choose as an undisturbed one.
    """

    def key(record: TrialRecord) -> tuple[float, float, str]:
        own = record.value(record.facts.get("primary_metric", metric))
        own_mode = record.facts.get("primary_mode", mode)
        return -as_objective(record.value(metric), mode), -as_objective(own, own_mode), record.trial.trial_id

    return sorted((record for record in records if math.isfinite(record.value(metric))), key=key)
