"""MLflow runs from journal events: one study run, its phase runs, their trial runs.

Every operation is idempotent: an existing run is continued, and no point is stored twice, since its time comes from the
journal rather than the clock.
"""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from analysis.data.frames import chance_of_probes
from analysis.data.per_image import PER_IMAGE_ARTIFACT
from analysis.records import (
    CONFIG_FILE,
    FAILED,
    FINISHED,
    KILLED,
    STOPPED,
    Event,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from analysis.records.phases import OUTCOME_FILE
from study.tracking import metadata
from study.tracking.state import TrackingState, milliseconds
from study.tracking.store import STUDY, UNREACHABLE, experiment_id_of, find_runs, is_refusal
from trainables.errors import without_secrets

logger = logging.getLogger(__name__)

STUDY_FILES = (
    *(CONFIG_FILE, "runs.parquet", "curves.parquet", "verdicts.csv", "effects.csv"),
    *("recommended.yaml", "report.html", "figures"),
)
# An early stop is a regular end of a run; `pretext.status` keeps the difference.
RUN_STATUS = {FINISHED: "FINISHED", STOPPED: "FINISHED", FAILED: "FAILED", KILLED: "KILLED"}
MOST_METRICS, MOST_PARAMS = 1000, 100  # MLflow's limits per batch


@dataclass
class _Pending:
    """Data still to be sent to one run."""

    metrics: list[Metric] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class RunWriter:
    """Writer of one study's events as runs. Call `apply` with events in the journal's order, then `flush`.

    Methods raise MlflowException, SQLAlchemyError or OSError if the store is unreachable.

    Args:
        client: Client of the store.
        study: The journal's first event.
        state: Updated as runs are created and end; the caller saves it.

    Attributes:
        points: Number of metric values sent.
        refused: Number of calls that MLflow refused permanently, each logged as a warning.
    """

    def __init__(self, client: MlflowClient, study: StudyStarted, state: TrackingState) -> None:
        self.points = 0
        self.refused = 0
        self._client = client
        self._study = study
        self._state = state
        self._pending: dict[str, _Pending] = {}
        self._logged_params: dict[str, Container[str]] = {}  # params that continued runs already have, by key
        if state.clean:
            client.get_run(state.runs[STUDY])  # raises if the store has been emptied since
        else:
            state.experiment_id = experiment_id_of(client, study.study)
            state.runs |= find_runs(client, state)

    def apply(self, event: Event) -> None:
        """Write one event, or keep it for the next batch."""
        match event:
            case StudyStarted():
                self._study_started(event)
            case PhaseStarted():
                self._phase_started(event)
            case TrialStarted():
                self._trial_started(event)
            case Facts():
                self._add_params(_trial_key(event), metadata.facts_params(event))
            case Report():
                self._add_metrics(event, event.step, metadata.numbers(event.metrics))
                self._state.open[_trial_key(event)] = milliseconds(event)
            case TrialEnded():
                self._trial_ended(event)
            case PhaseEnded():
                self._phase_ended(event)
            case StudyEnded():
                self.close_abandoned(study_too=False)
                self._end(STUDY, event.status, milliseconds(event), {})
                self._state.ended = True

    def flush(self) -> None:
        """Send everything that `apply` has kept."""
        for run_id in list(self._pending):
            self._send(run_id)

    def close_abandoned(self, *, study_too: bool) -> None:
        """End every run left RUNNING by a dead driver as KILLED, at the time of its last event."""
        for key, last in list(self._state.open.items()):
            if study_too or key != STUDY:
                self._end(key, KILLED, last, {"pretext.reason": "the driver ended before this did"})

    def log_artifacts(self, folder: Path, files: Iterable[str]) -> int:
        """Store the named files and folders of `folder` that have changed; return the number of files stored."""
        stored = 0
        for path in _files(folder, files):
            name, status = path.relative_to(folder), path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
            if self._state.artifacts.get(name.as_posix()) == stamp:
                continue
            where = None if name.parent == Path() else name.parent.as_posix()
            if self._try(self._client.log_artifact, self._state.runs[STUDY], str(path), where):
                stored += 1
            if name.as_posix() == "verdicts.csv":
                self._tag_verdicts(path)
            self._state.artifacts[name.as_posix()] = stamp
        return stored

    def _study_started(self, event: StudyStarted) -> None:
        self._study = event
        self._state.ended = False
        tags = {"pretext.kind": "study", metadata.NOTE: metadata.study_note(event)}
        self._begin(STUDY, event, name=event.study, tags=tags, parent="")
        self._add_params(STUDY, metadata.study_params(event.config))

    def _phase_started(self, event: PhaseStarted | TrialStarted) -> None:
        phase = event.phase
        tags = {"pretext.kind": "phase", "pretext.phase": phase, metadata.NOTE: metadata.phase_note(self._study, phase)}
        self._begin(_phase_key(phase), event, name=phase, tags=tags, parent=STUDY)

    def _trial_started(self, event: TrialStarted) -> None:
        trial, key, phase = event.config, _trial_key(event), _phase_key(event.phase)
        if phase not in self._state.runs:
            self._phase_started(event)
        tags = {
            "pretext.kind": "trial",
            metadata.NOTE: metadata.trial_note(trial),
            **metadata.trial_tags(event.trial_id, trial),
        }
        self._begin(key, event, name=metadata.trial_name(trial), tags=tags, parent=phase)
        params = trial.to_columns() | chance_of_probes(trial.dataset, {}, self._study.datasets)
        self._add_params(key, {name: str(value) for name, value in params.items()})
        if inputs := metadata.dataset_inputs(self._study, trial):
            self._try(self._client.log_inputs, self._state.runs[key], inputs)

    def _trial_ended(self, event: TrialEnded) -> None:
        totals = {name: getattr(event, name) for name in ("steps", "wall_s")}
        self._add_metrics(event, event.steps or 0, metadata.numbers({**event.results, **totals}, only_finite=True))
        if event.status == FAILED and event.reason:
            self._try(self._client.log_text, self._state.runs[_trial_key(event)], event.reason, "error.txt")
        if event.per_image:
            content = json.dumps(event.per_image)
            self._try(self._client.log_text, self._state.runs[_trial_key(event)], content, PER_IMAGE_ARTIFACT)
        tags = {"pretext.reason": metadata.short_reason(event.reason)}
        self._end(_trial_key(event), event.status, milliseconds(event), tags)

    def _phase_ended(self, event: PhaseEnded) -> None:
        key, note = _phase_key(event.phase), metadata.phase_note(self._study, event.phase, event.outcome)
        if event.outcome:
            content = json.dumps(event.outcome, indent=1)
            self._try(self._client.log_text, self._state.runs[key], content, OUTCOME_FILE)
        self._end(key, FINISHED, milliseconds(event), metadata.simulated_tags(self._study, {metadata.NOTE: note}))

    def _begin(self, key: str, event: Event, *, name: str, tags: dict[str, str], parent: str) -> None:
        """Create a run, or continue the existing one."""
        tags = {**metadata.common_tags(self._study, self._state.journal), **tags, "pretext.status": "RUNNING"}
        tags = metadata.simulated_tags(self._study, tags)
        start = milliseconds(event)
        if key not in self._state.runs:
            if parent:
                tags["mlflow.parentRunId"] = self._state.runs[parent]
            run = self._client.create_run(self._state.experiment_id, start_time=start, tags=tags, run_name=name)
            self._state.runs[key] = run.info.run_id
        else:
            self._waiting(key).tags.update(tags | {"pretext.reason": ""})
            self._try(self._client.update_run, self._state.runs[key], "RUNNING")
            self._logged_params[key] = self._client.get_run(self._state.runs[key]).data.params
        self._state.open[key] = start

    def _end(self, key: str, status: str, end: int, tags: dict[str, str]) -> None:
        self._waiting(key).tags.update(tags | {"pretext.status": status})
        self._send(self._state.runs[key])
        self._try(self._client.set_terminated, self._state.runs[key], RUN_STATUS.get(status, "FAILED"), end)
        self._state.open.pop(key, None)

    def _add_params(self, key: str, params: dict[str, str]) -> None:
        """Keep params for the next batch, except those that the run already has.

        MLflow refuses to change a value, which an earlier version may have spelled differently.
        """
        logged = self._logged_params.get(key, ())
        new = {name: value for name, value in params.items() if metadata.valid_name(name) not in logged}
        self._waiting(key).params.update(new)

    def _add_metrics(self, event: TrialEvent, step: int, values: dict[str, float]) -> None:
        time = milliseconds(event)
        metrics = [Metric(metadata.valid_name(name), value, time, step) for name, value in values.items()]
        self._waiting(_trial_key(event)).metrics.extend(metrics)

    def _tag_verdicts(self, path: Path) -> None:
        """Tag every trial run that has a verdict with it."""
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                run_id = self._state.runs.get(f"trial/{row.get('trial_id')}")
                if run_id and row.get("verdict"):
                    self._try(self._client.set_tag, run_id, "pretext.verdict", row["verdict"])

    def _waiting(self, key: str) -> _Pending:
        return self._pending.setdefault(self._state.runs[key], _Pending())

    def _send(self, run_id: str) -> None:
        """Send everything kept for one run, metrics apart from params, so that a refused param loses no curve."""
        pending = self._pending.pop(run_id, _Pending())
        params = [Param(metadata.valid_name(name), value) for name, value in pending.params.items()]
        tags = [RunTag(name, value) for name, value in pending.tags.items()]
        for start in range(0, max(len(params), len(tags)), MOST_PARAMS):
            chunk = slice(start, start + MOST_PARAMS)
            self._try(self._client.log_batch, run_id, params=params[chunk], tags=tags[chunk])
        for start in range(0, len(pending.metrics), MOST_METRICS):
            metrics = pending.metrics[start : start + MOST_METRICS]
            if self._try(self._client.log_batch, run_id, metrics=metrics):
                self.points += len(metrics)

    def _try(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Make a call; return False if MLflow refuses it permanently, so that the calls after it are still made."""
        try:
            call(*args, **kwargs)
        except UNREACHABLE as error:
            if not is_refusal(error):
                raise
            self.refused += 1
            name = getattr(call, "__name__", "call")
            logger.warning(
                "MLflow refused %s for run %s, which is skipped: %s", name, args[0], without_secrets(str(error))
            )
            return False
        return True


def _files(folder: Path, names: Iterable[str]) -> list[Path]:
    found = []
    for path in (folder / name for name in names):
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def _phase_key(phase: str) -> str:
    return f"phase/{phase}"


def _trial_key(event: TrialEvent) -> str:
    return f"trial/{event.trial_id}"
