"""Time budget of a driver: the plan that fits into it, and when each phase has to stop so that the rest still fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from analysis.records.phases import PHASES
from study.plan.phases import Plan
from study.timing.estimate import REPORT, StudyEstimate
from study.timing.fit_to_budget import fit_to_budget, sizing_words
from study.timing.rehearsal import this_machine


@dataclass(frozen=True)
class TimeBudget:
    """The time that a driver has.

    Attributes:
        end: When it has to be over, in seconds since the epoch; infinite for no limit.
        estimate: Estimate of the study; None without a limit.
    """

    end: float = math.inf
    estimate: StudyEstimate | None = None

    def deadline(self, phase: str, done: Collection[str]) -> float:
        """Return when a phase has to stop, in seconds since the epoch.

        The phases after it get the time that they need; if there is too little, only the report does.

        Args:
            phase: The phase.
            done: Phases that have ended.
        """
        if self.estimate is None:
            return self.end
        need = {row.phase: row.high for row in self.estimate.phases}
        later = [name for name in PHASES[PHASES.index(phase) + 1 :] if name not in done]
        last = self.end - need[REPORT]
        kept = last - math.fsum(need.get(name, 0.0) for name in later)
        return kept if kept > time.time() else last


def budgeted(
    plan: Plan, *, began: float, resumed: bool, slots: int | None, say: Callable[[str], object]
) -> tuple[Plan, TimeBudget]:
    """Return the plan that a driver runs, and its time budget.

    Args:
        plan: Plan of the study, with its former sizes if it is resumed.
        began: When the driver began, in seconds since the epoch.
        resumed: Whether the study has begun before, so that its sizes are fixed.
        slots: As for `estimate`.
        say: Shows a line to the user.

    Raises:
        ConfigError: Not even the smallest plan fits into the budget, or the trials cannot be timed here.
    """
    if plan.config.budget_hours is None:
        return plan, TimeBudget()
    machine, end = this_machine(), began + 3600 * plan.config.budget_hours
    plan, found = fit_to_budget(plan, machine, end - time.time(), begun=resumed, slots=slots)
    for line in [] if resumed else sizing_words(plan, found):
        say(line)
    return plan, TimeBudget(end, found)
