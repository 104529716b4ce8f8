"""Frames: a journal as two tidy tables, `runs` with one row per trial and `curves` with one row per point."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis import records
from analysis.data.parquet import write_frame
from analysis.data.per_image import per_image_frame
from analysis.records import Event, Facts, Report, StudyStarted, TrialChanged, TrialEnded, TrialStarted
from analysis.records.layout import CURVES_FILE, PER_IMAGE_FILE, RUNS_FILE
from trainables import spelling
from trainables.errors import UserError
from trainables.trial import ONLINE_PROBES, WRITTEN_IF_SET, TrialConfig

RUNNING = "RUNNING"  # status of a trial that has not ended; the journal records the other statuses
NOT_ENDED = (RUNNING, records.KILLED)  # a trial that was interrupted can be resumed
RESPELLED_COLUMNS = ("option/", "augmentation/")  # open columns that earlier versions may have named differently

_FIELD_DTYPES = {"str": "str", "int": "int64", "float": "float64", "int | None": "Int64"}
_CONFIG_DTYPES = {
    field.name: "str" if str(field.type).startswith("tuple") else _FIELD_DTYPES[str(field.type)]
    for field in dataclasses.fields(TrialConfig)
    if field.name not in ("augmentation", "options")  # they have a column per entry
}
SET_DTYPES = {name: _CONFIG_DTYPES.pop(name) for name, _ in WRITTEN_IF_SET}  # columns of `runs` if a trial sets them
_FIRST = {
    "trial_id": "str",
    "study": "str",
    **{name: _CONFIG_DTYPES[name] for name in ("phase", "task", "cell", "seed")},
    "status": "str",
    **{
        name: _CONFIG_DTYPES[name]
        for name in ("dataset", "n_images", "encoder", "lr", "batch_size", "weight_decay", "augmentation_strength")
    },
    "budget_steps": "int64",
    "steps": "int64",
    "samples_seen": "int64",
    "wall_s": "float64",
    "images_per_s": "float64",
    "primary_metric": "str",
    "primary_mode": "str",
    "chance": "float64",
    "n_validation": "Int64",
    "n_validation_images": "Int64",
    "n_queries": "Int64",
    "largest_class": "float64",
    "n_train": "Int64",
    "reason": "str",
    "checkpoint": "str",
}
RUN_DTYPES = {**_FIRST, **{name: dtype for name, dtype in _CONFIG_DTYPES.items() if name not in _FIRST}}
CURVE_DTYPES = {"trial_id": "str", "step": "int64", "metric": "str", "value": "float64"}


class FrameBuilder:
    """Collects trials and reports one by one, from the journal or from MLflow, and builds both frames at the end."""

    def __init__(self) -> None:
        self._trials: dict[str, dict[str, Any]] = {}
        self._reported: set[tuple[str, int]] = set()
        self._last_step: dict[str, int] = {}
        self._report_trials: list[str] = []
        self._report_steps: list[int] = []
        self._report_sizes: list[int] = []
        self._metrics: list[str] = []
        self._values: list[float] = []

    def trial(self, trial_id: str, **columns: Any) -> None:
        """Set columns of a trial's row, which is created if there is none yet."""
        self._trials.setdefault(trial_id, {"trial_id": trial_id, "status": RUNNING}).update(columns)

    def report(self, trial_id: str, step: int, metrics: Mapping[str, float]) -> None:
        """Add the points of one report; a second report of the same trial and step is ignored."""
        if (trial_id, step) in self._reported:
            return
        self._reported.add((trial_id, step))
        self._last_step[trial_id] = max(step, self._last_step.get(trial_id, 0))
        self._report_trials.append(trial_id)
        self._report_steps.append(step)
        self._report_sizes.append(len(metrics))
        self._metrics.extend(metrics)
        self._values.extend(metrics.values())

    def build(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return `(runs, curves)`."""
        curves = self._curves()
        rows = [self._row(trial) for trial in self._trials.values()]
        return _runs(rows, curves), curves

    def _row(self, trial: dict[str, Any]) -> dict[str, Any]:
        steps = trial.get("steps")
        if steps is None:  # a running trial: the steps that it has reported
            steps = self._last_step.get(trial["trial_id"], 0)
        return {**trial, "steps": steps, "samples_seen": steps * trial["batch_size"]}

    def _curves(self) -> pd.DataFrame:
        trials = np.repeat(np.array(self._report_trials, dtype=object), self._report_sizes)
        columns = {
            "trial_id": pd.Series(trials, dtype="str"),
            "step": np.repeat(np.array(self._report_steps, dtype=np.int64), self._report_sizes),
            "metric": pd.Series(self._metrics, dtype="str"),
            "value": np.array(self._values, dtype=np.float64),
        }
        return pd.DataFrame(columns)


def frames(events: Iterable[Event]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Convert the events of a journal to the frames `(runs, curves)`.

    Args:
        events: Events in the order in which they were written.

    Returns:
        runs: One row per trial, in the order in which the trials first started; resuming a trial adds no row. The
            columns are RUN_DTYPES, then `option/NAME` and `augmentation/OP` of the trial, `chance/METRIC` (the value of
            each metric for a model that has learned nothing) and the results, among them `probe/DATASET/linear`,
            `probe/DATASET/knn` and `probe/DATASET/chance` (1 / number of classes). A trial that has not ended has
            status RUNNING and no `wall_s`. `samples_seen` counts images, steps x batch_size; `images_per_s` is the mean
            of that curve.
        curves: One row per point in the order of the reports, with the columns CURVE_DTYPES.
    """
    builder = FrameBuilder()
    study = ""
    datasets: Mapping[str, dict[str, Any]] = {}
    for event in events:
        match event:
            case Report():
                builder.report(event.trial_id, event.step, event.metrics)
            case TrialStarted():
                levels = chance_of_probes(event.config.dataset, {}, datasets)
                columns = event.config.to_columns() | levels
                builder.trial(event.trial_id, study=study, status=RUNNING, reason="", **columns)
            case TrialChanged():
                builder.trial(event.trial_id, **event.config.to_columns())
            case Facts():
                builder.trial(event.trial_id, **_facts(event))
            case TrialEnded():
                levels = chance_of_probes(None, event.results, datasets)
                builder.trial(event.trial_id, **_ending(event) | levels)
            case StudyStarted():
                study, datasets = event.study, event.datasets
    return builder.build()


def chance_of_probes(
    trained_on: str | None, results: Mapping[str, Any], datasets: Mapping[str, dict[str, Any]]
) -> dict[str, float]:
    """Return the chance level of each probe of a trial: 1 / number of classes, for data sets where that is known.

    Args:
        trained_on: Data set of the online probes, whose levels are `chance/probe/linear` and `chance/probe/knn`.
        results: Results of the final probes, whose levels are `probe/DATASET/chance`.
        datasets: `n_classes` or `class_names` by name of the data set.
    """
    levels: dict[str, float] = {}
    for name, info in datasets.items():
        n_classes = info.get("n_classes") or len(info.get("class_names") or ())
        if n_classes and name == trained_on:
            levels |= {f"chance/{probe}": 1 / n_classes for probe in ONLINE_PROBES}
        if n_classes and any(key.startswith(f"probe/{name}/") for key in results):
            levels[f"probe/{name}/chance"] = 1 / n_classes
    return levels


def current_column(name: str) -> str:
    """Return the current name of a column that an earlier version may have written under another one."""
    return spelling.current(name) if name.startswith(RESPELLED_COLUMNS) else name


def with_current_columns(runs: pd.DataFrame) -> pd.DataFrame:
    """Return a `runs` frame of an earlier version with the current names of its options, ops and cells.

    Facts that it did not record have empty columns.
    """
    runs = runs.rename(columns=current_column).assign(cell=runs["cell"].map(spelling.current).astype("str"))
    added = {name: dtype for name, dtype in RUN_DTYPES.items() if name not in runs and dtype != "int64"}
    empty = {name: _typed([None] * len(runs), dtype).set_axis(runs.index) for name, dtype in added.items()}
    known = [name for name in RUN_DTYPES if name in runs or name in empty]
    return runs.assign(**empty)[[*known, *(name for name in runs if name not in RUN_DTYPES)]]


def export(folder: Path) -> None:
    """Write `runs.parquet`, `curves.parquet` and, if there is any content, `per_image.parquet` from a study's journal.

    Each file is replaced as a whole. It records the length of the journal that it was made from, so that
    `analysis.load` can recognize an outdated file.

    Raises:
        UserError: If `folder` has no journal.
        StorageError: If a file cannot be written.
    """
    path = folder / records.JOURNAL_FILE
    if not path.is_file():
        raise UserError(
            f"{folder} has no {records.JOURNAL_FILE}: nothing to export; name the folder that a study wrote"
        )
    size = path.stat().st_size  # taken before reading: what a driver appends later makes the files outdated
    runs, curves = frames(records.read(folder))
    write_frame(runs, folder / RUNS_FILE, size)
    write_frame(curves, folder / CURVES_FILE, size)
    if len(per_image := per_image_frame(folder)):
        write_frame(per_image, folder / PER_IMAGE_FILE, size)


def _facts(event: Facts) -> dict[str, Any]:
    return {
        "primary_metric": event.primary_metric,
        "primary_mode": event.primary_mode,
        "chance": event.chance.get(event.primary_metric),
        "n_train": event.n_train,
        "n_validation": event.n_validation,
        "n_validation_images": event.n_validation_images,
        "n_queries": event.n_queries,
        "largest_class": event.largest_class,
        **{f"chance/{name}": value for name, value in event.chance.items()},
    }


def _ending(event: TrialEnded) -> dict[str, Any]:
    results = {name: value for name, value in event.results.items() if name not in RUN_DTYPES}
    own = ("status", "reason", "steps", "wall_s", "checkpoint")
    return results | {name: getattr(event, name) for name in own}


def _runs(rows: list[dict[str, Any]], curves: pd.DataFrame) -> pd.DataFrame:
    names = dict.fromkeys([*RUN_DTYPES, *(name for row in rows for name in row)])
    # Column by column: a frame made of rows would turn an int column with a gap into floats.
    runs = pd.DataFrame({name: _typed([row.get(name) for row in rows], RUN_DTYPES.get(name)) for name in names})
    throughput = curves[curves["metric"] == "images_per_s"].groupby("trial_id")["value"].mean()
    runs["images_per_s"] = runs["trial_id"].map(throughput).astype("float64")
    return runs


def _typed(values: list[Any], dtype: str | None) -> pd.Series:
    """Return a column in its declared dtype, or else in the narrowest dtype that fits all of its values."""
    if dtype == "str":
        return pd.Series([value or "" for value in values], dtype="str")
    if dtype is not None:
        return pd.Series(values, dtype=dtype)
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pd.Series(values, dtype="boolean")
    if kinds == {int}:
        return pd.Series(values, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series([None if value is None else _text(value) for value in values], dtype="str")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
