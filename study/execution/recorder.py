"""Recorder: writes what Tune reports to the journal, on the driver, as it arrives."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayTaskError

from analysis.records import FAILED, FINISHED, STOPPED, Event, Facts, Report, TrialChanged, TrialEnded, TrialStarted
from study.execution.journal import Journal
from study.execution.stopping import ChanceStopper
from study.plan.history import History
from trainables import files
from trainables.errors import CheckpointError, StorageError, last_line
from trainables.ray_adapter.messages import FinalResults, Replay, TrialReport, Unfused, Unrecoverable, from_result
from trainables.ray_adapter.trainable import trials_of
from trainables.trial import TrialConfig

NOT_FUSED = "%d trials are trained one by one, not as one network: %s"
TERMINAL_COLORS = re.compile(r"\x1b\[[0-9;]*m")

logger = logging.getLogger(__name__)


@dataclass
class _Progress:
    """Latest values sent by a trial that the record of its end will need."""

    step: int = 0
    wall_s: float = 0.0
    checkpoint: str = ""
    final: FinalResults | None = None


class Recorder(tune.Callback):
    """Tune callback that records starts, messages and ends of trials in the journal.

    A failed write of the journal or a checkpoint is not an outcome of the trial: nothing more is recorded, and the
    StorageError ends the phase.

    Args:
        journal: Where events are written.
        history: The state of the study, which listens to the journal.
        bases: Per task, the trial whose fields a sampled configuration replaces.
        stopper: The stopper of this experiment, whose reasons are recorded.

    Attributes:
        given_up: Whether Tune has ended trials that were not running; they have to be run again.
    """

    def __init__(
        self,
        journal: Journal,
        history: History,
        bases: Mapping[str, TrialConfig],
        stopper: ChanceStopper | None = None,
    ) -> None:
        self.journal, self.history, self.bases, self.stopper = journal, history, bases, stopper
        self.given_up = False
        self._members: dict[str, list[str]] = {}  # trial ids by Tune's own ids; several are trained as one network
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._progress: dict[str, _Progress] = {}
        self._storage_error: StorageError | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Tune pickles its callbacks to restore an experiment, which here only the journal does."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial's start, or its restart after a failure."""
        configs = trials_of(trial.config, self.bases)
        # Population-based training changes a running trial's configuration; its id stays the same.
        members = self._members.setdefault(trial.trial_id, [config.trial_id for config in configs])
        self._running.add(trial.trial_id)
        for trial_id, config in zip(members, configs, strict=True):
            if self.history.has_ended(trial_id):
                continue
            same = trial_id == config.trial_id
            self._append(TrialStarted.of(config) if same else TrialChanged(trial_id=trial_id, config=config))

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **info: Any) -> None:
        """Record a trial's message."""
        message = from_result(result)
        if isinstance(message, Unrecoverable):
            trial.max_failures = 0  # the error that follows would recur
            return
        for problem in message.damaged_checkpoints:
            logger.warning("%s", problem)
        members = self._members[trial.trial_id]
        if isinstance(message, Unfused):
            logger.warning(NOT_FUSED, len(members), message.reason)
            return
        trial_id = members[message.member]
        if self.history.has_ended(trial_id):
            return  # sent again by a group that has restarted
        progress = self._progress.setdefault(trial_id, _Progress())
        progress.step, progress.wall_s = message.step, result.get("time_total_s", 0.0) / len(members)
        if isinstance(message, TrialReport | Replay) and self.history.trials[trial_id].facts is None:
            self._append(Facts(trial_id=trial_id, **message.facts))
        match message:
            case TrialReport():
                progress.checkpoint = message.checkpoint
                self._append(Report(trial_id=trial_id, step=message.step, metrics=message.metrics))
            case Replay():
                for report in message.reports:
                    self._append(Report(trial_id=trial_id, **report))
            case FinalResults():
                progress.final = message
                if len(members) > 1:
                    self._end(trial_id, FINISHED, "")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record the end of a trial: finished if it has sent its final results, else stopped.

        Members of a group have ended with their final results; those without are run alone next.
        """
        self._forget(trial)
        if len(self._members[trial.trial_id]) > 1:
            return
        [trial_id] = self._members[trial.trial_id]
        progress = self._progress.get(trial_id, _Progress())
        if progress.final is not None:
            self._end(trial_id, FINISHED, "")
        else:
            reason = self.stopper.reasons.get(trial.trial_id) if self.stopper else None
            self._end(trial_id, STOPPED, reason or f"by the scheduler after {progress.step} steps")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Note that a trial waits for a new process, or, after a failed write, for the next driver."""
        self._running.discard(trial.trial_id)
        self._storage_error = self._storage_error or _storage_error_of(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a failure with its traceback, unless its cause is outside the trial.

        Tune reuses the processes of ended trials. If such a process has died, Tune ends the next trial that it was
        meant for, regardless of `max_failures`. That trial did not run and is not recorded as failed. Neither are the
        members of a group, which are run alone next.
        """
        self._storage_error = self._storage_error or _storage_error_of(trial)
        if trial.trial_id not in self._running and self._ended:
            return
        if trial.trial_id not in self._members:
            self.on_trial_start(iteration, trials, trial)
        self._forget(trial)
        reason = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else "unknown error"
        reason, members = TERMINAL_COLORS.sub("", reason), self._members[trial.trial_id]
        if len(members) == 1:
            self._end(members[0], FAILED, reason)
        else:
            logger.warning(NOT_FUSED, len(members), last_line(reason))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """End the phase if something could not be written; Tune swallows errors raised in the other callbacks."""
        if self._storage_error:
            raise self._storage_error

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Note whether trials must be run again; at least one must have ended, so that repetition terminates."""
        self.given_up = 0 < len(self._ended) < len(trials)

    def _append(self, event: Event) -> None:
        if self._storage_error:
            return
        try:
            self.journal.append(event)
        except StorageError as error:
            self._storage_error = error

    def _forget(self, trial: Any) -> None:
        """Note that Tune has ended a trial, and clear its statistics of every metric, 70 kB that nothing uses."""
        self._ended.add(trial.trial_id)
        trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps = {}, {}

    def _end(self, trial_id: str, status: str, reason: str) -> None:
        progress = self._progress.pop(trial_id, _Progress())
        self._append(
            TrialEnded(
                trial_id=trial_id,
                status=status,
                reason=reason,
                steps=progress.step,
                wall_s=progress.wall_s,
                results=progress.final.results if progress.final else {},
                per_image=progress.final.per_image if progress.final else {},
                checkpoint=progress.checkpoint,
            )
        )


def _storage_error_of(trial: Any) -> StorageError | None:
    """Return the StorageError that made a trial fail, if any: its error or one of the causes.

    A checkpoint that is missing or damaged is one, too: with the file restored, the trial runs.
    """
    if not trial.pickled_error_file:
        return None
    found: list[Any] = [ray.cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())]
    for error in found:
        if isinstance(error, RayTaskError):  # also an instance of its cause's class, with a traceback as its message
            found.append(error.cause)
        elif isinstance(error, StorageError):
            return error
        elif isinstance(error, CheckpointError):  # the trial runs once it is restored
            return StorageError(str(error))
        elif isinstance(error, OSError) and error.errno in files.NO_ROOM:
            return files.storage_error(error, "a node's disk")
        else:  # a worker group's error contains its workers' errors, each wrapped with its traceback
            found += getattr(error, "worker_failures", {}).values()
            found += [error._base_exc] if hasattr(error, "_base_exc") else []
    return None
