"""Recorder: writes what Tune reports into the journal, on the driver, as it arrives."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from analysis.records import FAILED, FINISHED, STOPPED
from study.execution import search
from study.execution.journal import Journal
from study.plan.history import History
from trainables import files
from trainables.errors import StorageError
from trainables.ray_adapter.trainable import trial_of
from trainables.trial import TrialConfig

TERMINAL_COLORS = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger(__name__)


class Recorder(tune.Callback):
    """Writes what Tune reports into the journal, on the driver, as it arrives.

    A place that cannot be written, journal or checkpoints, is no outcome of a trial: nothing more is recorded, and the
    StorageError ends the phase.
    """

    def __init__(self, journal: Journal, history: History, bases: Mapping[str, TrialConfig]) -> None:
        self.journal, self.history, self.bases = journal, history, bases
        self.stopper: search.ChanceStopper | None = None
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
        self._end(trial, FAILED, TERMINAL_COLORS.sub("", reason))

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
