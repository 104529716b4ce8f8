"""Secrets of the environment stay there: nothing that a study writes, stores or says holds one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from study.config.validation import check_config
from tests.acceptance.studies import DriverProcess, assert_whole
from tests.conftest import REPOSITORY
from tests.study.mlflow_stores import all_runs, empty_database, free_port, started_server
from tests.study.studies import tiny
from trainables.errors import UserError, without_secrets

PASSWORD = "correct-horse-1f0e"
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "user-77aa",
    "MLFLOW_TRACKING_PASSWORD": "battery-52bc",
    "MLFLOW_TRACKING_TOKEN": "token-90de",
    "AWS_ACCESS_KEY_ID": "AKIA-31fa",
    "AWS_SECRET_ACCESS_KEY": "staple-64cb",
    "SOME_PROGRAMS_API_KEY": "key-88ef",
}


def files_with_a_secret(*roots: Path) -> list[str]:
    """Return which files below the folders hold a secret, and which one."""
    secrets = [value.encode() for value in (PASSWORD, *SECRETS.values())]
    found = []
    for path in (path for root in roots for path in root.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found += [f"{path}: {secret.decode()}" for secret in secrets if secret in content]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_secret_of_the_environment_is_written_stored_or_said(tmp_path: Path):
    """A store that is away first, so that its address is complained of, and then there, so that all is delivered."""
    config = tiny(simulate=True, dataset="cifar10", max_train=None, image_size=None)
    away = f"http://me:{PASSWORD}@127.0.0.1:{free_port()}"
    environment = SECRETS | {"MLFLOW_TRACKING_URI": away, "RAY_ADDRESS": "local", "HOME": str(tmp_path / "home")}
    study = DriverProcess(tmp_path / "study", config, environment)
    assert study.run(timeout_s=900) in (0, 1), study.log()
    assert_whole(study)
    assert "MLflow at http://***@127.0.0.1" in study.log()

    (tmp_path / "server").mkdir()
    with started_server(tmp_path / "server", empty_database(tmp_path / "template")) as server:
        there = f"http://me:{PASSWORD}@127.0.0.1:{server.port}"
        environment = os.environ | SECRETS | {"MLFLOW_TRACKING_URI": there}
        commands = [
            ["study", "sync", str(study.folder)],
            ["analysis", "report", there, "--study", config.name, "--output", str(tmp_path / "report")],
            ["analysis", "report", there, "--study", "unknown", "--output", str(tmp_path / "report")],
        ]
        for index, command in enumerate(commands):
            with (tmp_path / "study" / f"{command[1]}{index}.log").open("wb") as log:
                subprocess.run(
                    [sys.executable, "-m", *command],
                    cwd=REPOSITORY,
                    env=environment,
                    stdout=log,
                    stderr=log,
                    timeout=600,
                    check=index < 2,
                )
        assert len(all_runs(server.url, config.name)) > 10
    assert (tmp_path / "report" / "report.html").is_file()
    assert files_with_a_secret(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:hunter2@host:5000/x is away", "http://***@host:5000/x is away"),
        ("https://hunter2@host", "https://***@host"),
        ("postgresql+psycopg2://me:hun/ter2@host/db", "postgresql+psycopg2://***@host/db"),
        ("mysql://me:hun@ter2@host/db", "mysql://***@host/db"),
        ("('http://me:hunter2@host/a', 'x')", "('http://***@host/a', 'x')"),
        ("mssql://host/db?user=me&Password=hunter2&x=1", "mssql://host/db?user=me&***&x=1"),
        ("abfss://container@account/x, mail me@example.org", "abfss://container@account/x, mail me@example.org"),
        ("sqlite:////home/me/mlflow.db at 12:30@noon", "sqlite:////home/me/mlflow.db at 12:30@noon"),
    ],
)
def test_an_error_shows_an_address_without_its_password(text: str, shown: str):
    assert without_secrets(text) == str(UserError(text)) == shown


def test_a_studys_files_hold_no_password_since_its_configuration_cannot():
    with pytest.raises(UserError, match=r"tracking_uri = 'http://\*\*\*@host'"):
        check_config({"name": "a", "tracking_uri": f"http://me:{PASSWORD}@host"})
