"""`TaskSpec`: defaults, search space and cures of a pretext task; `register_task` adds a plug-in's task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, TypeVar

from search_spaces import context_encoder, context_prediction, rotation, simclr
from search_spaces.space import Domain, LogUniform, Space, parse_domain
from trainables.errors import ConfigError
from trainables.registry import Registry
from trainables.simulated.truth import TASK_TRUTHS, TaskTruth
from trainables.tasks import TASKS, PretextTask

Task = TypeVar("Task", bound=type[PretextTask])


@dataclass(frozen=True)
class TaskSpec:
    """The settings of a pretext task.

    Attributes:
        defaults: Fields of TrialConfig before any search.
        space: Search space.
        cures: Possible cures of a flat run, in addition to `ablations.default_cures`: the values to try of each.
    """

    defaults: Mapping[str, Any] = field(default_factory=dict)
    space: Space = field(default_factory=dict)
    cures: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


_MODULES: dict[str, ModuleType] = {
    "rotation": rotation,
    "context_encoder": context_encoder,
    "simclr": simclr,
    "context_prediction": context_prediction,
}

SPECS: Registry[TaskSpec] = Registry(
    "task spec",
    {name: TaskSpec(module.DEFAULT, module.SPACE, module.CURES) for name, module in _MODULES.items()},
)


def register_task(
    *,
    defaults: Mapping[str, Any] | None = None,
    space: Mapping[str, Domain | Any] | None = None,
    cures: Mapping[str, tuple[Any, ...]] | None = None,
    truth: TaskTruth | None = None,
) -> Callable[[Task], Task]:
    """Return a decorator that makes a subclass of PretextTask available to studies under its `name`.

    Args:
        defaults: Fields of TrialConfig before any search, such as `lr`, `batch_size` and the policy `augmentation`.
        space: Search space: domains, or what `search.space` accepts in YAML. By default the learning rate alone.
        cures: Values to try of each possible cure of a flat run, in addition to those for every task.
        truth: Truth of simulated trials; without one, `--simulate` uses a generic truth.

    Raises:
        ConfigError: The class is not a pretext task, its name is taken, or a domain is not valid.
    """
    domains = {"lr": LogUniform(low=3e-4, high=1e-2)} if space is None else space
    parsed = {
        name: value if isinstance(value, Domain) else parse_domain(name, value) for name, value in domains.items()
    }

    def register(task: Task) -> Task:
        if not (
            isinstance(task, type)
            and issubclass(task, PretextTask)
            and all(hasattr(task, each) for each in ("name", "Options"))
        ):
            raise ConfigError(f"register_task: {task!r} must be a subclass of PretextTask with `name` and `Options`")
        TASKS.add(task.name, task, task.__module__)
        SPECS.add(task.name, TaskSpec(defaults or {}, parsed, cures or {}), task.__module__)
        if truth is not None:
            TASK_TRUTHS.add(task.name, truth, task.__module__)
        return task

    return register
