"""A new database for MLflow: whole or not at all, whoever is killed or comes at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from mlflow import MlflowClient

from study.tracking.database import create_database
from study.tracking.sync import TrackingError, sync
from tests.study.tracked_journals import study_events, write

KILLED_AFTER = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from study.tracking.database import create_database

left = int(sys.argv[2])

@event.listens_for(Engine, "after_cursor_execute")
def count(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

create_database(sys.argv[1])
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_database_is_one_that_mlflow_takes_and_an_old_one_is_left_alone(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    create_database(uri)
    assert names(tmp_path / "new") == ["mlflow.db"]
    client = MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment("mine")
    create_database(uri)
    assert client.get_experiment(experiment).name == "mine"
    for other in ("http://127.0.0.1:1", "sqlite://", "postgresql://nowhere/mlflow"):
        create_database(other)


@pytest.mark.core
@pytest.mark.slow
def test_of_two_that_create_it_at_once_both_have_it_and_nothing_else_is_left(tmp_path: Path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    threads = [threading.Thread(target=create_database, args=(uri,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["mlflow.db"]
    assert [each.name for each in MlflowClient(tracking_uri=uri).search_experiments()] == ["Default"]


def test_a_place_where_none_can_be_created_is_told(tmp_path: Path):
    (tmp_path / "file").touch()
    write(tmp_path / "study", study_events())
    with pytest.raises(TrackingError, match="/file: File exists"):
        sync(tmp_path / "study", f"sqlite:///{tmp_path}/file/mlflow.db")


@pytest.mark.core
@pytest.mark.slow
def test_whoever_is_killed_while_creating_it_leaves_none_or_a_whole_one(tmp_path: Path):
    for statements in (30, 300):
        uri = f"sqlite:///{tmp_path}/{statements}/mlflow.db"
        ended = subprocess.run([sys.executable, "-c", KILLED_AFTER, uri, str(statements)], timeout=120, check=False)
        assert ended.returncode == -signal.SIGKILL
        create_database(uri)
        assert [each.name for each in MlflowClient(tracking_uri=uri).search_experiments()] == ["Default"]


def test_a_database_whose_driver_is_not_installed_is_an_error_that_names_it(tmp_path: Path):
    write(tmp_path / "study", study_events())
    with pytest.raises(TrackingError, match="needs a package: No module named 'psycopg"):
        sync(tmp_path / "study", "postgresql://127.0.0.1/mlflow")
