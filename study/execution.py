"""One phase on Ray Tune: searcher, scheduler, resources, and every event into the journal."""

from __future__ import annotations

import functools
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import AsyncHyperBandScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from search_spaces import Space
from study.config import StudyConfig, TaskName
from study.history import History
from study.journal import FAILED, FINISHED, STOPPED, Journal
from study.phases import SEARCH, Plan
from trainables import files
from trainables.chance import clears_chance
from trainables.errors import ConfigError, StorageError
from trainables.tasks import TASKS, build_options
from trainables.trainable import OBJECTIVE, Shared, run_trial, trial_of
from trainables.trial import TrialConfig

CHECKPOINTS, TUNE_FOLDER, TRAIN_FOLDER = "checkpoints", "tune", "train"
MUTATED = ("lr", "weight_decay", "augmentation_strength")  # what PBT may change while a trial runs

logger = logging.getLogger(__name__)

TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

logging.getLogger("ray.tune").setLevel(logging.ERROR)


class Executor:
    """Runs the trials of a study's phases; what the journal says has ended is never run again."""

    def __init__(self, plan: Plan, folder: Path, journal: Journal, history: History) -> None:
        self.plan, self.journal, self.history = plan, journal, history
        self.config: StudyConfig = plan.config
        self.storage = storage_of(self.config, folder)
        self.shared = Shared(
            datasets={name: ray.put(splits) for name, splits in plan.datasets.items()},
            checkpoints=f"{self.storage}/{CHECKPOINTS}",
            cpus=self.config.resources.cpu,
            gpus=self.config.resources.gpu,
            train_storage=f"{self.storage}/{TRAIN_FOLDER}",
            max_failures=self.config.max_failures,
            simulate=self.config.simulate,
        )
        _quiet_tune()

    def run(self, trials: list[TrialConfig], name: str) -> None:
        """Run listed trials, all of one phase, that the journal does not know as ended."""
        waiting = [trial for trial in trials if not self._ended(trial)]
        if waiting:
            space = {"trial": tune.grid_search([trial.to_dict() for trial in waiting])}
            self._fit(name, space, self.shared, tune.TuneConfig(scheduler=None))

    def search(self, task: TaskName) -> None:
        """Search one task's hyperparameters."""
        metric, mode = self.plan.metric(task)
        shared = replace(self.shared, metric=metric, mode=mode)
        settings = self.config.search
        name = f"{SEARCH}-{task}"
        if settings.algorithm == "optuna" and settings.scheduler != "pbt":
            shared = replace(shared, base=self.plan.search_base(task))
            searcher, samples = self._tpe(task, mode)
            if samples > 0:
                tuning = tune.TuneConfig(search_alg=searcher, num_samples=samples, scheduler=self._scheduler(mode))
                self._fit(name, None, shared, tuning)
            return
        waiting = [trial for trial in self.plan.enumerated(task) if not self._ended(trial)]
        if not waiting:
            return
        space = {"trial": tune.grid_search([trial.to_dict() for trial in waiting])}
        scheduler = self._scheduler(mode)
        if settings.scheduler == "pbt":
            shared = replace(shared, population_based=True)
            scheduler = self._population(mode, self.config.space(task))
        self._fit(name, space, shared, tune.TuneConfig(scheduler=scheduler))

    def _fit(self, name: str, space: dict[str, Any] | None, shared: Shared, tuning: tune.TuneConfig) -> None:
        config, workers = self.config, self.config.workers
        tuning.reuse_actors = True
        if name.startswith(SEARCH):
            tuning.metric, tuning.mode = (None, None) if tuning.scheduler else (OBJECTIVE, shared.mode)
        resources: dict[str, float] = {"cpu": config.resources.cpu, "gpu": config.resources.gpu}
        if workers > 1:
            # The CPUs are the worker group's; a byte, since Tune does not take a trial that asks for nothing.
            resources = {"cpu": 0, "memory": 1}
            tuning.max_concurrent_trials = self._worker_groups()
        recorder = _Recorder(self.journal, self.history, shared.base)
        stopper = ChanceStopper(config.chance_patience) if name.startswith(SEARCH) else None
        recorder.stopper = stopper
        trainable = tune.with_parameters(run_trial, shared=shared)
        scratch_folder = tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True)
        with files.storing(self.storage), scratch_folder as scratch:
            # What Tune keeps to restore an experiment outgrows the journal tenfold; only states that trials hand to
            # one another have to lie where every node reaches them.
            place = f"{self.storage}/{TUNE_FOLDER}" if shared.population_based else scratch
            tune.Tuner(
                tune.with_resources(trainable, resources),
                param_space=space,
                tune_config=tuning,
                run_config=tune.RunConfig(
                    name=f"{name}.{self.history.drivers}",  # Tune gets a new folder from every driver
                    storage_path=place,
                    callbacks=[recorder],
                    stop=stopper,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=config.max_failures if workers == 1 else 0),
                ),
            ).fit()

    def _tpe(self, task: TaskName, mode: str) -> tuple[OptunaSearch, int]:
        """Return Optuna's TPE, told what the journal knows, and how many trials are left to run."""
        settings, space = self.config.search, self.config.space(task)
        records = self.history.of(SEARCH, task)
        running = [_values(record.trial, space) for record in records if not record.ended]
        known = [record for record in records if record.ended]
        first = running if records else [_default_values(task, self.plan.search_base(task), space)]
        sampler = optuna.samplers.TPESampler(
            seed=self.config.seed + len(records),
            n_startup_trials=min(10, max(4, settings.num_samples // 3)),
            multivariate=True,
        )
        searcher = OptunaSearch(
            space=OptunaSearch.convert_search_space(_tune_space(space)),
            metric=OBJECTIVE,
            mode=mode,
            points_to_evaluate=first,
            sampler=sampler,
        )
        metric, _ = self.plan.metric(task)
        for record in known:
            value = record.value(metric)
            if value == value and record.status != FAILED:
                searcher.add_evaluated_point(_values(record.trial, space), value)
        return searcher, settings.num_samples - len(known)

    def _scheduler(self, mode: str) -> TrialScheduler | None:
        if self.config.search.scheduler != "asha":
            return None
        return _SuccessiveHalving(
            time_attr="step",
            metric=OBJECTIVE,
            mode=mode,
            max_t=self.config.budget_steps,
            grace_period=self.config.grace_period,
            reduction_factor=self.config.search.reduction_factor,
            stop_last_trials=False,
        )

    def _population(self, mode: str, space: Space) -> TrialScheduler:
        mutations = {name: domain.sampled() for name, domain in space.items() if name in MUTATED}
        if not mutations:
            raise ConfigError(f"search.scheduler = 'pbt' needs one of {', '.join(MUTATED)} in search.space")
        return PopulationBasedTraining(
            time_attr="step",
            metric=OBJECTIVE,
            mode=mode,
            perturbation_interval=self.config.grace_period,
            hyperparam_mutations={"trial": mutations},
            custom_explore_fn=functools.partial(_clipped, domains={name: space[name] for name in mutations}),
        )

    def _worker_groups(self) -> int:
        """Return how many worker groups fit the cluster at once. Raises ConfigError where not even one does."""
        need, have = self.config.resources, ray.cluster_resources()
        workers = self.config.workers
        fits = [have.get("CPU", 0) // (workers * need.cpu)]
        if need.gpu:
            fits.append(have.get("GPU", 0) // (workers * need.gpu))
        if min(fits) < 1:
            raise ConfigError(
                f"workers = {workers} of {need.cpu} CPU and {need.gpu} GPU each need more than the cluster has "
                f"({have.get('CPU', 0):g} CPU, {have.get('GPU', 0):g} GPU); use fewer workers"
            )
        return int(min(fits))

    def _ended(self, trial: TrialConfig) -> bool:
        record = self.history.trials.get(trial.trial_id)
        return record is not None and record.ended


def storage_of(config: StudyConfig, folder: Path) -> str:
    """Return where checkpoints and Tune's folders lie, as a URI or an absolute path: the study's folder by default."""
    if config.storage is None:
        return str(folder.resolve())
    root = config.storage if "://" in config.storage else str(Path(config.storage).expanduser().resolve())
    return f"{root}/{config.name}"


class _SuccessiveHalving(AsyncHyperBandScheduler):
    """ASHA (Li 2018, 1810.05934) that stops no trial at the end of its budget, where nothing is left to be saved."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return what becomes of the trial after this result."""
        action = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if result["step"] >= self._max_t else action


class ChanceStopper(tune.Stopper):
    """Stops a trial whose primary metric has not cleared chance within `patience` steps; 0 never stops one."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.reasons: dict[str, str] = {}
        self._looks: dict[str, int] = {}
        self._cleared: set[str] = set()

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Return whether to stop the trial after this result."""
        facts, metrics = result.get("facts"), result.get("metrics")
        if not self.patience or not facts or not metrics or trial_id in self._cleared or not result["step"]:
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
        if result["step"] < self.patience:
            return False
        self.reasons[trial_id] = (
            f"at chance after {result['step']} steps: {name} {value:.4f}, chance {chance:.4f}, "
            f"{facts['n_validation']} predictions"
        )
        return True

    def stop_all(self) -> bool:
        """Return False: one trial at chance says nothing of the others."""
        return False


class _Recorder(tune.Callback):
    """Writes what Tune reports into the journal, on the driver, as it arrives.

    A place that cannot be written, journal or checkpoints, is no outcome of a trial: nothing more is recorded, and the
    StorageError ends the phase.
    """

    def __init__(self, journal: Journal, history: History, base: TrialConfig | None) -> None:
        self.journal, self.history, self.base = journal, history, base
        self.stopper: ChanceStopper | None = None
        self._ids: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._refused: StorageError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which only the journal does here."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial's start, or its new start after a failure."""
        config = trial_of(trial.config, self.base)
        # Population-based training changes a configuration while its trial runs: the key is that of its start.
        key = self._ids.setdefault(trial.trial_id, config.trial_id)
        if key == config.trial_id:
            self._append("trial_started", trial_id=key, phase=config.phase, config=config.to_dict())

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        """Record a report."""
        key = self._ids[trial.trial_id]
        for problem in result.get("broken", ()):
            logger.warning("%s; going on with the one before", problem)
        self._last[key] = self._last.get(key, {}) | result  # final results come without a checkpoint of their own
        if result.get("facts") and not self.history.trials[key].facts:
            self._append("facts", trial_id=key, **result["facts"])
        if result.get("metrics") is not None:
            self._append("report", trial_id=key, step=result["step"], metrics=result["metrics"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial: finished if it has sent its final results, else stopped."""
        last = self._last.get(self._ids[trial.trial_id], {})
        if last.get("finished"):
            self._end(trial, FINISHED, "")
        else:
            chance = self.stopper.reasons.get(trial.trial_id) if self.stopper else None
            self._end(trial, STOPPED, chance or f"by the scheduler after {last.get('step', 0)} steps")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a failure with its traceback, unless it is not the trial's own."""
        self._refused = self._refused or _refusal(trial)
        if trial.trial_id not in self._ids:
            self.on_trial_start(iteration, trials, trial)
        reason = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "unknown error"
        self._end(trial, FAILED, TERMINAL_COLOURS.sub("", reason))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Leave a trial that could not write its checkpoint to the next driver: trying at once finds no more room."""
        self._refused = self._refused or _refusal(trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the phase where something cannot be written; from the other callbacks Tune lets no error through."""
        if self._refused:
            raise self._refused

    def _append(self, event: str, **values: Any) -> None:
        if self._refused:
            return
        try:
            self.journal.append(event, **values)
        except StorageError as error:
            self._refused = error

    def _end(self, trial: Any, status: str, reason: str) -> None:
        key = self._ids[trial.trial_id]
        last = self._last.get(key, {})
        self._append(
            "trial_ended",
            trial_id=key,
            status=status,
            reason=reason,
            steps=last.get("step", 0),
            wall_s=last.get("time_total_s", 0.0),
            results=last.get("results", {}),
            checkpoint=last.get("saved_to", ""),
        )


def _refusal(trial: Any) -> StorageError | None:
    """Return what a trial could not write, where that is what it failed of: the error itself or one that caused it."""
    if not trial.pickled_error_file:
        return None
    found: list[Any] = [ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())]
    for error in found:
        if isinstance(error, RayTaskError):  # is of its cause's class, too, and its message a traceback
            found.append(error.cause)
        elif isinstance(error, StorageError):
            return error
        elif isinstance(error, OSError) and error.errno in files.NO_ROOM:
            return files.storage_error(error, "a node's disk")
        else:  # a worker group's error holds those of its workers, each wrapped with its traceback
            found += getattr(error, "worker_failures", {}).values()
            found += [error._base_exc] if hasattr(error, "_base_exc") else []
    return None


def _clipped(config: dict[str, Any], domains: Space) -> dict[str, Any]:
    """Bring what population-based training has multiplied back into its domain."""
    for name, domain in domains.items():
        value = config["trial"][name]
        if value not in domain:
            config["trial"][name] = min((abs(known - value), known) for known in domain.grid(2))[1]
    return config


def _tune_space(space: Space) -> dict[str, Any]:
    """Return a search space as Tune spells it: `option/NAME` nested."""
    nested: dict[str, Any] = {}
    for name, domain in space.items():
        kind, _, inner = name.rpartition("/")
        (nested.setdefault(kind, {}) if kind else nested)[inner] = domain.sampled()
    return nested


def _values(trial: TrialConfig, space: Space) -> dict[str, Any]:
    """Return a trial's values of the searched hyperparameters, by name."""
    columns = trial.to_columns()
    return {name: columns[name] for name in space}


def _default_values(task: TaskName, base: TrialConfig, space: Space) -> dict[str, Any]:
    """Return where a search begins: the default configuration, and the middle of a domain that excludes its value."""
    options = build_options(TASKS[task], dict(base.options))
    columns = {f"option/{name}": value for name, value in vars(options).items()} | base.to_columns()
    values = {}
    for name, domain in space.items():
        middle = domain.grid(3)
        values[name] = columns[name] if columns.get(name) in domain else middle[len(middle) // 2]
    return values


def _quiet_tune() -> None:
    """Keep Tune from writing its own logs, tables and signal handlers: the journal is the record."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output prints a banner whatever `verbose` says
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # tracebacks, which the journal and MLflow keep
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
