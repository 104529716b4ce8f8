"""What a study will cost, before it runs: trials, steps, and a time measured on this machine."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass

import torch

from study.config import StudyConfig, TaskName
from study.phases import ABLATE, BASELINE, CONFIRM, EVALUATE, SEARCH, Plan
from trainables.augmentation import Augmentation
from trainables.loop import build_task
from trainables.streams import generator

TIMED_STEPS = 3


@dataclass(frozen=True)
class PhaseEstimate:
    """One phase of the plan: trials, optimiser steps of all of them at most, and seconds at most."""

    phase: str
    trials: int
    steps: int
    seconds: float


def estimate(plan: Plan) -> list[PhaseEstimate]:
    """Return each phase's size and time. Schedulers stop trials early, so time is an upper bound for the training.

    The time of a step is measured on one CPU core with the task's largest batch; reports and probes are left out.
    """
    config = plan.config
    slots = max(1, (os.cpu_count() or 1) // (config.resources.cpu * config.workers))
    per_step = {task: 0.0 if config.simulate else seconds_per_step(plan, task) for task in config.tasks}
    probed = len(plan.probed) > 0
    n_search = {task: _search_trials(plan, task) for task in config.tasks}
    n_confirm = config.confirm.top_k * config.confirm.seeds
    search_s = sum(n_search[task] * per_step[task] for task in config.tasks) * config.budget_steps / slots
    confirm_s = sum(n_confirm * per_step[task] for task in config.tasks) * config.budget_steps / slots
    cells = [cell for task in config.tasks for cell in config.ablation(plan.search_base(task))[0]]
    n_seeds = config.ablate.seeds
    ablate_s = n_seeds * math.fsum(cell.budget_steps * per_step[cell.task] for cell in cells) / slots  # type: ignore[index]
    ablate_steps = n_seeds * sum(cell.budget_steps for cell in cells)
    n_ablate = n_seeds * (len(cells) + int(probed))
    searches, confirms = sum(n_search.values()), n_confirm * len(config.tasks)
    return [
        PhaseEstimate(BASELINE, len(plan.baselines()), 0, 0.0),
        PhaseEstimate(SEARCH, searches, searches * config.budget_steps, search_s),
        PhaseEstimate(CONFIRM, confirms, confirms * config.budget_steps, confirm_s),
        *([PhaseEstimate(ABLATE, n_ablate, ablate_steps, ablate_s)] if cells else []),
        PhaseEstimate(EVALUATE, (len(config.tasks) + 1) * config.confirm.seeds + 1 if probed else 0, 0, 0.0),
    ]


def seconds_per_step(plan: Plan, task: TaskName) -> float:
    """Return the seconds of one optimiser step of a task, at the largest batch it may have, on one core."""
    trial = plan.search_base(task).replace(batch_size=max(plan.batch_sizes(task)))
    splits = plan.datasets[trial.dataset]
    images = torch.from_numpy(splits.pretext_train.images[: trial.batch_size].copy())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        network = build_task(trial, splits.pretext_train.image_size).to(memory_format=torch.channels_last)
        augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
        for step in range(TIMED_STEPS + 1):
            if step == 1:
                began = time.perf_counter()
            network(network.draw(images, augmentation, generator("cpu", 0, "estimate"))).objective.backward()
        return (time.perf_counter() - began) / TIMED_STEPS
    finally:
        torch.set_num_threads(threads)


def _search_trials(plan: Plan, task: TaskName) -> int:
    config: StudyConfig = plan.config
    return len(plan.enumerated(task)) if config.search.algorithm == "grid" else config.search.num_samples
