"""Every trial is listed with its MLflow run: a link where the server is known, otherwise how to find it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from analysis.findings import Findings
from analysis.report.blocks import Folded, Table, Text
from analysis.report.sections.cost import header
from analysis.report.sections.trials import MLFLOW_URI, every_trial, find_beside
from analysis.report.text import Link

SERVER = "http://user:secret@127.0.0.1:5000/"


def state(folder: Path, findings: Findings, uri: str) -> None:
    """Write the state of a delivery to MLflow, in which every trial has a run."""
    runs = {f"trial/{trial}": f"run-of-{trial}" for trial in findings.study.runs["trial_id"]}
    store = hashlib.sha256(uri.encode()).hexdigest()[:16]
    content = {"store": store, "experiment_id": "7", "runs": {"study": "s", **runs}}
    (folder / "mlflow.json").write_text(json.dumps(content))


def listed(findings: Findings, folder: Path, uri: str = "") -> tuple[Table, list[str]]:
    """Return the table of trials, and the texts above it."""
    [folded] = every_trial(findings, find_beside(folder, uri))
    assert isinstance(folded, Folded)
    [table] = [each for each in folded.blocks if isinstance(each, Table)]
    return table, [each.text for each in folded.blocks if isinstance(each, Text)]


def test_trials_link_to_their_runs_on_the_server_without_its_password(findings: Findings, tmp_path: Path):
    state(tmp_path, findings, SERVER)
    table, texts = listed(findings, tmp_path, SERVER)
    assert len(table.rows) == len(findings.study.runs)
    for row in table.rows:
        assert isinstance(row[-1], Link)
        assert row[-1].href == f"http://127.0.0.1:5000/#/experiments/7/runs/run-of-{row[0]}"
    assert texts == []


def test_the_environment_names_the_server_if_nobody_else_does(
    findings: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    state(tmp_path, findings, SERVER)
    monkeypatch.setenv(MLFLOW_URI, SERVER)
    assert isinstance(listed(findings, tmp_path)[0].rows[0][-1], Link)


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "http://127.0.0.1:5001"])
def test_without_the_study_s_own_server_the_runs_are_named(findings: Findings, tmp_path: Path, uri: str):
    state(tmp_path, findings, "sqlite:///mlflow.db")
    table, texts = listed(findings, tmp_path, uri)
    assert not isinstance(table.rows[0][-1], Link)
    assert "pretext.trial_id" in texts[0]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"runs": 3}', '{"runs": {}, "store": "x"}'])
def test_a_damaged_state_is_no_state(findings: Findings, tmp_path: Path, content: str):
    (tmp_path / "mlflow.json").write_text(content)
    table, texts = listed(findings, tmp_path)
    assert "MLflow run" not in table.head
    assert texts == []


def test_files_beside_the_page_are_offered(tmp_path: Path):
    (tmp_path / "runs.parquet").write_bytes(b"")
    [files] = find_beside(tmp_path).files()
    assert files.names == ["runs.parquet"]  # type: ignore[union-attr]
    assert find_beside(tmp_path / "none").files() == []


def test_a_small_learning_rate_is_not_shown_as_zero(findings: Findings, tmp_path: Path):
    small = dataclasses.replace(findings.study, runs=findings.study.runs.assign(lr=3e-6))
    table, _ = listed(dataclasses.replace(findings, study=small), tmp_path)
    assert {row[table.head.index("lr")] for row in table.rows} == {"3e-06", "–"}
    assert header(findings).count("172 trials") == 1
    one = dataclasses.replace(findings.study, runs=findings.study.runs.head(1))
    assert "; 1 trial in " in header(dataclasses.replace(findings, study=one))
