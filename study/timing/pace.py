"""Pace of a study: how long the rest of its plan takes, from the time that its trials have taken so far."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.records import Event, PhaseClock, StudyStarted
from study.plan.history import History


class Pace:
    """Time spent per phase and the time left, kept up to date by `observe`.

    Attributes:
        plan: Upper bounds per phase, as in `StudyStarted.plan`.
    """

    def __init__(self) -> None:
        self.plan: Mapping[str, Mapping[str, int]] = {}
        self._clock = PhaseClock()

    def observe(self, event: Event) -> None:
        """Count the time of an event and note the plan of the driver that runs."""
        self._clock.observe(event)
        if isinstance(event, StudyStarted):
            self.plan = event.plan

    def seconds_left(self, history: History) -> float | None:
        """Return the time that the rest of the plan takes at the pace so far; None if that cannot be estimated yet.

        The pace is steps per second in phases that train and trials per second in phases that only probe. Steps saved
        by early stopping do not count as left.

        Args:
            history: State of the study after the same events.
        """
        seconds = {True: 0.0, False: 0.0}  # keys: whether a phase trains
        done, left = {True: 0, False: 0}, {True: 0, False: 0}
        for name, size in self.plan.items():
            trains, records = size["steps"] > 0, history.of(name)
            total = size["steps" if trains else "trials"]
            ended = [record for record in records if record.ended]
            seconds[trains] += self._clock.seconds.get(name, 0.0)
            done[trains] += sum(record.step for record in records) if trains else len(ended)
            if name not in history.outcomes:
                running_steps = sum(record.step for record in records if not record.ended)
                ended_steps = sum(record.trial.budget_steps for record in ended)
                settled = ended_steps + running_steps if trains else len(ended)
                left[trains] += max(0, total - settled)
        needed = [kind for kind in left if left[kind]]
        if not self.plan or any(not done[kind] for kind in needed):
            return None
        return sum(left[kind] * seconds[kind] / done[kind] for kind in needed)
