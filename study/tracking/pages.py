"""Addresses of a study's pages in MLflow, and the command that serves them. Nothing here asks MLflow."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from study.tracking.state import TrackingState
from study.tracking.sync import default_tracking_uri
from trainables.errors import without_secrets

LOCAL_SERVER = "http://127.0.0.1:5000"  # where `mlflow ui` listens by default
MODEL_TRAINING = "workflowType=machine_learning"  # without it, MLflow 3 shows its pages for language models
# Only in an order of time MLflow nests trials under their phase; in this one, the study is the first row.
OLDEST_FIRST = "orderByKey=attributes.start_time&orderByAsc=true"


@dataclass(frozen=True)
class MlflowPages:
    """Pages of one study in MLflow.

    Attributes:
        command: Shell command that serves the store on this machine; empty if the store is a server already.
        runs: Address of the table of runs.
        views: Address of each saved view by its name; empty before the study has ended.
    """

    command: str
    runs: str
    views: Mapping[str, str] = field(default_factory=dict)


def mlflow_pages(folder: Path, tracking_uri: str | None = None) -> MlflowPages:
    """Return the pages of a study.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store; `default_tracking_uri()` if it is None.
    """
    uri = tracking_uri or default_tracking_uri()
    is_server = uri.startswith(("http://", "https://"))
    server = without_secrets(uri).rstrip("/") if is_server else LOCAL_SERVER
    command = "" if is_server else ui_command(uri)
    state = TrackingState.of(folder, uri)
    if state is None or not state.experiment_id:  # nothing has been delivered
        return MlflowPages(command, server)
    page = f"{server}/#/experiments/{state.experiment_id}/runs?{MODEL_TRAINING}"
    views = {name: f"{page}&{query}" for name, query in state.views.items()}
    return MlflowPages(command, f"{page}&{OLDEST_FIRST}", views)


def ui_command(tracking_uri: str) -> str:
    """Return the shell command that serves a store on this machine, for the current folder.

    Args:
        tracking_uri: URI of a database or of a folder. Its password, if it has one, is left out.
    """
    program = "mlflow" if shutil.which("mlflow") else str(Path(sys.executable).with_name("mlflow"))
    command = [program, "ui", "--backend-store-uri", without_secrets(tracking_uri)]
    if tracking_uri == f"sqlite:///{(Path.cwd() / 'mlflow.db').as_posix()}":
        command = command[:2]  # the store that MLflow takes by default
    return shlex.join(command)
