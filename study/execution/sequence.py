"""Sequence of a study's phases: each runs its trials, and its outcome is what the next ones need."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from analysis.records import PhaseEnded, PhaseStarted
from analysis.records.phases import ABLATE, BASELINES, CONFIRM, CUT, EVALUATE, SEARCH
from search_spaces.ablations import POLICY_DESIGNS
from study.execution.executor import Executor
from study.plan.history import History
from study.plan.phases import Plan
from study.timing.budget import TimeBudget

logger = logging.getLogger(__name__)


def run_phases(plan: Plan, executor: Executor, history: History, budget: TimeBudget) -> list[str]:
    """Run the phases that have not ended; return those that the end of the time budget has left unfinished.

    If time is short, the search tries fewer configurations and the ablation has fewer seeds, and what follows still
    runs. If even that does not fit, all that follows is left for a driver with more time.
    """
    unfinished: list[str] = []
    phases = _phases(plan, executor, history)
    for name, run in phases:
        if name in history.outcomes and CUT not in history.outcomes[name]:
            continue
        executor.deadline = budget.deadline(name, history.outcomes)
        executor.journal.append(PhaseStarted(phase=name))
        outcome = run()
        if outcome is None:
            return [*unfinished, *(other for other, _ in phases if other not in history.outcomes)]
        executor.journal.append(PhaseEnded(phase=name, outcome=outcome))
        unfinished += [name] if CUT in outcome else []
    return unfinished


def _phases(plan: Plan, executor: Executor, history: History) -> list[tuple[str, Callable[[], dict[str, Any] | None]]]:
    """Return the phases in order, each with the function that runs its trials and returns its outcome.

    The outcome is None if time was over before the phase had what the next ones need.
    """

    def baselines() -> dict[str, Any] | None:
        return {} if executor.run(plan.baselines(), BASELINES) else None

    def search() -> dict[str, Any] | None:
        executor.search(*plan.config.tasks)
        if executor.out_of_time and not all(plan.best_searched(history, task) for task in plan.config.tasks):
            return None
        executor.end_stopped(SEARCH)  # before the ranking, which is the one that the next phase confirms
        ranking = {task: plan.best_searched(history, task) for task in plan.config.tasks}
        return {"best": {task: [record.trial.trial_id for record in records] for task, records in ranking.items()}}

    def confirm() -> dict[str, Any] | None:
        return {"chosen": plan.chosen(history)} if executor.run(plan.confirm(history), CONFIRM) else None

    def ablate() -> dict[str, Any]:
        for task in plan.without_augmentation(history):
            logger.warning(
                "%s: the chosen augmentation strength is 0, so that its ops change nothing: left out are %s",
                task,
                ", ".join(design for design in plan.config.ablate.designs if design in POLICY_DESIGNS),
            )
        cut = {} if executor.run(plan.ablate(history), ABLATE) else {CUT: True}
        return {"designs": plan.designs(history)} | cut

    def evaluate() -> dict[str, Any] | None:
        return {} if executor.run(plan.evaluate(history), EVALUATE) else None

    phases = {BASELINES: baselines, SEARCH: search, CONFIRM: confirm, ABLATE: ablate, EVALUATE: evaluate}
    if not plan.config.ablate.designs:
        del phases[ABLATE]
    return list(phases.items())
