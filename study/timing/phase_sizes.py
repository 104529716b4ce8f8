"""Sizes of a study's phases: upper bounds of trials and optimizer steps, known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from study.config.names import TaskName
from study.plan.phases import Plan


@dataclass(frozen=True)
class PhaseSize:
    """Upper bounds for one phase of the plan; schedulers stop trials early.

    Attributes:
        phase: Name of the phase.
        trials: Number of trials.
        steps: Optimizer steps of all trials, by task.
    """

    phase: str
    trials: int
    steps: Mapping[TaskName, int]


def phase_sizes(plan: Plan) -> list[PhaseSize]:
    """Return the size of each phase of the plan, in the order in which they run."""
    config = plan.config
    n_search = {task: search_trials(plan, task) for task in config.tasks}
    n_confirm = config.confirm.top_k * config.confirm.n_seeds
    cells = {task: config.ablation(plan.search_base(task))[0] for task in config.tasks}
    n_cells, n_seeds = sum(map(len, cells.values())), config.ablate.seeds
    sizes = [
        PhaseSize(BASELINES, len(plan.baselines()), {}),
        PhaseSize(SEARCH, sum(n_search.values()), {task: n * config.budget_steps for task, n in n_search.items()}),
        PhaseSize(CONFIRM, n_confirm * len(config.tasks), dict.fromkeys(config.tasks, n_confirm * config.budget_steps)),
    ]
    if n_cells:
        steps = {task: n_seeds * sum(cell.budget_steps for cell in own) for task, own in cells.items()}
        sizes.append(PhaseSize(ABLATE, n_seeds * (n_cells + len(plan.ablated([], seed=0))), steps))
    n_evaluate = len(config.tasks) * config.confirm.n_seeds + len(plan.baselines(EVALUATE, "test"))
    return [*sizes, PhaseSize(EVALUATE, n_evaluate if plan.probed else 0, {})]


def search_trials(plan: Plan, task: TaskName) -> int:
    """Return the number of trials of a task's search."""
    search = plan.config.search
    return len(plan.enumerated(task)) if search.algorithm == "grid" else search.num_samples
