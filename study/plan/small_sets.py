"""The default batch sizes that a small training set leaves, since a batch has no image twice."""

from __future__ import annotations

from analysis.records.phases import SEARCH
from search_spaces import Choice, Space
from study.config.names import TaskName
from study.config.schema import StudyConfig
from study.config.spaces import configured_space
from trainables.trial import TrialConfig


def left_out_batch_sizes(config: StudyConfig, task: TaskName, n_images: int) -> list[int]:
    """Return a task's default batch sizes that are larger than the training set; none that the user wrote."""
    configured, space = configured_space(config.search.space, task), config.space(task)
    sizes: set[int] = set()
    if "batch_size" in space and "batch_size" not in configured:
        sizes |= set(space["batch_size"].grid(2))
    if "batch_size" not in {**configured, **config.defaults.get(task, {})}:
        sizes |= {config.base_trial(task, SEARCH).batch_size}
    return sorted(size for size in sizes if size > n_images)


def fitting_space(config: StudyConfig, task: TaskName, n_images: int) -> Space:
    """Return a task's search space without the batch sizes that are left out."""
    space, left_out = config.space(task), left_out_batch_sizes(config, task, n_images)
    if not left_out or "batch_size" not in space:
        return space
    kept = tuple(size for size in space["batch_size"].grid(2) if size not in left_out)
    return {**space, "batch_size": Choice(values=kept or (_largest(n_images),))}


def fitting_base(config: StudyConfig, task: TaskName, n_images: int) -> TrialConfig:
    """Return the trial whose fields a task's search varies, with a smaller batch if its default is left out."""
    base = config.base_trial(task, SEARCH)
    left_out = left_out_batch_sizes(config, task, n_images)
    return base.replace(batch_size=_largest(n_images)) if base.batch_size in left_out else base


def _largest(n_images: int) -> int:
    """Return the largest power of two up to the number of training images."""
    return 1 << (n_images.bit_length() - 1)
