"""Studies with plug-ins: read with them where they are, and without them, saying so, where they are not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.comparisons.factor_levels import UNKNOWN_DEFAULT, factor_levels
from analysis.report import write_report
from study.config.validation import check_config
from study.tracking import sync
from tests.analysis.simulated_studies import simulate
from tests.documents import plugin_of_the_page
from trainables import plugins
from trainables.tasks import TASKS


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Path]:
    """The folder of a simulated study of the plug-in that docs/extending.md shows, which is not loaded any more."""
    file = plugin_of_the_page(tmp_path)
    content = {
        "name": "plugged-in",
        "plugins": [str(file)],
        "tasks": ["upside_down"],
        "encoder": {"name": "patches"},
        "simulate": True,
        "search": {"algorithm": "random", "num_samples": 2, "scheduler": "none"},
        "confirm": {"top_k": 1, "seeds": 2},
        "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }
    config = check_config(content)
    folder = simulate(config, tmp_path)
    plugins.store([file.name], folder)
    plugins.unload(plugins.loaded(file.name))
    file.unlink()
    yield folder
    if "upside_down" in TASKS:
        plugins.unload(plugins.loaded(file.name))


def test_a_study_is_read_with_the_plug_ins_in_its_folder(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert analysis.load(study).missing_plugins == ()
    assert "upside_down" in TASKS
    assert not caplog.records


def test_without_its_plug_in_a_study_is_shown_and_says_what_is_missing(
    study: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (study / "plugins" / "my_task.py").unlink()
    with caplog.at_level(logging.WARNING):
        loaded = analysis.load(study)
    assert loaded.missing_plugins == ("my_task.py",)
    assert set(loaded.runs["task"]) >= {"upside_down"}
    (message,) = caplog.messages
    assert message.startswith("plugged-in is shown without a plug-in. plugins: my_task.py")
    assert f"copy it to {study}/plugins/" in message


@pytest.mark.core
@pytest.mark.slow
def test_the_report_of_a_study_without_its_plug_in_says_so(study: Path) -> None:
    (study / "plugins" / "my_task.py").unlink()
    page = write_report(study).read_text(encoding="utf-8")
    assert "Shown without my_task.py, which is not on this machine." in page
    assert "upside_down" in page


def test_a_study_of_a_tracking_server_runs_no_file_but_uses_what_is_loaded(
    study: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sync.sync(study, uri)
    plugins.unload(plugins.loaded("my_task.py"))  # of this process, as if it were on another machine
    assert analysis.load(uri, study="plugged-in").missing_plugins == ("my_task.py",)
    assert "upside_down" not in TASKS
    assert "its file is among the artifacts of the study's run" in caplog.text
    plugins.obtain(str(study / "plugins" / "my_task.py"))
    assert analysis.load(uri, study="plugged-in").missing_plugins == ()


def test_the_default_of_an_option_is_a_level_of_its_own_where_its_task_is_unknown() -> None:
    levels = factor_levels(pd.Series([16.0, None, 8.0], name="option/hidden"), "no_longer_here")
    assert levels.cat.categories.tolist() == [UNKNOWN_DEFAULT, "8", "16"]
