"""Executor: runs the trials of a phase on Ray Tune and records every event in the journal."""

from __future__ import annotations

import functools
import itertools
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import TrialScheduler

from analysis.records import STOPPED, Report, TrialEnded, read
from analysis.records.phases import ABLATE, SEARCH
from study.config.names import TaskName
from study.config.schema import StudyConfig
from study.config.sections import AUTO
from study.execution import cluster, resources
from study.execution.journal import Journal
from study.execution.recorder import Recorder
from study.execution.search import (
    FIFOScheduler,
    PerTaskASHA,
    PerTaskSearcher,
    population,
    queued_groups,
    queued_trials,
    tpe,
)
from study.execution.stopping import ChanceStopper, DeadlineStopper
from study.plan.given_weights import weights_of
from study.plan.history import History
from study.plan.phases import Plan
from trainables import files, plugins
from trainables.data import Splits
from trainables.objective import WORST, as_objective
from trainables.ray_adapter.storage import CheckpointStore, below
from trainables.ray_adapter.trainable import Shared, run_trial
from trainables.training.fused import fusible_groups
from trainables.trial import TrialConfig

CHECKPOINTS, TUNE_FOLDER, TRAIN_FOLDER = "checkpoints", "tune", "train"
MOST_FUSED = 16  # trials in a group, with `fuse: auto`
INTERRUPTED = "after {} steps: the study was interrupted, and the state that it had taken from another trial is lost"

logger = logging.getLogger(__name__)
logging.getLogger("ray.tune").setLevel(logging.ERROR)
logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it lists failed trials by Tune's ids


class Executor:
    """Executor of the trials of a study's phases, except those that have ended according to the journal.

    Args:
        plan: Plan of the study.
        folder: The study's folder.
        journal: Where events are written.
        history: State of the study, which listens to the journal.

    Attributes:
        deadline: When all trials are stopped, in seconds since the epoch; what they have reported is kept, and they
            can be resumed.
    """

    def __init__(self, plan: Plan, folder: Path, journal: Journal, history: History) -> None:
        self.plan, self.journal, self.history = plan, journal, history
        self.config: StudyConfig = plan.config
        self.deadline = math.inf
        self._fit_numbers = itertools.count()
        self.storage = storage_of(self.config, folder, history.began)
        files = {} if self.config.simulate else weights_of(self.config)
        weights = {sha256: ray.put(tensors) for sha256, tensors in files.items()}
        self.shared = Shared(
            datasets={name: ray.put(_readable(splits)) for name, splits in plan.datasets.items()},
            checkpoints=below(self.storage, CHECKPOINTS),
            storage_token=CheckpointStore(below(self.storage, CHECKPOINTS)).write_token(),
            driver_node_id=ray.get_runtime_context().get_node_id(),
            resources=resources.of_worker(self.config.resources),
            labels=self.config.resources.labels,
            train_storage=below(self.storage, TRAIN_FOLDER),
            simulate=self.config.simulate,
            weights=weights,
            plugins=tuple(plugins.loaded(each.name) for each in self.config.plugins),
            compare_fused=self.config.resources.fuse == AUTO,
        )
        _quiet_tune()

    @property
    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return time.time() >= self.deadline

    def run(self, trials: list[TrialConfig], name: str) -> bool:
        """Run the listed trials that have not ended yet; return False if the deadline left some of them.

        Args:
            trials: Trials of one phase.
            name: Name of the phase.
        """
        # A phase that time may cut has complete seeds before others begin, so it is not grouped over its seeds.
        cut = name == ABLATE and math.isfinite(self.deadline)
        for block in _by_seed(trials) if cut and self._fuses else [trials]:
            if not self.out_of_time and (groups := self._groups(self._waiting(block))):
                tuning = tune.TuneConfig(scheduler=FIFOScheduler(), num_samples=len(groups))
                self._fit(name, queued_groups(groups), self.shared, tuning)
            self._run_listed(name, block, self.shared)
        return not self.out_of_time or not self._waiting(trials)

    @property
    def _fuses(self) -> bool:
        need = self.config.resources
        if self.config.simulate or (need.fuse == AUTO and not need.gpu):  # on a CPU, fused steps are slower
            return False
        return need.fuse != 1

    def _groups(self, trials: Sequence[TrialConfig]) -> list[list[TrialConfig]]:
        """Return the trials to train together, each group as one network; all others run alone."""
        if not self._fuses:
            return []
        trained, most = [trial for trial in trials if trial.trains], self.config.resources.fuse
        if most == AUTO:  # small enough groups that no slot is idle
            slots = resources.slots(self.config)
            most = min(MOST_FUSED, math.ceil(len(trained) / slots))
        return fusible_groups(trained, int(most))

    def end_stopped(self, phase: str) -> None:
        """Record the end of the trials of a phase that the deadline has stopped, so that they are not resumed."""
        for record in [record for record in self.history.of(phase) if not record.ended and self.out_of_time]:
            reason = f"by the end of the phase's time after {record.step} steps"
            trial_id = record.trial.trial_id
            self.journal.append(TrialEnded(trial_id=trial_id, status=STOPPED, reason=reason, steps=record.step))

    def search(self, *tasks: TaskName) -> None:
        """Search the hyperparameters of all tasks concurrently, each task with its own searcher and scheduler."""
        plan, config = self.plan, self.config
        shared = replace(self.shared, objectives={task: plan.metric(task) for task in tasks})
        if config.search.scheduler == "pbt":  # PBT compares all trials of an experiment, so each task needs its own
            shared = replace(shared, population_based=True)
            for task in tasks:
                make = functools.partial(population, plan.space(task), config.budget_steps, config.grace_period)
                self._run_listed(f"{SEARCH}-{task}", plan.enumerated(task), shared, make)
        elif config.search.algorithm == "optuna":
            searched = [task for task in tasks if plan.space(task)]  # a space without hyperparameters has one trial
            listed = [trial for task in tasks if task not in searched for trial in plan.enumerated(task)]
            self._run_listed(SEARCH, listed, shared, self._asha)
            while searched and not self.out_of_time and self._search_by_tpe(searched, shared):
                pass
        else:
            self._run_listed(SEARCH, [trial for task in tasks for trial in plan.enumerated(task)], shared, self._asha)

    def _search_by_tpe(self, tasks: Sequence[TaskName], shared: Shared) -> bool:
        """Run the rest of a search; return whether Tune has given up trials that must be run again."""
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
        """Run the trials that have not ended yet, until all of them have."""
        for part in _by_reservation(trials, self.config.workers):
            self._end_changed(part)
            while not self.out_of_time and (waiting := self._waiting(part)):
                tuning = tune.TuneConfig(scheduler=make_scheduler(), num_samples=len(waiting))
                if not self._fit(name, queued_trials(waiting), shared, tuning, trains=part[0].trains):
                    break
                self._end_changed(part)

    def _end_changed(self, trials: Sequence[TrialConfig]) -> None:
        """Record the end of interrupted trials that population-based training had given the states of others.

        Their own checkpoints are from before. Training on from them would join two curves in one.
        """
        records = [self.history.trials[each.trial_id] for each in trials if each.trial_id in self.history.trials]
        for record in [each for each in records if each.changed and not each.ended]:
            trial_id, reason = record.trial.trial_id, INTERRUPTED.format(record.step)
            self.journal.append(TrialEnded(trial_id=trial_id, status=STOPPED, reason=reason, steps=record.step))
            logger.warning("trial %s ends %s", trial_id, reason)

    def _asha(self) -> TrialScheduler:
        settings = self.config.search
        if settings.scheduler != "asha":
            return FIFOScheduler()
        scheduler = PerTaskASHA(self.config.budget_steps, self.config.grace_period, settings.reduction_factor)
        for trial, objectives in self._ended_searches():
            scheduler.recall(trial.trial_id, trial.task, objectives)
        return scheduler

    def _ended_searches(self) -> Iterator[tuple[TrialConfig, list[tuple[int, float]]]]:
        """Yield the trials of the search that have ended, each with the step and the objective of its reports."""
        ended = {record.trial.trial_id: record.trial for record in self.history.of(SEARCH) if record.ended}
        found: dict[str, list[tuple[int, float]]] = {trial_id: [] for trial_id in ended}
        for report in read(self.journal.path.parent, Report) if ended else ():
            if report.trial_id in ended:
                metric, mode = self.plan.metric(ended[report.trial_id].task)
                own = found[report.trial_id]
                last = own[-1][1] if own else WORST  # a report without the metric has the objective of the one before
                value = as_objective(report.metrics[metric], mode) if metric in report.metrics else last
                own.append((report.step, value))
        for trial_id, objectives in found.items():
            yield ended[trial_id], objectives

    def _fit(
        self, name: str, space: dict[str, Any] | None, shared: Shared, tuning: tune.TuneConfig, *, trains: bool = True
    ) -> bool:
        """Run one Tune experiment; return whether Tune has given up trials that must be run again."""
        config, workers = self.config, self.config.workers if trains else 1
        tuning.reuse_actors = True
        # With this limit, Tune starts the processes of a searcher's trials together, and an autoscaler sees no waiting
        # trials. Trials of one worker go without it where the cluster may gain nodes for them.
        if workers > 1 or config.storage is None or cluster.is_private():
            tuning.max_concurrent_trials = resources.slots(config, workers)
        stopper = ChanceStopper(config.chance_patience) if name.startswith(SEARCH) else None
        recorder = Recorder(self.journal, self.history, shared.bases, stopper)
        trainable = tune.with_parameters(run_trial, shared=shared)
        scratch_folder = tempfile.TemporaryDirectory(prefix="tune-", ignore_cleanup_errors=True)
        with files.storing(self.storage), scratch_folder as scratch, cluster.guard_cluster_loss():
            # Tune's own experiment state is ten times the size of the journal and is not kept. Only the states that
            # trials exchange (PBT) must be where every node can reach them.
            population = shared.population_based
            place = below(self.storage, TUNE_FOLDER) if population else scratch
            tune.Tuner(
                tune.with_resources(trainable, _reserved(config, trains=trains)),
                param_space=space,
                tune_config=tuning,
                run_config=tune.RunConfig(
                    name=f"{name}.{self.history.drivers}.{next(self._fit_numbers)}",  # a new folder for each experiment
                    storage_path=place,
                    callbacks=[recorder],
                    stop=tune.stopper.CombinedStopper(*filter(None, [stopper, DeadlineStopper(self.deadline)])),
                    verbose=0,
                    progress_reporter=tune.CLIReporter(),  # the one for notebooks clears what their cell has shown
                    checkpoint_config=tune.CheckpointConfig(num_to_keep=_states_kept(config) if population else None),
                    failure_config=tune.FailureConfig(max_failures=config.max_failures),
                ),
            ).fit()
        return recorder.given_up

    def _waiting(self, trials: Sequence[TrialConfig]) -> list[TrialConfig]:
        """Return those trials that have not ended according to the journal."""
        return [trial for trial in trials if not self.history.has_ended(trial.trial_id)]


def _states_kept(config: StudyConfig) -> int:
    """Return how many states of each trial population-based training needs: others copy one of its last interval."""
    return math.ceil(config.grace_period / config.report_every) + 2


def _readable(splits: Splits) -> Splits:
    """Return splits that every node can read: images stay in local files only if all trials run on this machine."""
    return splits if cluster.is_private() else splits.uncached()


def _by_seed(trials: Sequence[TrialConfig]) -> list[list[TrialConfig]]:
    """Return the trials of each seed, in the order in which the seeds occur."""
    blocks: dict[int, list[TrialConfig]] = {}
    for trial in trials:
        blocks.setdefault(trial.seed, []).append(trial)
    return list(blocks.values())


def _by_reservation(trials: Sequence[TrialConfig], workers: int) -> list[list[TrialConfig]]:
    """Return the trials that only probe, which run in one process, apart from those that several workers train."""
    parts = [[trial for trial in trials if trial.trains == trains] for trains in (False, True)]
    return [part for part in (parts if workers > 1 else [list(trials)]) if part]


def _reserved(config: StudyConfig, *, trains: bool) -> tune.PlacementGroupFactory:
    """Return what Tune reserves per trial; the workers of a trial that trains reserve their own resources."""
    if config.workers > 1 and trains:
        return tune.PlacementGroupFactory([{"memory": 1}])  # a byte, since Tune accepts no empty bundle
    bundle, labels = resources.of_worker(config.resources), config.resources.labels
    if not labels:
        return tune.PlacementGroupFactory([bundle])
    return tune.PlacementGroupFactory([bundle], bundle_label_selector=[labels])


def storage_of(config: StudyConfig, folder: Path, began: float) -> str:
    """Return the root of checkpoints and Tune's folders as a URI or an absolute path.

    It is the study's folder by default. In a `storage` that is configured, the study gets a subfolder named by the time
    at which it began. A study of the same name from another host, or from before `--fresh`, would otherwise resume from
    its checkpoints.

    Args:
        config: The study's configuration.
        folder: The study's folder.
        began: When the study was first started, in seconds since the epoch.
    """
    if config.storage is None:
        return str(folder.resolve())
    root = config.storage if "://" in config.storage else str(files.expanded(config.storage).resolve())
    return below(root, config.name, f"{datetime.fromtimestamp(began, UTC):%Y%m%d-%H%M%S-%f}")


def _quiet_tune() -> None:
    """Switch off Tune's own logs, tables and signal handlers; the journal is the record."""
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output prints a banner regardless of `verbose`
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_PRINT_ALL_TRIAL_ERRORS"] = "0"  # tracebacks are in the journal and in MLflow
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "inf"
    os.environ["TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S"] = "0"
    os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
