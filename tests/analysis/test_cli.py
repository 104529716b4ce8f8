"""`python -m analysis`: reports, verdicts, effects and frames of a folder or a tracking server, errors in one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import analysis
from analysis.__main__ import app
from analysis.findings import compute_findings
from study.tracking import sync
from tests.analysis.journals import CELLS, write_study
from trainables.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study") / "quick", designs=("cures",), tasks=("rotation", "simclr"))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = write_study(tmp_path_factory.mktemp("tracked") / "quick", until="search", tasks=("rotation",))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    with contextlib.chdir(folder.parent):  # where MLflow puts the artifacts of such a store
        sync.sync(folder, uri)
    return folder, uri


def run(*arguments: str | Path, columns: int = 200) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": str(columns)}, catch_exceptions=True)


def test_report_writes_the_page_and_says_where(tmp_path: Path):
    folder = write_study(tmp_path / "quick", until="baselines")
    assert run("report", folder).stdout.strip() == str(folder / "report.html")
    elsewhere = tmp_path / "deep" / "elsewhere"
    assert run("report", folder, "--output", elsewhere).stdout.strip() == str(elsewhere / "report.html")
    assert (elsewhere / "report.html").exists()


def test_verdicts_are_a_table_or_csv_or_json(folder: Path):
    expected = compute_findings(analysis.load(folder)).verdicts
    table = run("verdicts", folder, "--task", "rotation").stdout
    own = expected.query("task == 'rotation'")
    assert table.count("→") == len(own)
    assert all(trial_id in table for trial_id in own["trial_id"])
    assert "search, simclr" not in table
    as_csv = pd.read_csv(io.StringIO(run("verdicts", folder, "--csv").stdout), keep_default_na=False)
    assert dict(zip(as_csv["trial_id"], as_csv["verdict"], strict=True)) == dict(
        zip(expected["trial_id"], expected["verdict"], strict=True)
    )
    rows = json.loads(run("verdicts", folder, "--json").stdout)
    assert [row["evidence"] for row in rows] == expected["evidence"].tolist()


def test_effects_are_a_table_a_design_with_the_untrained_last(folder: Path):
    table = run("effects", folder, "--task", "rotation").stdout
    titles = [line.strip() for line in table.splitlines() if line.startswith("rotation, ")]
    assert titles == [
        "rotation, cures: probe/shapes/linear against base",
        "rotation, pre-training: probe/shapes/linear against random_init",
        "rotation, pre-training, test split: probe/shapes/linear",  # its table is narrow, so that the title breaks
    ]
    line = next(line for line in table.splitlines() if "lr=0.003" in line)
    assert line.split()[:3] == ["lr=0.003", "4,", "1"]
    assert line.strip().endswith("too few seeds")


def test_effects_of_each_metric_are_a_table(folder: Path, monkeypatch: pytest.MonkeyPatch):
    found = compute_findings(analysis.load(folder), task="rotation")
    own = found.against_untrained.query("design == 'pre-training, test split'")
    other = own.assign(metric="probe/fashion_mnist/linear", mean=0.123)
    both = dataclasses.replace(found, against_untrained=pd.concat([own, other]))
    monkeypatch.setattr("analysis.findings.compute_findings", lambda *_, **__: both)
    table = run("effects", folder, "--task", "rotation").stdout
    assert table.count("test split:") == 2
    assert table.count("fashion_mnist") == 1


def test_effects_fit_a_narrow_terminal(folder: Path):
    table = run("effects", folder, "--task", "rotation", columns=80).stdout
    assert max(map(len, table.splitlines())) <= 80
    assert "inconclusive" in table


def test_effects_can_be_asked_with_another_metric_baseline_and_margin(folder: Path):
    asked = ("--metric", "val/accuracy", "--baseline", "width=12", "--margin", "0.5", "--task", "rotation")
    rows = json.loads(run("effects", folder, *asked, "--json").stdout)
    own = [row for row in rows if row["design"] == "every cell"]
    assert {row["cell"] for row in own} == set(CELLS["rotation"]) - {"width=12"} - {
        cell for cell in CELLS["rotation"] if "," in cell or cell == "augmentation_strength=0.5"
    }
    assert {row["metric"] for row in own} == {"last/val/accuracy"}
    assert {row["baseline"] for row in own} == {"width=12"}
    assert next(row for row in own if row["cell"] == "lr=0.003")["p"] is None


def test_export_writes_frames_as_parquet_or_csv(tmp_path: Path):
    folder = write_study(tmp_path / "quick", until="baselines")
    assert run("export", folder, "--format", "csv").exit_code == 0
    assert (folder / "runs.csv").read_text().startswith("trial_id,study,phase")
    names = [str(folder / f"{name}.parquet") for name in ("runs", "curves")]
    assert run("export", folder).stdout.split() == names
    assert run("export", folder, "--output", tmp_path / "copy").exit_code == 0
    copied = analysis.load(tmp_path / "copy")
    pd.testing.assert_frame_equal(copied.runs, analysis.load(folder).runs)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "quick", until="baselines")
    assert run("export", "~/quick", "--output=~/results", "--format", "csv").exit_code == 0
    assert (tmp_path / "results" / "runs.csv").exists()
    assert not (tmp_path / "~").exists()


@pytest.mark.core
@pytest.mark.slow
def test_a_tracking_server_is_read_as_a_folder_is(tracked: tuple[Path, str], tmp_path: Path):
    folder, uri = tracked
    rows = json.loads(run("verdicts", uri, "--study", "quick", "--json").stdout)
    expected = compute_findings(analysis.load(folder)).verdicts
    found = {row["trial_id"]: row["verdict"] for row in rows}
    assert found == dict(zip(expected["trial_id"], expected["verdict"], strict=True))
    page = tmp_path / "results" / "report.html"
    assert run("report", uri, "--study", "quick", "--output", page.parent).stdout.strip() == str(page)
    script = page.read_text()
    assert f"study = analysis.load(&#39;{uri}&#39;, study=&#39;quick&#39;)" in script
    assert f"python -m analysis report {uri} --study quick" in script
    assert run("export", uri, "--study", "quick", "--output", page.parent).exit_code == 0
    assert len(pd.read_parquet(page.parent / "runs.parquet")) == len(analysis.load(folder).runs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "sqlite:///away.db"), "name the folder to write to, for example --output results"),
        (("verdicts", "sqlite:///away.db", "--study", "quick"), "no such file"),
        (("verdicts", "none"), "no such folder"),
        (("verdicts", "FOLDER", "--csv", "--json"), "--csv and --json: choose one"),
        (("verdicts", "FOLDER", "--task", "rotatoin"), "no trial of 'rotatoin'; did you mean 'rotation'"),
        (("effects", "FOLDER", "--baseline", "nope"), "no cell 'nope'"),
        (("effects", "FOLDER", "--study", "quick"), "leave it out"),
    ],
)
def test_what_the_user_can_mend_is_said_in_one_line(folder: Path, arguments: tuple[str, ...], message: str):
    result = run(*(str(folder) if argument == "FOLDER" else argument for argument in arguments))
    assert isinstance(result.exception, UserError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_effects_of_a_study_that_compared_nothing_say_what_to_run(tmp_path: Path):
    folder = write_study(tmp_path, until="confirm", tasks=("rotation",))
    result = run("effects", folder)
    assert str(result.exception) == "quick: nothing was compared; name designs under `ablate` in the study's YAML"


def test_an_error_is_one_line_on_stderr_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "-m", "analysis", "report", str(tmp_path / "none")]
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "no such folder" in wrong.stderr
