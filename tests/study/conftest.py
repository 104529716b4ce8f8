"""MLflow stores that the tests of a study write to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.study.mlflow_stores import Server  # imports MLflow, for which tests without it do not wait


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database."""
    from tests.study.mlflow_stores import empty_database

    return empty_database(tmp_path_factory.mktemp("template"))


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
    from tests.study.mlflow_stores import started_server

    with started_server(tmp_path_factory.mktemp("server"), sqlite_template) as running:
        yield running
