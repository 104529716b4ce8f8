"""Whether the largest batches of a study fit into memory, found out before the first trial."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import ray
import torch
from ray._private.utils import get_system_memory, get_used_memory

from study.config.names import TaskName
from study.execution import cluster, resources
from study.plan.phases import Plan
from study.timing.phase_sizes import phase_sizes
from trainables import plugins
from trainables.errors import ConfigError
from trainables.training.memory import least_bytes, try_step
from trainables.trial import TrialConfig

N_IMAGES = 16  # a batch is made of copies of that many images


def check_memory(plan: Plan, concurrent: int) -> None:
    """Check that the largest batch of each task, and larger ones of the ablations, fit into memory.

    On a GPU, a trial's share of it tries them. On the CPUs of this machine, what they take at least is compared with
    the free memory; the memory of other nodes is not known.

    Args:
        plan: Plan of the study.
        concurrent: Number of trials that run at once.

    Raises:
        ConfigError: A batch does not fit.
    """
    config = plan.config
    concurrent = min(concurrent, max(size.trials for size in phase_sizes(plan) if size.steps))
    if config.simulate or not (config.resources.gpu or cluster.is_private()):
        return
    for task in config.tasks:
        for trial in _largest(plan, task):
            problem = _problem_on_gpu(plan, trial) if config.resources.gpu else _problem_here(plan, trial, concurrent)
            if problem:
                size = plan.datasets[trial.dataset].pretext_train.image_size
                half = max(2 * trial.workers, trial.batch_size // 2)
                raise ConfigError(
                    f"{task}: batch_size {trial.batch_size} of {size} px with {trial.encoder}, width {trial.width}, "
                    f"{problem}; use smaller batches, for example --set 'search.space.batch_size=[{half}]', or a "
                    "smaller image_size or encoder.width, or let fewer trials run at once (resources.cpu or "
                    "resources.gpu)"
                )


def _largest(plan: Plan, task: TaskName) -> list[TrialConfig]:
    """Return the search's trial with its largest batch, and each cell of the ablations that has more."""
    search = plan.search_base(task).replace(batch_size=max(plan.batch_sizes(task)))
    cells = {
        (cell.batch_size, cell.width, cell.encoder): cell
        for cell in plan.config.ablation(search)[0]
        if cell.batch_size > search.batch_size or cell.width > search.width or cell.encoder != search.encoder
    }
    return [search, *cells.values()]


def _problem_here(plan: Plan, trial: TrialConfig, concurrent: int) -> str:
    """Return the problem with a batch on the CPUs of this machine; empty if there is none."""
    needed = trial.workers * least_bytes(_of_one_worker(trial), torch.from_numpy(_images(plan, trial)))
    free = get_system_memory() - get_used_memory()
    if needed * concurrent <= free:
        return ""
    trials = f"each of {concurrent} trials at once" if concurrent > 1 else "a trial"
    return f"takes at least {_readable(needed)} in {trials}, but {_readable(free)} of memory are free"


def _problem_on_gpu(plan: Plan, trial: TrialConfig) -> str:
    """Return the problem with a batch on a GPU of the cluster; empty if there is none."""
    need = resources.of_worker(plan.config.resources)
    share = min(1.0, need.pop("GPU"))
    attempt = ray.remote(_fits).options(
        num_gpus=plan.config.resources.gpu,
        num_cpus=need.pop("CPU", 0),
        memory=need.pop("memory", None),
        resources=need,
        label_selector=dict(plan.config.resources.labels) or None,
        max_retries=0,
    )
    loaded = tuple(plugins.loaded(each.name) for each in plan.config.plugins)
    data_bytes = plan.datasets[trial.dataset].pretext_train.images[:1].nbytes * (trial.n_images or plan.n_images)
    fits = ray.get(attempt.remote(_of_one_worker(trial).to_dict(), _images(plan, trial), data_bytes, share, loaded))
    return "" if fits else f"does not fit into {share:.0%} of the GPU, the share of a trial"


def _fits(
    trial: dict[str, object], images: np.ndarray, data_bytes: int, share: float, loaded: Iterable[plugins.Plugin]
) -> bool:
    """Return whether a batch fits on the GPU of a Ray worker; true if it has none, as its trials will not use it."""
    for plugin in loaded:
        plugins.load(plugin)
    if not torch.cuda.is_available():
        return True
    return try_step(TrialConfig.from_dict(trial), torch.from_numpy(images.copy()), data_bytes, share)


def _of_one_worker(trial: TrialConfig) -> TrialConfig:
    return trial.replace(batch_size=trial.batch_size // trial.workers, workers=1)


def _images(plan: Plan, trial: TrialConfig) -> np.ndarray:
    return np.array(plan.datasets[trial.dataset].pretext_train.images[:N_IMAGES])


def _readable(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{math.ceil(n_bytes / 1e6)} MB"
