"""One phase on Ray Tune: its trials, their resources, and every event into the journal."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.exceptions import RayTaskError
from ray.tune.schedulers import TrialScheduler

from study import cluster, resources, searching
from study.config import StudyConfig, TaskName
from study.history import History
from study.journal import FAILED, FINISHED, STOPPED, Journal
from study.phases import SEARCH, Plan
from trainables import files
from trainables.errors import StorageError
from trainables.storage import CheckpointStore
from trainables.trainable import Shared, run_trial, trial_of
from trainables.trial import TrialConfig

CHECKPOINTS, TUNE_FOLDER, TRAIN_FOLDER = "checkpoints", "tune", "train"
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger(__name__)
logging.getLogger("ray.tune").setLevel(logging.ERROR)
logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # its list of failed trials, by ids that nobody knows


class Executor:
    """Runs the trials of a study's phases; what the journal says has ended is never run again."""

    def __init__(self, plan: Plan, folder: Path, journal: Journal, history: History) -> None:
        self.plan, self.journal, self.history = plan, journal, history
        self.config: StudyConfig = plan.config
        self._fits = itertools.count()
        self.storage = storage_of(self.config, folder, history.began)
        self.shared = Shared(
            datasets={name: ray.put(splits) for name, splits in plan.datasets.items()},
            checkpoints=f"{self.storage}/{CHECKPOINTS}",
            mark=CheckpointStore(f"{self.storage}/{CHECKPOINTS}").mark(),
            home=ray.get_runtime_context().get_node_id(),
            resources=resources.of_worker(self.config.resources),
            labels=self.config.resources.labels,
            train_storage=f"{self.storage}/{TRAIN_FOLDER}",
            simulate=self.config.simulate,
        )
        _quiet_tune()

    def run(self, trials: list[TrialConfig], name: str) -> None:
        """Run listed trials, all of one phase, that the journal does not know as ended."""
        self._run_listed(name, trials, self.shared)

    def search(self, *tasks: TaskName) -> None:
        """Search the hyperparameters of the tasks side by side, each with a searcher and a scheduler of its own."""
        plan, config = self.plan, self.config
        shared = replace(self.shared, objectives={task: plan.metric(task) for task in tasks})
        if config.search.scheduler == "pbt":  # a population asks after all trials of its experiment: one a task
            shared = replace(shared, population_based=True)
            for task in tasks:
                make = functools.partial(searching.population, config.space(task), config.grace_period)
                self._run_listed(f"{SEARCH}-{task}", plan.enumerated(task), shared, make)
        elif config.search.algorithm == "optuna":
            while self._search_by_tpe(tasks, shared):
                pass
        else:
            self._run_listed(SEARCH, [trial for task in tasks for trial in plan.enumerated(task)], shared, self._asha)

    def _search_by_tpe(self, tasks: Sequence[TaskName], shared: Shared) -> bool:
        """Run what is left of a search; return whether Tune has given up some of it."""
        shared = replace(shared, bases={task: self.plan.search_base(task) for task in tasks})
        ended = [record.trial for record in self.history.trials.values() if record.ended]
        searches = {task: searching.tpe(self.plan, self.history, task) for task in tasks}
        searcher = searching.TaskSearches(searches, shared.bases, ended)
        if not searcher.n_left:
            return False
        tuning = tune.TuneConfig(search_alg=searcher, num_samples=searcher.n_left, scheduler=self._asha())
        return self._fit(SEARCH, None, shared, tuning)

    def _run_listed(
        self,
        name: str,
        trials: Sequence[TrialConfig],
        shared: Shared,
        make_scheduler: Callable[[], TrialScheduler] = searching.InOrder,
    ) -> None:
        """Run the trials that the journal does not know as ended, until it knows all of them so."""
        while waiting := [trial for trial in trials if not self._ended(trial)]:
            tuning = tune.TuneConfig(scheduler=make_scheduler(), num_samples=len(waiting))
            if not self._fit(name, searching.one_after_another(waiting), shared, tuning):
                return

    def _asha(self) -> TrialScheduler:
        settings = self.config.search
        if settings.scheduler != "asha":
            return searching.InOrder()
        return searching.HalvingByTask(self.config.budget_steps, self.config.grace_period, settings.reduction_factor)

    def _fit(self, name: str, space: dict[str, Any] | None, shared: Shared, tuning: tune.TuneConfig) -> bool:
        """Run one Tune experiment; return whether Tune has given up trials that are to be run again."""
        config, workers = self.config, self.config.workers
        tuning.reuse_actors = True
        at_once = resources.check(config.resources, workers)
        if workers > 1:
            tuning.max_concurrent_trials = at_once
        recorder = _Recorder(self.journal, self.history, shared.bases)
        stopper = searching.ChanceStopper(config.chance_patience) if name.startswith(SEARCH) else None
        recorder.stopper = stopper
        trainable = tune.with_parameters(run_trial, shared=shared)
        scratch_folder = tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True)
        with files.storing(self.storage), scratch_folder as scratch, cluster.needed():
            # What Tune keeps to restore an experiment outgrows the journal tenfold; only states that trials hand to
            # one another have to lie where every node reaches them.
            place = f"{self.storage}/{TUNE_FOLDER}" if shared.population_based else scratch
            tune.Tuner(
                tune.with_resources(trainable, _reserved(config)),
                param_space=space,
                tune_config=tuning,
                run_config=tune.RunConfig(
                    name=f"{name}.{self.history.drivers}.{next(self._fits)}",  # Tune gets a new folder every time
                    storage_path=place,
                    callbacks=[recorder],
                    stop=stopper,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=config.max_failures),
                ),
            ).fit()
        return recorder.given_up

    def _ended(self, trial: TrialConfig) -> bool:
        record = self.history.trials.get(trial.trial_id)
        return record is not None and record.ended


def _reserved(config: StudyConfig) -> tune.PlacementGroupFactory:
    """Return what Tune reserves for a trial; a worker group reserves its own."""
    if config.workers > 1:
        return tune.PlacementGroupFactory([{"memory": 1}])  # a byte: Tune takes no trial that asks for nothing
    bundle, labels = resources.of_worker(config.resources), config.resources.labels
    if not labels:
        return tune.PlacementGroupFactory([bundle])
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=[labels])


def storage_of(config: StudyConfig, folder: Path, began: float) -> str:
    """Return where checkpoints and Tune's folders lie, as a URI or an absolute path: the study's folder by default.

    Elsewhere each study has a place of its own, named by when it began: one of the same name from another host, or
    from before `--fresh`, would find the other's checkpoints there and go on from them.
    """
    if config.storage is None:
        return str(folder.resolve())
    root = config.storage if "://" in config.storage else str(Path(config.storage).expanduser().resolve())
    return f"{root}/{config.name}/{datetime.fromtimestamp(began, UTC):%Y%m%d-%H%M%S-%f}"


class _Recorder(tune.Callback):
    """Writes what Tune reports into the journal, on the driver, as it arrives.

    A place that cannot be written, journal or checkpoints, is no outcome of a trial: nothing more is recorded, and the
    StorageError ends the phase.
    """

    def __init__(self, journal: Journal, history: History, bases: Mapping[str, TrialConfig]) -> None:
        self.journal, self.history, self.bases = journal, history, bases
        self.stopper: searching.ChanceStopper | None = None
        self.given_up = False  # whether Tune has ended trials that were not running
        self._ids: dict[str, str] = {}
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._last: dict[str, dict[str, Any]] = {}
        self._refused: StorageError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which only the journal does here."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial's start, or its new start after a failure."""
        config = trial_of(trial.config, self.bases)
        # Population-based training changes a configuration while its trial runs: the key is that of its start.
        key = self._ids.setdefault(trial.trial_id, config.trial_id)
        self._running.add(trial.trial_id)
        if key == config.trial_id:
            self._append("trial_started", trial_id=key, phase=config.phase, config=config.to_dict())

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        """Record a report."""
        if result.get("hopeless"):
            trial.max_failures = 0  # its error comes next, and would come again
            return
        key = self._ids[trial.trial_id]
        for problem in result.get("broken", ()):
            logger.warning("%s; going on with the one before", problem)
        self._last[key] = self._last.get(key, {}) | result  # final results come without a checkpoint of their own
        if result.get("facts") and not self.history.trials[key].facts:
            self._append("facts", trial_id=key, **result["facts"])
        reports = result.get("repeated", [])
        if result.get("metrics") is not None:
            reports = [{"step": result["step"], "metrics": result["metrics"]}]
        for report in reports:
            self._append("report", trial_id=key, **report)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial: finished if it has sent its final results, else stopped."""
        last = self._last.get(self._ids[trial.trial_id], {})
        if last.get("finished"):
            self._end(trial, FINISHED, "")
        else:
            chance = self.stopper.reasons.get(trial.trial_id) if self.stopper else None
            self._end(trial, STOPPED, chance or f"by the scheduler after {last.get('step', 0)} steps")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a trial waits for a new process; one that could not write waits for room and the next driver."""
        self._running.discard(trial.trial_id)
        self._refused = self._refused or _refusal(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a failure with its traceback, unless it is not the trial's own.

        Where Tune gives a trial the idle process of one that has ended, and that has died, Tune ends the trial whatever
        `max_failures` is. It is not recorded as failed, since it did not run.
        """
        self._refused = self._refused or _refusal(trial)
        if trial.trial_id not in self._running and self._ended:
            return
        if trial.trial_id not in self._ids:
            self.on_trial_start(iteration, trials, trial)
        reason = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "unknown error"
        self._end(trial, FAILED, TERMINAL_COLOURS.sub("", reason))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the phase where something cannot be written; from the other callbacks Tune lets no error through."""
        if self._refused:
            raise self._refused

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Find out whether trials are left to be run again; some has ended, so this comes to an end, too."""
        self.given_up = 0 < len(self._ended) < len(trials)

    def _append(self, event: str, **values: Any) -> None:
        if self._refused:
            return
        try:
            self.journal.append(event, **values)
        except StorageError as error:
            self._refused = error

    def _end(self, trial: Any, status: str, reason: str) -> None:
        self._ended.add(trial.trial_id)
        key = self._ids[trial.trial_id]
        last = self._last.pop(key, {})
        # Of each metric of each trial of a phase Tune keeps statistics, 70 kB a trial, that nobody here asks for.
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}
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
