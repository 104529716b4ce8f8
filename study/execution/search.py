"""Search: searchers and schedulers that compare trials within one task.

Tune searches one space by one metric. The search phase runs all tasks at once, so that no slot idles until the last
trial of a task ends. The classes here give each task its own searcher and scheduler.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import optuna
from ray import tune
from ray.tune import schedulers
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from analysis.records import FAILED
from analysis.records.phases import SEARCH
from search_spaces import Choice, Domain, LogUniform, Space, Uniform
from study.config.names import MUTATED, TaskName
from study.plan.distributions import distribution
from study.plan.history import History
from study.plan.phases import Plan
from trainables.objective import OBJECTIVE, as_objective
from trainables.ray_adapter.trainable import GROUP, trial_of
from trainables.tasks import TASKS, build_options
from trainables.trial import TrialConfig

MAX_ATTEMPTS = 50  # samples drawn in search of a configuration that is new for its task


class PerTaskSearcher(Searcher):
    """Searcher that delegates to one searcher per task and adds the `task` to each suggested configuration.

    No configuration is suggested twice, since equal configurations are the same trial.

    Args:
        searches: Per task, its searcher and the number of trials that it has left.
        bases: Per task, the trial whose fields a configuration replaces.
        known: Trials that the study already has.
    """

    def __init__(
        self,
        searches: Mapping[TaskName, tuple[Searcher, int]],
        bases: Mapping[str, TrialConfig],
        known: Iterable[TrialConfig] = (),
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self._searchers = {task: searcher for task, (searcher, _) in searches.items()}
        self._left = {task: left for task, (_, left) in searches.items() if left > 0}
        self._bases, self._known = bases, set(known)
        self._asked: dict[str, tuple[TaskName, str]] = {}  # per trial: its task and its id in the task's searcher

    @property
    def n_left(self) -> int:
        """Number of trials still to be suggested."""
        return sum(self._left.values())

    def suggest(self, trial_id: str) -> Any:
        """Return the next configuration of the task with the most trials left; Searcher.FINISHED after the last."""
        while self._left:
            task = max(self._left, key=self._left.__getitem__)
            config = self._sample_new(task, trial_id)
            self._left[task] -= 1
            if config is None or not self._left[task]:
                del self._left[task]
            if config is not None:
                return config
        return Searcher.FINISHED

    def _sample_new(self, task: TaskName, trial_id: str) -> dict[str, Any] | None:
        """Return a configuration that is new for the task, or None if its searcher finds none."""
        for attempt in range(MAX_ATTEMPTS):
            name = f"{trial_id}.{attempt}"
            config = {"task": task, **(self._searchers[task].suggest(name) or {})}
            trial = trial_of(config, self._bases)
            if trial not in self._known:
                self._known.add(trial)
                self._asked[trial_id] = task, name
                return config
            self._searchers[task].on_trial_complete(name, error=True)
        return None

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Pass a trial's result on to its task's searcher."""
        task, name = self._asked[trial_id]
        self._searchers[task].on_trial_complete(name, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: a search resumes from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, since nothing was written."""


def tpe(plan: Plan, history: History, task: TaskName) -> tuple[OptunaSearch, int]:
    """Return Optuna's TPE searcher, with the task's ended trials as observations, and the number of trials left to run.

    Args:
        plan: Plan of the study.
        history: State of the study.
        task: Task to search.
    """
    settings, space = plan.config.search, plan.space(task)
    records = history.of(SEARCH, task)
    running = [_values(record.trial, space) for record in records if not record.ended]
    known = [record for record in records if record.ended]
    first = running if records else [default_values(task, plan.search_base(task), space)]
    sampler = optuna.samplers.TPESampler(
        seed=plan.config.seed + len(records),
        n_startup_trials=min(10, max(4, settings.num_samples // 3)),
        multivariate=True,
    )
    searcher = OptunaSearch(
        space={name: distribution(domain) for name, domain in space.items()},
        metric=OBJECTIVE,
        mode="max",
        points_to_evaluate=first,
        sampler=sampler,
    )
    metric, mode = plan.metric(task)
    for record in known:
        value = record.value(metric)
        if not math.isnan(value) and record.status != FAILED:
            searcher.add_evaluated_point(_values(record.trial, space), as_objective(value, mode))
    return searcher, settings.num_samples - len(known)


def queued_trials(trials: Iterable[TrialConfig]) -> dict[str, Any]:
    """Return a search space whose samples are these trials in order.

    A grid would do the same, but Tune copies the whole grid for every trial.
    """
    waiting = iter(trials)
    return {"trial": tune.sample_from(lambda spec: next(waiting).to_dict())}


def queued_groups(groups: Iterable[Sequence[TrialConfig]]) -> dict[str, Any]:
    """Return a search space whose samples are these groups of trials in order."""
    waiting = iter(groups)
    return {GROUP: tune.sample_from(lambda spec: [trial.to_dict() for trial in next(waiting)])}


class FIFOScheduler(schedulers.FIFOScheduler):
    """First-in, first-out scheduler whose cost does not grow with the number of ended trials.

    Tune asks for the next trial at every event, and its own FIFO scheduler then scans all trials of the experiment.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[str, Any] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial, or one that is to be run again, to the end of the queue."""
        self._alive.pop(trial.trial_id, None)
        self._alive[trial.trial_id] = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the first pending trial, else the first paused one, else None."""
        self._alive = {key: trial for key, trial in self._alive.items() if not trial.is_finished()}
        for status in (Trial.PENDING, Trial.PAUSED):
            for trial in self._alive.values():
                if trial.status == status:
                    return trial
        return None


class PerTaskASHA(FIFOScheduler):
    """ASHA (Li et al. 2018, arXiv:1810.05934) within the trials of each task.

    Args:
        max_t: Budget in optimizer steps. A trial that reaches it is not stopped, since that would save nothing.
        grace_period: Optimizer steps that every trial gets.
        reduction_factor: One in this many trials is promoted from each rung to the next.
    """

    def __init__(self, max_t: int, grace_period: int, reduction_factor: float) -> None:
        super().__init__()
        self._max_t = max_t
        self._make = functools.partial(
            AsyncHyperBandScheduler,
            time_attr="step",
            metric=OBJECTIVE,
            mode="max",
            max_t=max_t,
            grace_period=grace_period,
            reduction_factor=reduction_factor,
            stop_last_trials=False,
        )
        self._by_task: dict[str, AsyncHyperBandScheduler] = {}

    def recall(self, trial_id: str, task: str, objectives: Iterable[tuple[int, float]]) -> None:
        """Compare further trials with one that has ended, too, for example under an earlier driver.

        Args:
            trial_id: Id of the trial.
            task: Its task.
            objectives: Step and objective of each of its reports, in their order.
        """
        ended: Any = SimpleNamespace(trial_id=trial_id, config={"task": task})
        controller: Any = None
        scheduler = self._of(ended)
        scheduler.on_trial_add(controller, ended)
        for step, objective in objectives:
            scheduler.on_trial_result(controller, ended, {"step": step, OBJECTIVE: objective})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Add a trial to its task."""
        super().on_trial_add(tune_controller, trial)
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial continues after this result."""
        action = self._of(trial).on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result["step"] >= self._max_t else action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Pass a trial's completion on to its task's scheduler."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Remove a trial that never ran."""
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Any) -> AsyncHyperBandScheduler:
        task = trial.config.get("trial", trial.config)["task"]
        if task not in self._by_task:
            self._by_task[task] = self._make()
        return self._by_task[task]


class Population(PopulationBasedTraining):
    """Population-based training that lets a trial end with its last report.

    With a state taken after it, no step would be left to report, and the trial would end with values that did not
    produce its results.

    Args:
        max_t: Optimizer steps of a whole trial.
        settings: Arguments of PopulationBasedTraining.
    """

    def __init__(self, max_t: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._max_t = max_t

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether the trial continues after this result."""
        if result["step"] >= self._max_t:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


def population(space: Space, max_t: int, grace_period: int) -> TrialScheduler:
    """Return population-based training (Jaderberg et al. 2017, arXiv:1711.09846) that mutates the fields in MUTATED.

    Args:
        space: Search space of the task, with at least one of these fields.
        max_t: Optimizer steps of a whole trial.
        grace_period: Optimizer steps between two mutations.
    """
    mutations = {name: tune_domain(domain) for name, domain in space.items() if name in MUTATED}
    return Population(
        max_t,
        time_attr="step",
        metric=OBJECTIVE,
        mode="max",
        perturbation_interval=grace_period,
        hyperparam_mutations={"trial": mutations},
        custom_explore_fn=functools.partial(_clipped, domains={name: space[name] for name in mutations}),
    )


def _clipped(config: dict[str, Any], domains: Space) -> dict[str, Any]:
    """Move values that population-based training has multiplied back into their domains."""
    for name, domain in domains.items():
        value = config["trial"][name]
        if value not in domain:
            config["trial"][name] = min((abs(known - value), known) for known in domain.grid(2))[1]
    return config


def tune_domain(domain: Domain) -> Any:
    """Return the Tune domain that is equivalent to `domain`."""
    match domain:
        case Uniform():
            return tune.uniform(domain.low, domain.high)
        case LogUniform():
            return tune.loguniform(domain.low, domain.high)
        case Choice():
            return tune.choice(list(domain.values))
    raise TypeError(f"{type(domain).__name__}: has no equivalent in Tune")


def _values(trial: TrialConfig, space: Space) -> dict[str, Any]:
    """Return a trial's values of the searched hyperparameters, by name."""
    columns = trial.to_columns()
    return {name: columns[name] for name in space}


def default_values(task: TaskName, base: TrialConfig, space: Space) -> dict[str, Any]:
    """Return a search's first point: each default, or the middle of a domain that excludes the default.

    Args:
        task: Task to search.
        base: The task's configuration before the search.
        space: Search space of the task.
    """
    options = build_options(TASKS[task], dict(base.options))
    columns = {f"option/{name}": value for name, value in vars(options).items()} | base.to_columns()
    values = {}
    for name, domain in space.items():
        middle = domain.grid(3)
        values[name] = columns[name] if columns.get(name) in domain else middle[len(middle) // 2]
    return values
