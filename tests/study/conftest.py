"""MLflow stores that the tests of a study write to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.study.mlflow_stores import Server, started_server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: its migrations take seconds, a copy none."""
    from mlflow import MlflowClient  # seconds, which tests without MLflow do not wait for

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty sqlite store; artifacts go to the working directory, as with MLflow's own default."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(sqlite_template.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty study folder."""
    path = tmp_path / "study"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    """A real `mlflow server` on 127.0.0.1."""
    with started_server(tmp_path_factory.mktemp("server"), sqlite_template) as running:
        yield running
