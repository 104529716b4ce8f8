"""Cost of a study before it runs: trials, steps, and training time measured on this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from study.config.names import TaskName
from study.plan.phases import Plan
from trainables.augmentation import Augmentation
from trainables.rng import generator
from trainables.training.loop import build_task

TIMED_STEPS = 3


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


@dataclass(frozen=True)
class PhaseEstimate:
    """Upper bounds for one phase of the plan, with its training time.

    Attributes:
        phase: Name of the phase.
        trials: Number of trials.
        steps: Optimizer steps of all trials.
        seconds: Training time on this machine's CPU cores, without reports and probes.
    """

    phase: str
    trials: int
    steps: int
    seconds: float


def phase_sizes(plan: Plan) -> list[PhaseSize]:
    """Return the size of each phase of the plan, in the order in which they run."""
    config = plan.config
    n_search = {task: _search_trials(plan, task) for task in config.tasks}
    n_confirm = config.confirm.top_k * config.confirm.n_seeds
    cells = {task: config.ablation(plan.search_base(task))[0] for task in config.tasks}
    n_cells, n_seeds = sum(map(len, cells.values())), config.ablate.seeds
    probed = len(plan.probed) > 0
    sizes = [
        PhaseSize(BASELINES, len(plan.baselines()), {}),
        PhaseSize(SEARCH, sum(n_search.values()), {task: n * config.budget_steps for task, n in n_search.items()}),
        PhaseSize(CONFIRM, n_confirm * len(config.tasks), dict.fromkeys(config.tasks, n_confirm * config.budget_steps)),
    ]
    if n_cells:
        steps = {task: n_seeds * sum(cell.budget_steps for cell in own) for task, own in cells.items()}
        sizes.append(PhaseSize(ABLATE, n_seeds * (n_cells + int(probed)), steps))
    n_evaluate = (len(config.tasks) + 1) * config.confirm.n_seeds + 1
    return [*sizes, PhaseSize(EVALUATE, n_evaluate if probed else 0, {})]


def estimate(plan: Plan) -> list[PhaseEstimate]:
    """Return the size and training time of each phase.

    The time of a step is measured on one CPU core with the task's largest batch.
    """
    config = plan.config
    slots = max(1, (os.cpu_count() or 1) // (config.resources.cpu * config.workers))
    per_step = {task: 0.0 if config.simulate else seconds_per_step(plan, task) for task in config.tasks}
    return [
        PhaseEstimate(
            size.phase,
            size.trials,
            sum(size.steps.values()),
            math.fsum(steps * per_step[task] for task, steps in size.steps.items()) / slots,
        )
        for size in phase_sizes(plan)
    ]


def seconds_per_step(plan: Plan, task: TaskName) -> float:
    """Return the time of one optimizer step of a task on one CPU core, in seconds, with its largest batch."""
    trial = plan.search_base(task).replace(batch_size=max(plan.batch_sizes(task)))
    table = plan.datasets[trial.dataset].pretext_train
    images = torch.from_numpy(table.images[: trial.batch_size].copy())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = build_task(trial, table.image_size, table.n_channels).to(memory_format=torch.channels_last)
        augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
        for step in range(TIMED_STEPS + 1):
            if step == 1:
                start = time.perf_counter()
            network(network.draw(images, augmentation, generator("cpu", 0, "estimate"))).objective.backward()
        return (time.perf_counter() - start) / TIMED_STEPS
    finally:
        torch.set_num_threads(threads)


def _search_trials(plan: Plan, task: TaskName) -> int:
    search = plan.config.search
    return len(plan.enumerated(task)) if search.algorithm == "grid" else search.num_samples
