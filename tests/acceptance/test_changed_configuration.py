"""A changed configuration under a study's name: refused, nothing touched; `--fresh` moves aside and never deletes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from analysis.records import StudyStarted, read
from study.config.schema import StudyConfig
from study.driver import run_study
from study.execution.journal import Journal
from study.execution.lock import DriverLock
from study.folder import open_folder
from tests.acceptance.studies import curves_of
from tests.conftest import REPOSITORY
from tests.study.studies import tiny

SIMULATED: dict[str, Any] = {"simulate": True, "budget_steps": 30, "search": {"num_samples": 2, "scheduler": "none"}}


def study_of(output: Path, config: StudyConfig) -> Path:
    """Leave a study that was started, with results in it."""
    folder = open_folder(config, output)
    journal = Journal(folder)
    journal.append(StudyStarted(study=config.name, config=config.model_dump(mode="json"), config_hash="", datasets={}))
    journal.close()
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "weights").write_bytes(b"valuable")
    return folder


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    """Return time and content of every file under a folder, and the folders."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes()) if path.is_file() else (0, b"")
        for path in sorted(root.rglob("*"))
    }


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = str(REPOSITORY / "study" / "run.py")
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, script, *arguments], cwd=root, text=True, capture_output=True, check=False, env=environment
    )


@pytest.mark.core
@pytest.mark.slow
def test_a_changed_configuration_is_refused_with_the_difference_and_nothing_is_touched(tmp_path: Path):
    study_of(tmp_path / "out", tiny())
    (tmp_path / "study.yaml").write_text(tiny().to_yaml())
    with DriverLock(tmp_path / "out", "tiny"):  # as the driver that ran it
        pass
    before = everything(tmp_path)
    changes = ("--set", "budget_steps=9", "--set", "search.num_samples=4")
    answer = command(tmp_path, "study.yaml", "--output", "out", *changes)
    assert answer.returncode == 2, answer.stderr
    assert "out/tiny belongs to a study of another configuration" in answer.stderr
    for line in ("-budget_steps: 6", "+budget_steps: 9", "-  num_samples: 3", "+  num_samples: 4", "--fresh"):
        assert line in answer.stderr
    assert "Traceback" not in answer.stderr
    assert everything(tmp_path) == before


@pytest.mark.core
@pytest.mark.slow
def test_a_study_edited_in_its_own_folder_is_another_configuration_too(tmp_path: Path):
    folder = study_of(tmp_path, tiny())
    file = folder / "study.yaml"
    file.write_text(file.read_text().replace("budget_steps: 6", "budget_steps: 9"))
    before = everything(folder)
    answer = command(tmp_path, str(file), "--output", str(tmp_path))
    assert answer.returncode == 2, answer.stderr
    assert "+budget_steps: 9" in answer.stderr
    assert everything(folder) == before


def test_fresh_moves_every_file_aside_and_says_where(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    aside = []
    for steps in (9, 12, 15):  # within a second
        before = everything(study_of(tmp_path, tiny()))
        folder = open_folder(tiny(budget_steps=steps), tmp_path, fresh=True)
        assert list(everything(folder)) == ["study.yaml"]
        (message,) = caplog.messages
        caplog.clear()
        aside.append(Path(message.rpartition(" ")[2]))
        assert everything(aside[-1]) == before
        (folder / "study.yaml").unlink()
        folder.rmdir()
    assert sorted(aside) == sorted(tmp_path.iterdir())


@pytest.mark.slow
def test_a_fresh_study_takes_nothing_over_from_the_one_before_even_where_checkpoints_lie_elsewhere(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    config = tiny(**SIMULATED, storage=str(tmp_path / "shared"), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    first = curves_of(run_study(config, tmp_path / "out").folder)
    for output, fresh in ((tmp_path / "out", True), (tmp_path / "another host", False)):
        folder = run_study(config, output, fresh=fresh).folder
        assert len(list(read(folder, StudyStarted))) == 1
        assert {key: sorted(curve) for key, curve in curves_of(folder).items()} == {
            key: sorted(curve) for key, curve in first.items()
        }
