"""`python -m study status`: what a journal says of a study that runs, was interrupted, or has ended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.records import (
    FAILED,
    FINISHED,
    JOURNAL_FILE,
    KILLED,
    STOPPED,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
)
from study.cli.commands import out
from study.cli.status import read_status, render
from study.execution.journal import Journal
from study.plan.best import SHOWN_VALUES, Best
from study.plan.history import History
from study.plan.ranking import ranked
from tests.study.cli.light_starts import light_start
from trainables.trial import TrialConfig

PLAN = {
    "baselines": {"trials": 2, "steps": 0},
    "search": {"trials": 4, "steps": 400},
    "confirm": {"trials": 2, "steps": 200},
    "evaluate": {"trials": 4, "steps": 0},
}


class Story:
    """Writes a journal, each event at a time of its own."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder)

    def started(self, at: float, plan: dict[str, Any] | None = PLAN) -> None:
        told = {"plan": plan, "objectives": {"rotation": ["probe/linear", "max"]}} if plan else {}
        self.journal.append(StudyStarted(time=at, study="told", config_hash="abc", **told))

    def phase(self, at: float, name: str, *, ends: bool = False) -> None:
        self.journal.append(PhaseEnded(time=at, phase=name) if ends else PhaseStarted(time=at, phase=name))

    def trial(self, at: float, phase: str, seed: int, budget_steps: int = 100) -> str:
        trial = TrialConfig(phase=phase, task="rotation", seed=seed, budget_steps=budget_steps, lr=0.001 * (seed + 1))
        self.journal.append(TrialStarted.of(trial, time=at))
        return trial.trial_id

    def report(self, at: float, trial_id: str, step: int, value: float) -> None:
        self.journal.append(Report(time=at, trial_id=trial_id, step=step, metrics={"probe/linear": value}))

    def end(self, at: float, trial_id: str, status: str = FINISHED) -> None:
        self.journal.append(TrialEnded(time=at, trial_id=trial_id, status=status, reason="", results={}))


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """Both baselines took ten seconds each, and the search has begun."""
    story = Story(tmp_path)
    story.started(1000)
    story.phase(1000, "baselines")
    for seed in (0, 1):
        story.end(1010 + 10 * seed, story.trial(1000 + 10 * seed, "baselines", seed, budget_steps=0))
    story.phase(1020, "baselines", ends=True)
    story.phase(1020, "search")
    return story


def test_the_time_left_is_that_of_the_planned_steps_and_probes_at_the_pace_so_far(story: Story, tmp_path: Path):
    story.report(1070, first := story.trial(1020, "search", 0), 100, 0.5)
    story.end(1070, first)
    story.report(1095, story.trial(1070, "search", 1), 50, 0.4)
    # 150 steps took 75 s; left are 250 of the search and 200 to confirm, and 4 evaluations of 10 s.
    assert read_status(tmp_path).seconds_left == pytest.approx((250 + 200) / 2 + 4 * 10)


def test_what_a_stopped_trial_did_not_train_is_not_left(story: Story, tmp_path: Path):
    story.report(1045, first := story.trial(1020, "search", 0), 50, 0.5)
    story.end(1045, first, STOPPED)
    assert read_status(tmp_path).seconds_left == pytest.approx((300 + 200) / 2 + 4 * 10)


def test_the_time_between_two_drivers_does_not_slow_the_pace(story: Story, tmp_path: Path):
    story.report(1070, story.trial(1020, "search", 0), 100, 0.5)
    before = read_status(tmp_path)
    story.started(90000)
    assert read_status(tmp_path).seconds_left == before.seconds_left
    assert before.seconds_left == pytest.approx((300 + 200) / 2 + 4 * 10)


def test_no_time_is_told_before_there_is_a_pace_or_a_plan(story: Story, tmp_path: Path):
    assert read_status(tmp_path).seconds_left is None
    unplanned = Story(tmp_path / "unplanned")
    unplanned.started(1000, plan=None)
    unplanned.trial(1000, "search", 0)
    status = read_status(tmp_path / "unplanned")
    assert (status.seconds_left, [phase.planned for phase in status.phases], status.best) == (None, [None], {})


def test_the_best_so_far_is_of_a_finished_trial_where_there_is_one(story: Story, tmp_path: Path):
    story.report(1030, high := story.trial(1020, "search", 0), 50, 0.9)
    assert read_status(tmp_path).best["rotation"].value == 0.9
    story.end(1030, high, STOPPED)
    story.report(1040, lower := story.trial(1030, "search", 1), 100, 0.6)
    story.end(1040, lower)
    values = {"lr": 0.002, "batch_size": 128, "augmentation_strength": 1.0, "seed": 1}
    assert read_status(tmp_path).best == {"rotation": Best("probe/linear", "max", 0.6, 1, lower, values)}


def test_of_equal_trials_the_best_is_the_one_that_the_study_itself_would_choose(story: Story, tmp_path: Path):
    keys = [story.trial(1020, "search", seed) for seed in range(4)]
    for key in keys:
        story.report(1030, key, 100, 0.6)
        story.end(1040, key)
    assert read_status(tmp_path).best["rotation"].trial_id == min(keys) != keys[0]
    history = History.read(tmp_path)
    assert ranked(history.trials.values(), "probe/linear", "max")[0].trial.trial_id == min(keys)


@pytest.mark.parametrize(("status", "said"), [(KILLED, "interrupted, or its time was over"), (FAILED, "driver failed")])
def test_a_study_whose_driver_ended_before_it_is_unfinished_and_not_running(
    story: Story, tmp_path: Path, status: str, said: str
):
    story.report(1070, story.trial(1020, "search", 0), 100, 0.5)
    story.journal.append(StudyEnded(time=1080, status=status))
    found = read_status(tmp_path)
    assert not found.ended
    assert {phase.phase: phase.state for phase in found.phases}["search"] == "unfinished"
    assert {phase.phase: phase.trials for phase in found.phases}["search"] == {"unfinished": 1}
    assert found.seconds_left == pytest.approx((300 + 200) * 60 / 100 + 4 * 10)
    with out.capture() as shown:
        out.print(render(found))
    assert said in shown.get()
    assert "resumes it" in shown.get()
    story.started(2000)
    assert {phase.phase: phase.state for phase in read_status(tmp_path).phases}["search"] == "running"


def test_the_status_of_an_ended_study_is_that_of_its_results(simulated_study: Path):
    status, history = read_status(simulated_study), History.read(simulated_study)
    assert (status.ended, status.seconds_left) == (True, 0.0)
    assert [phase.phase for phase in status.phases] == ["baselines", "search", "confirm", "ablate", "evaluate"]
    assert {phase.state for phase in status.phases} == {"done"}
    assert {phase.phase: phase.trials for phase in status.phases} == {
        phase.phase: pd.Series([record.status for record in history.of(phase.phase)]).value_counts().to_dict()
        for phase in status.phases
    }
    for task, choice in history.outcomes["confirm"]["chosen"].items():
        best = status.best[task]
        assert (best.metric, best.value, best.seeds) == (choice["metric"], choice["mean"], len(choice["seeds"]))
        trials = [history.trials[trial_id] for trial_id in choice["trial_ids"]]
        assert len(trials) > 1
        assert best.untrained == pytest.approx(np.mean([trial.untrained[best.metric] for trial in trials]))
        assert best.trial_id == choice["trial_ids"][0]
        assert best.values == {name: getattr(trials[0].trial, name) for name in SHOWN_VALUES if name != "seed"}
    told = pd.read_csv(simulated_study / "verdicts.csv")["verdict"].value_counts().to_dict()
    assert status.verdicts == told


def test_a_study_has_a_status_at_each_moment_and_never_more_trials_than_planned(simulated_study: Path, tmp_path: Path):
    lines = (simulated_study / JOURNAL_FILE).read_text().splitlines(keepends=True)
    seen = []
    for number in [*range(1, 30, 3), *range(30, len(lines), len(lines) // 5)]:
        # The last line is the one that the driver is just writing.
        (tmp_path / JOURNAL_FILE).write_text("".join(lines[:number]) + lines[number][:7])
        status = read_status(tmp_path)
        assert not status.ended
        assert all(sum(phase.trials.values()) <= phase.planned for phase in status.phases)
        seen.append([phase.state for phase in status.phases])
        with out.capture():
            out.print(render(status))
    order = {"waiting": 0, "running": 1, "done": 2}
    progress = [[order[state] for state in states] for states in seen if states]
    assert progress == sorted(progress)
    assert progress[0] == [0] * 5
    assert progress[-1][:3] == [2] * 3


@pytest.mark.core
@pytest.mark.slow
def test_another_terminal_reads_it_in_a_moment_as_a_table_or_as_json(simulated_study: Path, tmp_path: Path):
    """Without what trains, which takes many seconds to import, and without a byte written."""
    folder = shutil.copytree(simulated_study, tmp_path / "study", ignore=shutil.ignore_patterns("checkpoints", "tune"))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    answers = []
    for arguments in ([], ["--json"]):
        heavy = {"torch", "ray", "mlflow", "optuna"}
        ended = light_start("study.cli.commands", heavy, "status", "status", str(folder), *arguments)
        assert ended.returncode == 0, ended.stderr
        answers.append(ended.stdout)
    assert json.loads(answers[1]) == json.loads(json.dumps(read_status(folder).to_dict()))
    for part in ("simulated", "search", "24", "context_prediction", "probe/linear", "verdicts:", "has ended"):
        assert part in answers[0]
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
