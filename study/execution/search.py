"""How a search looks: a searcher, a scheduler and a stopper that hold each task's trials against its own alone.

Tune searches one space by one metric. A phase searches every task at once, so that no slot waits for the last trial of
another task; what follows here deals each task's trials to a searcher and a scheduler of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
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
from study.config.schema import TaskName
from study.plan.history import History
from study.plan.phases import Plan
from trainables.chance import clears_chance
from trainables.errors import ConfigError
from trainables.objective import OBJECTIVE, as_objective
from trainables.ray_adapter.trainable import trial_of
from trainables.tasks import TASKS, build_options
from trainables.trial import TrialConfig

MOST_ATTEMPTS = 50  # at a configuration that a task has not had yet
MUTATED = ("lr", "weight_decay", "augmentation_strength")  # what PBT may change while a trial runs


class PerTaskSearcher(Searcher):
    """One searcher a task, asked in turn: a configuration is that of the task's searcher, with `task` in it.

    No configuration is suggested twice: a trial is its configuration, so it would be the same trial.

    searches: of each task, its searcher and how many trials are left to it.
    bases: of each task, the trial whose fields a configuration replaces.
    known: trials that the study has had.
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
        self._asked: dict[str, tuple[TaskName, str]] = {}  # by trial: its task, and its name with the task's searcher

    @property
    def n_left(self) -> int:
        """How many trials are still to be suggested."""
        return sum(self._left.values())

    def suggest(self, trial_id: str) -> Any:
        """Return the next configuration of the task with the most trials left; Searcher.FINISHED after the last."""
        while self._left:
            task = max(self._left, key=self._left.__getitem__)
            config = self._new(task, trial_id)
            self._left[task] -= 1
            if config is None or not self._left[task]:
                del self._left[task]
            if config is not None:
                return config
        return Searcher.FINISHED

    def _new(self, task: TaskName, trial_id: str) -> dict[str, Any] | None:
        """Return a configuration that the task has not had, None where its searcher finds no more."""
        for attempt in range(MOST_ATTEMPTS):
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
        """Tell the task's searcher how a trial ended."""
        task, name = self._asked[trial_id]
        self._searchers[task].on_trial_complete(name, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Write nothing: what a search knows is read from the journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, as nothing was written."""


def tpe(plan: Plan, history: History, task: TaskName) -> tuple[OptunaSearch, int]:
    """Return Optuna's TPE, told what the journal knows of the task, and how many trials are left to run."""
    settings, space = plan.config.search, plan.config.space(task)
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
        space=OptunaSearch.convert_search_space(_tune_space(space)),
        metric=OBJECTIVE,
        mode="max",
        points_to_evaluate=first,
        sampler=sampler,
    )
    metric, mode = plan.metric(task)
    for record in known:
        value = record.value(metric)
        if value == value and record.status != FAILED:
            searcher.add_evaluated_point(_values(record.trial, space), as_objective(value, mode))
    return searcher, settings.num_samples - len(known)


def queued_trials(trials: Iterable[TrialConfig]) -> dict[str, Any]:
    """Return the search space of which each sample is the next of these trials.

    A grid of them would be the same, but for every trial Tune copies the whole grid.
    """
    waiting = iter(trials)
    return {"trial": tune.sample_from(lambda spec: next(waiting).to_dict())}


class FIFOScheduler(schedulers.FIFOScheduler):
    """Tune's own order of trials, first come, first served, whatever the number of those that have ended.

    At every event Tune asks which trial to start next, and its own scheduler looks through all that there ever were.
    """

    def __init__(self) -> None:
        super().__init__()
        self._alive: dict[str, Any] = {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial, or one that is to be run again, at the end of the queue."""
        self._alive.pop(trial.trial_id, None)
        self._alive[trial.trial_id] = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the first trial that waits to be started, else the first that is paused, else None."""
        self._alive = {key: trial for key, trial in self._alive.items() if not trial.is_finished()}
        for status in (Trial.PENDING, Trial.PAUSED):
            for trial in self._alive.values():
                if trial.status == status:
                    return trial
        return None


class PerTaskASHA(FIFOScheduler):
    """ASHA (Li 2018, 1810.05934) among the trials of each task.

    max_t: the budget in steps, at whose end no trial is stopped, since nothing is left to be saved.
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

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial of its task."""
        super().on_trial_add(tune_controller, trial)
        self._of(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return what becomes of the trial after this result."""
        action = self._of(trial).on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result["step"] >= self._max_t else action

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Let a trial that came to its end count for its task."""
        self._of(trial).on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that never ran."""
        self._of(trial).on_trial_remove(tune_controller, trial)

    def _of(self, trial: Any) -> AsyncHyperBandScheduler:
        task = trial.config.get("trial", trial.config)["task"]
        if task not in self._by_task:
            self._by_task[task] = self._make()
        return self._by_task[task]


def population(space: Space, grace_period: int) -> TrialScheduler:
    """Return population-based training (Jaderberg 2017, 1711.09846) that mutates what may change while a trial runs.

    Raises ConfigError where nothing in the space may.
    """
    mutations = {name: tune_domain(domain) for name, domain in space.items() if name in MUTATED}
    if not mutations:
        raise ConfigError(f"search.scheduler = 'pbt' needs one of {', '.join(MUTATED)} in search.space")
    return PopulationBasedTraining(
        time_attr="step",
        metric=OBJECTIVE,
        mode="max",
        perturbation_interval=grace_period,
        hyperparam_mutations={"trial": mutations},
        custom_explore_fn=functools.partial(_clipped, domains={name: space[name] for name in mutations}),
    )


class ChanceStopper(tune.Stopper):
    """Stops a trial whose primary metric has not cleared chance within `patience` steps; 0 never stops one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.reasons: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._cleared: set[str] = set()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether to stop the trial after this result."""
        facts, metrics = result.get("facts"), result.get("metrics") or {}
        if not self.patience or not facts:
            return False
        if earlier := result.get("repeated"):  # the whole curve of a trial that goes on from its checkpoint
            self._looks.pop(trial_id, None)
            return [self._at_chance(trial_id, facts, **report) for report in earlier][-1]
        return bool(metrics) and self._at_chance(trial_id, facts, result["step"], metrics)

    def _at_chance(self, trial_id: str, facts: Mapping[str, Any], step: int, metrics: Mapping[str, float]) -> bool:
        if trial_id in self._cleared or not step:
            return False
        name = facts["primary_metric"]
        look = self._looks[trial_id] = self._looks.get(trial_id, 0) + 1
        value, chance = metrics[name], facts["chance"][name]
        error = metrics.get(f"{name}_se")
        if clears_chance(
            value, chance, facts["n_validation"], mode=facts["primary_mode"], standard_error=error, look=look
        ):
            self._cleared.add(trial_id)
            return False
        if step < self.patience:
            return False
        self.reasons[trial_id] = (
            f"at chance after {step} steps: {name} {value:.4f}, chance {chance:.4f}, "
            f"{facts['n_validation']} predictions"
        )
        return True

    def stop_all(self) -> bool:
        """Return False: one trial at chance says nothing of the others."""
        return False


def _clipped(config: dict[str, Any], domains: Space) -> dict[str, Any]:
    """Bring what population-based training has multiplied back into its domain."""
    for name, domain in domains.items():
        value = config["trial"][name]
        if value not in domain:
            config["trial"][name] = min((abs(known - value), known) for known in domain.grid(2))[1]
    return config


def tune_domain(domain: Domain) -> Any:
    """Return a domain as Tune samples from it."""
    match domain:
        case Uniform():
            return tune.uniform(domain.low, domain.high)
        case LogUniform():
            return tune.loguniform(domain.low, domain.high)
        case Choice():
            return tune.choice(list(domain.values))
    raise TypeError(f"{type(domain).__name__}: Tune's domain for it is not known here")


def _tune_space(space: Space) -> dict[str, Any]:
    """Return a search space as Tune spells it: `option/NAME` nested."""
    nested: dict[str, Any] = {}
    for name, domain in space.items():
        kind, _, inner = name.rpartition("/")
        (nested.setdefault(kind, {}) if kind else nested)[inner] = tune_domain(domain)
    return nested


def _values(trial: TrialConfig, space: Space) -> dict[str, Any]:
    """Return a trial's values of the searched hyperparameters, by name."""
    columns = trial.to_columns()
    return {name: columns[name] for name in space}


def default_values(task: TaskName, base: TrialConfig, space: Space) -> dict[str, Any]:
    """Return where a search begins: the default configuration, and the middle of a domain that excludes its value."""
    options = build_options(TASKS[task], dict(base.options))
    columns = {f"option/{name}": value for name, value in vars(options).items()} | base.to_columns()
    values = {}
    for name, domain in space.items():
        middle = domain.grid(3)
        values[name] = columns[name] if columns.get(name) in domain else middle[len(middle) // 2]
    return values
