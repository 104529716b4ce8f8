"""MLflow runs from journal events: one study run, one run per phase, and under each phase the runs of its trials.

Every operation is idempotent: an existing run is continued, and no point is stored twice: its time is the journal's.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric

from analysis.data.frames import chance_of_probes
from analysis.data.mlflow_names import from_mlflow, in_mlflow, is_chance_level
from analysis.data.per_image import PER_IMAGE_ARTIFACT
from analysis.data.study import Study
from analysis.records import (
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
    TrialChanged,
    TrialEnded,
    TrialEvent,
    TrialStarted,
)
from analysis.records.layout import (
    CONFIG_FILE,
    CURVES_FILE,
    EFFECTS_FILE,
    FIGURES,
    RECOMMENDED_FILE,
    REPORT_FILE,
    RUNS_FILE,
    VERDICTS_FILE,
)
from analysis.records.phases import OUTCOME_FILE
from study.tracking import metadata, notes
from study.tracking.notes import NOTE
from study.tracking.outbox import Outbox
from study.tracking.state import TrackingState, milliseconds
from study.tracking.store import STUDY, check_active, experiment_id_of, find_runs
from study.tracking.summaries import Summary, comparison_metric, phase_summary, study_summary
from study.tracking.views import study_views
from trainables import plugins
from trainables.trial import ONLINE_PROBES, is_baseline

STUDY_FILES = (
    *(CONFIG_FILE, RUNS_FILE, CURVES_FILE, VERDICTS_FILE, EFFECTS_FILE),
    *(RECOMMENDED_FILE, REPORT_FILE, FIGURES, plugins.FOLDER),
)
# An early stop is a regular end of a run; `pretext.status` keeps the difference.
RUN_STATUS = {FINISHED: "FINISHED", STOPPED: "FINISHED", FAILED: "FAILED", KILLED: "KILLED"}
PARENT = "mlflow.parentRunId"


class RunWriter:
    """Writer of one study's events as runs. Call `apply` with events in the journal's order, then `flush`.

    Methods raise MlflowException, SQLAlchemyError or OSError if the store is unreachable.

    Args:
        client: Client of the store.
        study: The event with which the driver of the next events began.
        state: Updated as runs are created and end; the caller saves it.

    Attributes:
        summarize: Phases that have ended and have not been summarized.
    """

    def __init__(self, client: MlflowClient, study: StudyStarted, state: TrackingState) -> None:
        self.summarize: set[str] = set()
        state.last = state.last or state.journal
        self._client = client
        self._study = study
        self._state = state
        self._outbox = Outbox(client)
        self._levels: dict[str, dict[str, float]] = {}  # chance levels of trials that have not ended, by key
        self._logged_params: dict[str, Container[str]] = {}  # params that continued runs already have, by key
        if state.clean:
            client.get_run(state.runs[STUDY])  # raises if the store has been emptied since
            check_active(client.get_experiment(state.experiment_id))
        else:
            state.experiment_id = experiment_id_of(client, study.study)
            state.runs |= find_runs(client, state)

    @property
    def points(self) -> int:
        """Number of metric values sent."""
        return self._outbox.points

    @property
    def refused(self) -> int:
        """Number of calls that MLflow refused permanently, each logged as a warning."""
        return self._outbox.refused

    def apply(self, event: Event) -> None:
        """Write one event, or keep it for the next batch."""
        self._state.last = milliseconds(event)
        match event:
            case StudyStarted():
                self._study_started(event)
            case PhaseStarted():
                self._phase_started(event)
            case TrialStarted():
                self._trial_started(event)
            case TrialChanged():  # params of MLflow cannot change
                changed = {name: str(value) for name, value in event.config.to_columns().items()}
                self._outbox.add_tags(self._state.runs[_trial_key(event)], {"pretext.changed": json.dumps(changed)})
            case Facts():
                self._add_params(_trial_key(event), metadata.facts_params(event))
                self._add_levels(_trial_key(event), event.chance)
            case Report():
                self._add_metrics(_trial_key(event), milliseconds(event), event.step, metadata.numbers(event.metrics))
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
        self._outbox.flush()

    def close_abandoned(self, *, study_too: bool) -> None:
        """End every run left RUNNING by a dead driver as KILLED, at the time of its last event."""
        for key, last in list(self._state.open.items()):
            if study_too or key != STUDY:
                self._end(key, KILLED, last, {"pretext.reason": "the driver ended before this run did"})

    def add_summaries(self, study: Study, headline: str) -> None:
        """Summarize the phases that have ended, and after the study's end the study, with its saved views.

        Args:
            study: The study up to now.
            headline: The report's first sentences, in markdown; empty without a report.
        """
        if self._state.ended:
            self._summarize(STUDY, study_summary(study, headline), notes.study_note(self._study))
            self._save_views(study)
        for phase in self.summarize if not self._state.ended else study.outcomes:
            self._summarize(_phase_key(phase), phase_summary(study, phase, self._study.objectives))
        self.summarize = set()

    def log_artifacts(self, folder: Path, files: Iterable[str]) -> int:
        """Store the named files and folders of `folder` that have changed; return the number of files stored."""
        stored = 0
        for path in _files(folder, files):
            name, status = path.relative_to(folder), path.stat()
            stamp = f"{status.st_size} {status.st_mtime_ns}"
            if self._state.artifacts.get(name.as_posix()) == stamp:
                continue
            where = None if name.parent == Path() else name.parent.as_posix()
            if self._outbox.store(self._client.log_artifact, self._state.runs[STUDY], str(path), where):
                stored += 1
            if name.as_posix() == VERDICTS_FILE:
                self._tag_verdicts(path)
            self._state.artifacts[name.as_posix()] = stamp
        return stored

    def _study_started(self, event: StudyStarted) -> None:
        self._study = event
        self._state.ended = False
        self._begin(STUDY, event, name=event.study, tags={NOTE: notes.study_note(event)})
        self._add_params(STUDY, metadata.study_params(event.config))

    def _phase_started(self, event: PhaseStarted | TrialStarted) -> None:
        phase = event.phase
        tags = {"pretext.phase": phase, "phase": phase, NOTE: notes.phase_note(self._study, phase)}
        self._begin(_phase_key(phase), event, name=phase, tags=tags)

    def _trial_started(self, event: TrialStarted) -> None:
        trial, key, phase = event.config, _trial_key(event), _phase_key(event.phase)
        if phase not in self._state.runs:
            self._phase_started(event)
        tags = {NOTE: notes.trial_note(trial), **metadata.trial_tags(event.trial_id, trial)}
        self._begin(key, event, name=metadata.trial_name(trial), tags=tags, parent=phase)
        levels = chance_of_probes(trial.dataset, {}, self._study.datasets)
        self._add_params(key, {name: str(value) for name, value in (trial.to_columns() | levels).items()})
        if trial.budget_steps and not trial.init_from and not is_baseline(trial.task):  # the others have no curves
            self._add_levels(key, {name.removeprefix("chance/"): level for name, level in levels.items()})
        if inputs := metadata.dataset_inputs(self._study, trial):
            self._outbox.call(self._client.log_inputs, self._state.runs[key], inputs)

    def _trial_ended(self, event: TrialEnded) -> None:
        key, time, steps = _trial_key(event), milliseconds(event), event.steps or 0
        totals = {"steps": event.steps, "wall_s": event.wall_s}
        self._add_metrics(key, time, steps, metadata.numbers({**event.results, **totals}, only_finite=True))
        if steps:
            self._add_metrics(key, time, steps, self._levels_of(key))
        if event.status == FAILED and event.reason:
            self._outbox.store(self._client.log_text, self._state.runs[key], event.reason, "error.txt")
        if event.per_image:
            content = json.dumps(event.per_image)
            self._outbox.store(self._client.log_text, self._state.runs[key], content, PER_IMAGE_ARTIFACT)
        tags = {"pretext.reason": metadata.short_reason(event.reason)}
        self._end(_trial_key(event), event.status, milliseconds(event), tags)

    def _phase_ended(self, event: PhaseEnded) -> None:
        key = _phase_key(event.phase)
        if event.outcome:
            content = json.dumps(event.outcome, indent=1)
            self._outbox.store(self._client.log_text, self._state.runs[key], content, OUTCOME_FILE)
        self.summarize |= {event.phase}
        self._end(key, FINISHED, milliseconds(event), {})

    def _summarize(self, key: str, summary: Summary, note: str = "") -> None:
        if (run_id := self._state.runs.get(key)) is None:
            return
        stored = self._client.get_run(run_id).data.metrics
        new = {name: value for name, value in summary.metrics.items() if stored.get(in_mlflow(name)) != value}
        text = f"{summary.note}\n\n{note}".strip()
        self._outbox.add_tags(self._state.runs[key], metadata.simulated_tags(self._study, {NOTE: text}))
        self._add_metrics(key, self._state.last, 0, new)
        self._outbox.send(run_id)

    def _levels_of(self, key: str) -> dict[str, float]:
        """Return and forget a trial's chance levels, which MLflow knows if an earlier process added them."""
        if key in self._levels:
            return self._levels.pop(key)
        run = self._client.get_run(self._state.runs[key]).data
        known = {from_mlflow(name, run.tags): value for name, value in run.metrics.items()}
        return {name: value for name, value in known.items() if is_chance_level(name)}

    def _save_views(self, study: Study) -> None:
        online, mode = next(iter(self._study.objectives.values()), (ONLINE_PROBES[0], "max"))
        journal, last = self._state.journal, self._state.last
        views = study_views(study.runs, comparison_metric(study), online, mode=mode, journal=journal)
        for view in views:
            if self._outbox.call(self._client.set_experiment_tag, self._state.experiment_id, *view.tag(last)):
                self._state.views[view.name] = view.query

    def _begin(self, key: str, event: Event, *, name: str, tags: dict[str, str], parent: str = "") -> None:
        """Create a run, or continue the existing one under its current name."""
        own = {"pretext.kind": key.partition("/")[0], "pretext.status": "RUNNING"}
        tags = {**metadata.common_tags(self._study, self._state.journal), **tags, **own}
        tags = metadata.simulated_tags(self._study, tags)
        start = milliseconds(event)
        if key not in self._state.runs:
            if parent:
                tags[PARENT] = self._state.runs[parent]
            run = self._client.create_run(self._state.experiment_id, start_time=start, tags=tags, run_name=name)
            self._state.runs[key] = run.info.run_id
        else:
            self._outbox.add_tags(self._state.runs[key], tags | {"pretext.reason": ""})
            self._outbox.call(self._client.update_run, self._state.runs[key], "RUNNING", name)
            data = self._client.get_run(self._state.runs[key]).data
            self._logged_params[key] = data.params
            if not parent and PARENT in data.tags:  # an earlier version put phases under their study
                self._outbox.call(self._client.delete_tag, self._state.runs[key], PARENT)
        self._state.open[key] = start

    def _end(self, key: str, status: str, end: int, tags: dict[str, str]) -> None:
        self._outbox.add_tags(self._state.runs[key], tags | {"pretext.status": status})
        self._outbox.send(self._state.runs[key])
        self._outbox.call(self._client.set_terminated, self._state.runs[key], RUN_STATUS.get(status, "FAILED"), end)
        self._state.open.pop(key, None)

    def _add_params(self, key: str, params: dict[str, str]) -> None:
        """Keep params for the next batch, except those that the run already has.

        MLflow refuses to change a value, which an earlier version may have spelled differently.
        """
        logged = self._logged_params.get(key, ())
        new = {name: value for name, value in params.items() if in_mlflow(name) not in logged}
        self._outbox.add_params(self._state.runs[key], new)

    def _add_metrics(self, key: str, time: int, step: int, values: Mapping[str, float]) -> None:
        metrics = [Metric(name, value, time, step) for name, value in values.items()]
        self._outbox.add_metrics(self._state.runs[key], metrics)

    def _add_levels(self, key: str, chance: Mapping[str, float]) -> None:
        """Add chance levels at step 0; they are added again at the trial's end, so that charts show them as lines."""
        levels = metadata.chance_metrics(chance)
        self._levels.setdefault(key, {}).update(levels)
        self._add_metrics(key, self._state.journal, 0, levels)

    def _tag_verdicts(self, path: Path) -> None:
        """Tag every trial run that has a verdict with it."""
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                run_id = self._state.runs.get(f"trial/{row.get('trial_id')}")
                if run_id and row.get("verdict"):
                    self._outbox.call(self._client.set_tag, run_id, "verdict", row["verdict"])


def _files(folder: Path, names: Iterable[str]) -> list[Path]:
    found = []
    for path in (folder / name for name in names):
        found += sorted(path.rglob("*")) if path.is_dir() else [path]
    return [path for path in found if path.is_file()]


def _phase_key(phase: str) -> str:
    return f"phase/{phase}"


def _trial_key(event: TrialEvent) -> str:
    return f"trial/{event.trial_id}"
