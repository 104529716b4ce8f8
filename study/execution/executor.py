"""One phase on Ray Tune: its trials, their resources, and every event into the journal."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from analysis.records.phases import SEARCH
from study.config.schema import StudyConfig, TaskName
from study.execution import cluster, resources
from study.execution.journal import Journal
from study.execution.recorder import Recorder
from study.execution.search import (
    ChanceStopper,
    FIFOScheduler,
    PerTaskASHA,
    PerTaskSearcher,
    population,
    queued_trials,
    tpe,
)
from study.plan.history import History
from study.plan.phases import Plan
from trainables import files
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import Shared, run_trial
from trainables.trial import TrialConfig

CHECKPOINTS, TUNE_FOLDER, TRAIN_FOLDER = "checkpoints", "tune", "train"

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
            storage_token=CheckpointStore(f"{self.storage}/{CHECKPOINTS}").leave_token(),
            driver_node_id=ray.get_runtime_context().get_node_id(),
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
                make = functools.partial(population, config.space(task), config.grace_period)
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
        searches = {task: tpe(self.plan, self.history, task) for task in tasks}
        searcher = PerTaskSearcher(searches, shared.bases, ended)
        if not searcher.n_left:
            return False
        tuning = tune.TuneConfig(search_alg=searcher, num_samples=searcher.n_left, scheduler=self._asha())
        return self._fit(SEARCH, None, shared, tuning)

    def _run_listed(
        self,
        name: str,
        trials: Sequence[TrialConfig],
        shared: Shared,
        make_scheduler: Callable[[], TrialScheduler] = FIFOScheduler,
    ) -> None:
        """Run the trials that the journal does not know as ended, until it knows all of them so."""
        while waiting := [trial for trial in trials if not self._ended(trial)]:
            tuning = tune.TuneConfig(scheduler=make_scheduler(), num_samples=len(waiting))
            if not self._fit(name, queued_trials(waiting), shared, tuning):
                return

    def _asha(self) -> TrialScheduler:
        settings = self.config.search
        if settings.scheduler != "asha":
            return FIFOScheduler()
        return PerTaskASHA(self.config.budget_steps, self.config.grace_period, settings.reduction_factor)

    def _fit(self, name: str, space: dict[str, Any] | None, shared: Shared, tuning: tune.TuneConfig) -> bool:
        """Run one Tune experiment; return whether Tune has given up trials that are to be run again."""
        config, workers = self.config, self.config.workers
        tuning.reuse_actors = True
        at_once = resources.check(config.resources, workers)
        if workers > 1:
            tuning.max_concurrent_trials = at_once
        recorder = Recorder(self.journal, self.history, shared.bases)
        stopper = ChanceStopper(config.chance_patience) if name.startswith(SEARCH) else None
        recorder.stopper = stopper
        trainable = tune.with_parameters(run_trial, shared=shared)
        scratch_folder = tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True)
        with files.storing(self.storage), scratch_folder as scratch, cluster.guard_cluster_loss():
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
