"""A study's frames from an MLflow tracking server, without the study's folder. Slow: one request per curve."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, MlflowException
from mlflow.entities import Run

from analysis.data.frames import (
    RESPELLED_COLUMNS,
    RUN_DTYPES,
    RUNNING,
    SET_DTYPES,
    FrameBuilder,
    chance_of_probes,
    current_column,
)
from analysis.data.mlflow_names import from_mlflow, is_chance_level
from analysis.data.per_image import PER_IMAGE_ARTIFACT, Packed, PerImage
from analysis.data.plugins import load_plugins
from analysis.data.study import Study
from analysis.data.tables import is_final_result
from analysis.records import FINISHED
from analysis.records.phases import OUTCOME_FILE
from trainables import spelling
from trainables.errors import UserError, first_line

# MLflow retries for minutes by default.
ENVIRONMENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
OPEN_COLUMNS = (*RESPELLED_COLUMNS, "chance/")
PARAM_DTYPES = RUN_DTYPES | SET_DTYPES
PAGE = 1000  # runs per request, the most that a server returns


def load_runs(uri: str, study: str | None) -> Study:
    """Return the study that `study.tracking.sync` wrote to a tracking server.

    The frames equal the journal's, except that `checkpoint` is empty, `reason` is cut to one line, infinities are NaN,
    since MLflow stores none, and trials that an interrupted study left running are KILLED.

    Args:
        uri: Tracking URI.
        study: Name of the study. If it was started over under the same name, the newest is read.

    Raises:
        UserError: If the server cannot be read or has no study of that name.
    """
    if not study:
        raise UserError(f'{uri} may have several studies; name one: load("{uri}", study="NAME")')
    _check_database(uri)
    with _client_environment():
        try:
            client = MlflowClient(tracking_uri=uri)
            runs = _newest(_runs_of(client, uri, study))
            builder = FrameBuilder()
            for run in runs:
                if run.data.tags.get("pretext.kind") == "trial":
                    _add_trial(builder, client, run, study)
            outcomes = {phase: _outcome(client, run) for run in runs if (phase := _ended_phase(run))}
            run_ids = {run.data.tags.get("pretext.trial_id", ""): run.info.run_id for run in runs}
        except (MlflowException, OSError) as error:
            raise _unreadable(uri, error) from error

    def packed(trial_id: str) -> Packed:
        if trial_id not in run_ids:
            return {}
        with _client_environment():
            try:
                return _json_artifact(client, run_ids[trial_id], PER_IMAGE_ARTIFACT) or {}
            except (MlflowException, OSError) as error:
                raise _unreadable(uri, error) from error

    frames = builder.build()
    config = next((_nested(_params(run)) for run in runs if run.data.tags.get("pretext.kind") == "study"), {})
    return Study(
        study,
        *frames,
        missing_plugins=load_plugins(config, study, folder=None),
        config=spelling.with_current_names(config),
        datasets=_datasets(runs),
        outcomes=outcomes,
        per_image=PerImage(packed),
    )


def _unreadable(uri: str, error: Exception) -> UserError:
    return UserError(f"{uri}: cannot be read ({first_line(error)}); is the tracking server running there?")


def _check_database(uri: str) -> None:
    """Refuse a SQLite file that does not exist, which MLflow would create."""
    _, found, path = uri.partition("sqlite:///")
    if found and not Path(path).exists():
        raise UserError(f"{uri}: no such file ({Path(path).resolve()}); name the database that the study logged to")


@contextlib.contextmanager
def _client_environment() -> Iterator[None]:
    """Fail within seconds if the server is away, and show no progress of small files, unless the user wants that."""
    new = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _runs_of(client: MlflowClient, uri: str, study: str) -> list[Run]:
    experiment = client.get_experiment_by_name(study)
    found: list[Run] = []
    token: str | None = ""
    while experiment is not None and token is not None:
        page = client.search_runs(
            [experiment.experiment_id],
            f"tags.`pretext.study` = '{study}'",
            max_results=PAGE,
            order_by=["attributes.start_time ASC"],
            page_token=token or None,
        )
        found += page
        token = page.token or None
    if not found:
        names = {other.name for other in client.search_experiments() if other.name != "Default"}
        raise UserError(f"{uri} has no study {study!r}; it has: {', '.join(sorted(names)) or 'none'}")
    return found


def _newest(runs: list[Run]) -> list[Run]:
    newest = max(int(run.data.tags.get("pretext.journal", 0)) for run in runs)
    return [run for run in runs if int(run.data.tags.get("pretext.journal", 0)) == newest]


def _add_trial(builder: FrameBuilder, client: MlflowClient, run: Run, study: str) -> None:
    tags, metrics, params = run.data.tags, run.data.metrics, _params(run)
    params |= json.loads(tags.get("pretext.changed", "{}"))
    names = {stored: from_mlflow(stored, tags) for stored in metrics}
    trial_id = tags["pretext.trial_id"]
    columns = {
        current_column(name): spelling.current(value) if name == "cell" else _parsed(value, PARAM_DTYPES.get(name))
        for name, value in params.items()
        if name in PARAM_DTYPES or name.startswith(OPEN_COLUMNS)
    }
    results = {name: metrics[stored] for stored, name in names.items() if is_final_result(name)}
    columns |= chance_of_probes(columns["dataset"], results, _datasets([run])) | results
    if "steps" in metrics:
        columns |= {"steps": int(metrics["steps"]), "wall_s": metrics.get("wall_s")}
    status, reason = tags.get("pretext.status", RUNNING), tags.get("pretext.reason", "")
    builder.trial(trial_id, **columns, study=study, status=status, reason=reason)
    points: dict[int, dict[str, float]] = defaultdict(dict)
    for stored, name in sorted(names.items()):
        # Chance levels are there for MLflow's charts; the level is a param, too.
        if name in results or name in ("steps", "wall_s") or is_chance_level(name):
            continue
        for point in sorted(client.get_metric_history(run.info.run_id, stored), key=lambda point: point.timestamp):
            points[point.step].setdefault(name, point.value)
    for step in sorted(points):
        builder.report(trial_id, step, points[step])


def _params(run: Run) -> dict[str, str]:
    return {from_mlflow(name, run.data.tags): value for name, value in run.data.params.items()}


def _ended_phase(run: Run) -> str | None:
    tags = run.data.tags
    ended = tags.get("pretext.kind") == "phase" and tags.get("pretext.status") == FINISHED
    return tags.get("pretext.phase") if ended else None


def _outcome(client: MlflowClient, run: Run) -> dict[str, Any]:
    """Return what a phase decided, empty for phases that decide nothing."""
    return spelling.with_current_names(_json_artifact(client, run.info.run_id, OUTCOME_FILE) or {})


def _json_artifact(client: MlflowClient, run_id: str, name: str) -> Any:
    """Return the content of a run's artifact; None if it has none of that name."""
    if name not in {file.path for file in client.list_artifacts(run_id)}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return json.loads(Path(client.download_artifacts(run_id, name, folder)).read_text(encoding="utf-8"))


def _parsed(value: str, dtype: str | None) -> Any:
    """Return the value that `str` turned into this param."""
    if dtype == "str":
        return value
    if value == "nan":
        return float("nan")
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _nested(params: dict[str, str]) -> dict[str, Any]:
    """Turn `search.num_samples = 8` back into `{"search": {"num_samples": 8}}`."""
    config: dict[str, Any] = {}
    for name, value in params.items():
        *parents, last = name.split(".")
        inner = config
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = _parsed(value, None)
    return config


def _datasets(runs: list[Run]) -> dict[str, dict[str, Any]]:
    """Return fingerprint, counts and classes of each data set trained on, from the runs' data set inputs."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        name = run.data.params.get("dataset", "")
        for given in run.inputs.dataset_inputs if run.inputs else []:
            profile = json.loads(given.dataset.profile or "{}")
            classes = profile.get("classes") or []
            info = {"class_names": classes, "n_classes": len(classes), "counts": profile.get("counts") or {}}
            if "leaks" in profile:
                info["leaks"] = profile["leaks"]
            found[name] = {"fingerprint": given.dataset.digest, **info}
    return found
