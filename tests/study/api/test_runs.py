"""A study from Python, in a process that already uses Ray: results, resuming after an interrupt, and its encoder."""

from __future__ import annotations

import _thread
import contextlib
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import ray
import torch

import study
from analysis.records import KILLED, Event, Report, StudyEnded, TrialStarted, read
from study.api import progress, running
from study.api.progress import NotebookLine
from study.driver import Listener
from tests.study.studies import TINY


def started(folder: Path) -> list[str]:
    return [event.trial_id for event in read(folder, TrialStarted)]


def freed_cpus() -> float:
    """Return the CPUs of Ray that are free, after a while that it needs to end actors."""
    for _ in range(100):
        if ray.available_resources().get("CPU", 0) == ray.cluster_resources()["CPU"]:
            break
        time.sleep(0.1)
    return ray.available_resources().get("CPU", 0)


@pytest.mark.core
@pytest.mark.slow
def test_an_interrupted_study_resumes_and_returns_its_results(
    local_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupt(event: Event) -> None:
        if isinstance(event, Report) and event.step > 0:
            _thread.interrupt_main()

    monkeypatch.chdir(tmp_path)  # where the store of MLflow is
    shown = progress.shown_progress
    with monkeypatch.context() as patch:
        patch.setattr(running, "shown_progress", lambda *args, **kwargs: _with(interrupt, shown(*args, **kwargs)))
        with pytest.raises(KeyboardInterrupt) as raised:
            study.run(TINY, output=tmp_path)
    folder = tmp_path / "tiny"
    assert [event.status for event in read(folder, StudyEnded)] == [KILLED]
    assert freed_cpus() == ray.cluster_resources()["CPU"], f"trials go on although {raised.value!r} is kept"
    before = started(folder)

    result = study.run(TINY, output=tmp_path)
    assert ray.is_initialized()
    assert result.path == folder
    assert result.report.is_file()
    assert set(before) < set(result.runs["trial_id"])
    assert result.failed == []
    assert set(result.verdicts["trial_id"]) <= set(result.runs["trial_id"])
    assert [*result.chosen] == ["rotation"]
    assert "phase search" in capsys.readouterr().err

    again = study.run(TINY, output=tmp_path, progress=False)
    assert capsys.readouterr().err == ""
    assert list(again.runs["trial_id"]) == list(result.runs["trial_id"])
    assert result.name in repr(again)
    assert "report.html" in study.load(folder)._repr_html_()
    encoder = result.encoder("rotation")
    assert encoder.trial_id in result.chosen["rotation"]["trial_ids"]
    assert encoder(encoder.transforms()(torch.zeros(2, 3, 20, 20, dtype=torch.uint8))).shape == (2, encoder.feature_dim)
    with pytest.raises(study.ConfigError, match="belongs to a study of another configuration"):
        study.run(TINY, output=tmp_path, budget_steps=9)


@contextlib.contextmanager
def _with(listener: Listener, context: AbstractContextManager[list[Listener]]) -> Iterator[list[Listener]]:
    """Return a context like `context` whose list of listeners has one more."""
    with context as listeners:
        yield [*listeners, listener]


def test_a_mistake_does_not_start_ray(tmp_path: Path):
    with pytest.raises(study.ConfigError, match="did you mean 'budget_steps'"):
        study.run("quick", output=tmp_path, budget=3)
    assert list(tmp_path.iterdir()) == []


def test_the_line_of_a_notebook_says_how_far_the_study_is(
    simulated_study: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0)
    config = study.config(dict(study.load(simulated_study).config))
    line = NotebookLine(config, None)  # without a front end, IPython prints each change
    for event in read(simulated_study):
        line(event)
    shown = [each for each in capsys.readouterr().out.splitlines() if each]
    assert f"{config.name}: starting" in shown[0]
    assert any("search, " in each and " trials; " in each for each in shown)
    assert f"{config.name}: finished, " in shown[-1]
    assert not any("\r" in each or "\x1b" in each for each in shown)
