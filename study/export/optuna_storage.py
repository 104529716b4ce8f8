"""The search of a study as Optuna studies in a SQLite file, for optuna-dashboard and Optuna's own functions."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from analysis import records
from analysis.data.tables import LAST
from analysis.records import FAILED, FINISHED, STOPPED, Report, StudyStarted, TrialEnded, TrialEvent, TrialStarted
from analysis.records.phases import SEARCH
from search_spaces import Space
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.plan.distributions import distribution
from study.plan.history import History, TrialRecord
from trainables import files, plugins
from trainables.errors import ConfigError

STATES = {FINISHED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED, FAILED: TrialState.FAIL, None: TrialState.RUNNING}


def export_optuna(folder: Path, path: Path) -> dict[str, int]:
    """Write the search trials of each task to a new SQLite file, as one Optuna study `NAME/TASK` each.

    A trial has its searched hyperparameters as params, the metric of the search at each report as intermediate values,
    the last of them as its value, and its whole configuration, its last metrics (`last/METRIC`) and its final results
    as user attributes. A trial that was stopped early is PRUNED, one that has not ended RUNNING, and one without a
    finite value FAIL.

    Args:
        folder: The study's folder.
        path: The file to write.

    Returns:
        Number of trials by the name of the Optuna study.

    Raises:
        ConfigError: The file exists, or the study has no search trial.
        StorageError: The file cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{path} exists; delete it, or name another file with --output")
    nothing = ConfigError(f"{folder} has no search trial yet; run the study first")
    if (began := records.started(folder)) is None:
        raise nothing
    plugins.load_recorded(began.config.get("plugins") or [], folder)
    config, history = check_config(began.config), History.read(folder)
    trials = {task: history.of(SEARCH, task) for task in config.tasks}
    if not any(trials.values()):
        raise nothing
    with files.storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}{files.PARTIAL}", dir=path.parent) as place:
            whole = Path(place, path.name)
            counts = _write(whole, folder, began, config, trials)
            whole.rename(path)  # a reader finds all studies or no file
    return counts


def _write(
    path: Path, folder: Path, began: StudyStarted, config: StudyConfig, trials: Mapping[str, list[TrialRecord]]
) -> dict[str, int]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}")
    events, counts = _events(folder), {}
    for task, own in trials.items():
        metric, mode = began.objectives[task]
        name = f"{began.study}/{task}"
        direction = StudyDirection.MINIMIZE if mode == "min" else StudyDirection.MAXIMIZE
        study = optuna.create_study(storage=storage, study_name=name, direction=direction)
        with warnings.catch_warnings():  # Optuna calls names of metrics experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([metric])
        for key in ("dataset", "n_images", "budget_steps"):
            study.set_user_attr(key, getattr(config, key))
        space = config.space(task)
        study.add_trials([_frozen(record, space, metric, events[record.trial.trial_id]) for record in own])
        counts[name] = len(own)
    storage.engine.dispose()
    return counts


def _events(folder: Path) -> Mapping[str, list[TrialEvent]]:
    """Return the events of each trial, in their order."""
    found: dict[str, list[TrialEvent]] = defaultdict(list)
    for event in records.read(folder, TrialEvent):
        found[event.trial_id].append(event)
    return found


def _frozen(record: TrialRecord, space: Space, metric: str, events: list[TrialEvent]) -> FrozenTrial:
    columns = record.trial.to_columns()
    params = {name: columns[name] for name, domain in space.items() if name in columns and columns[name] in domain}
    curve = {
        event.step: event.metrics[metric]
        for event in events
        if isinstance(event, Report) and math.isfinite(event.metrics.get(metric, math.nan))
    }
    value, state = record.value(metric), STATES.get(record.status, TrialState.FAIL)
    if state is TrialState.COMPLETE and not math.isfinite(value):
        state = TrialState.FAIL
    keeps_value = state in (TrialState.COMPLETE, TrialState.PRUNED) and math.isfinite(value)
    trial = create_trial(
        state=state,
        value=value if keeps_value else None,
        params=params,
        distributions={name: distribution(space[name]) for name in params},
        intermediate_values=curve,
        user_attrs=_attributes(record),
    )
    trial.datetime_start = datetime.fromtimestamp(next(each.time for each in events if isinstance(each, TrialStarted)))
    if state.is_finished():
        ends = [each.time for each in events if isinstance(each, TrialEnded)]
        trial.datetime_complete = datetime.fromtimestamp(ends[-1])
    return trial


def _attributes(record: TrialRecord) -> dict[str, Any]:
    """Return the trial's configuration and last metrics; Optuna stores them as JSON, which has no NaN."""
    metrics = {f"{LAST}{name}": value for name, value in record.metrics.items()} | dict(record.results)
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return {"trial_id": record.trial.trial_id, **record.trial.to_columns(), **finite, "reason": record.reason}
