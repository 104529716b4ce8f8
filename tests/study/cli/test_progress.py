"""What a person sees while a study runs."""

from __future__ import annotations

import io
import re
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from analysis import records
from analysis.records import Event, Facts, PhaseStarted, Report, StudyStarted, TrialEnded, TrialStarted
from study.cli.progress import Progress
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.execution.journal import Journal
from tests.conftest import REPOSITORY
from tests.study.cli.terminal import COLOR, ESCAPE, in_terminal
from trainables.trial import TrialConfig

TRIAL = TrialConfig(phase="search", task="rotation", lr=0.003, batch_size=64, budget_steps=100)
PLAN = {"search": {"trials": 4, "steps": 400}, "confirm": {"trials": 2, "steps": 200}}
CLOCK = re.compile(r"\d+:\d\d")


def events(status: str = "FINISHED", reason: str = "", trial: TrialConfig = TRIAL, at: float = 0) -> list[Event]:
    """Events of one trial of 100 s, from the start of its phase."""
    key = trial.trial_id
    return [
        PhaseStarted(time=at, phase=trial.phase),
        TrialStarted.of(trial, time=at),
        Facts(time=at, trial_id=key, primary_metric="val/accuracy"),
        Report(time=at, trial_id=key, step=0, metrics={"val/accuracy": 0.25, "probe/linear": 0.125}),
        Report(time=at + 50, trial_id=key, step=50, metrics={"val/accuracy": 0.5, "probe/linear": 0.25}),
        Report(time=at + 100, trial_id=key, step=100, metrics={"val/accuracy": 0.5, "probe/linear": 0.25}),
        TrialEnded(time=at + 100, trial_id=key, status=status, reason=reason),
    ]


def started() -> StudyStarted:
    return StudyStarted(time=0, study="shown", plan=PLAN, objectives={"rotation": ["probe/linear", "max"]})


@pytest.fixture
def config() -> StudyConfig:
    return check_config({"name": "shown"})


def lines_of(config: StudyConfig, shown: list[Event]) -> list[str]:
    written = io.StringIO()
    with Progress(config, Console(file=written, width=80)) as progress:
        for event in shown:
            progress(event)
    return written.getvalue().splitlines()


def screen(config: StudyConfig, shown: list[Event], width: int, folder: Path | None = None) -> list[str]:
    """Return the lines of a terminal after these events, the live display last."""
    console = Console(file=io.StringIO(), width=width, height=40, force_terminal=True, record=True)
    progress = Progress(config, console, folder)
    for event in shown:
        progress(event)
    console.print(progress._render())
    return console.export_text().splitlines()


def test_a_pipe_gets_one_plain_line_for_each_phase_and_each_trial_that_ended(config: StudyConfig):
    phase, trial = lines_of(config, [started(), *events()])
    assert phase.endswith("phase search, 4 trials")
    for part in ("FINISHED", "rotation lr=0.003", "bs=64", "val/accuracy 0.500", "probe/linear 0.250"):
        assert part in trial
    assert len(trial) > 80, "no line is broken where no terminal breaks it"
    assert trial.isprintable()


def test_a_stopped_trial_says_why_and_a_failed_one_names_its_error(config: StudyConfig):
    assert lines_of(config, events("STOPPED", "at chance after 50 steps"))[-1].endswith("(at chance after 50 steps)")
    traceback = "Traceback (most recent call last):\n  somewhere\nValueError: no such thing"
    assert lines_of(config, events("FAILED", traceback))[-1].endswith("(ValueError: no such thing)")


def test_a_terminal_shows_the_running_trials_with_their_steps(config: StudyConfig):
    shown = "\n".join(screen(config, [started(), *events()[:-2]], 80))
    assert re.search(r"rotation lr=0.003 aug=1 bs=64 +50/100 +probe/linear 0.250", shown)
    assert "1 running" in shown


def test_bars_count_the_trials_of_the_phase_and_of_the_study_and_estimate_the_time_left(config: StudyConfig):
    shown = "\n".join(screen(config, [started(), *events()], 80))
    assert re.search(r"^search .* 1 of 4 trials", shown, re.M)
    assert re.search(r"^shown .* 1 of 6 trials", shown, re.M)
    # 100 steps took 100 s, and 300 + 200 are left.
    assert "about 8 min 20 s left, at the pace so far" in shown
    assert "time left not known yet" in "\n".join(screen(config, [started(), events()[0]], 80))


def test_the_display_may_be_drawn_at_any_moment(config: StudyConfig):
    progress = Progress(config, Console(file=io.StringIO(), width=80))
    ended, problems = threading.Event(), []

    def draw() -> None:
        while not ended.wait(1e-4):  # a pause, without which a thread may hold the lock forever
            try:
                progress._render()
            except Exception as error:  # noqa: BLE001
                problems.append(error)

    thread, interval = threading.Thread(target=draw), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads alternate in the middle of what they do
    thread.start()
    try:
        progress(started())
        for seed in range(1000):
            progress(TrialStarted.of(TRIAL.replace(phase="confirm", seed=seed), time=1.0))
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert problems == []


def test_the_best_so_far_stands_beside_the_untrained_network_of_the_same_trial(config: StudyConfig):
    shown = "\n".join(screen(config, [started(), *events()], 80))
    assert re.search(r"^task +best so far +value +untrained", shown, re.M)
    assert re.search(r"^rotation +probe/linear +0\.250 +0\.125 +1 trial", shown, re.M)


def test_a_line_of_the_ablation_names_the_cell_and_the_seed(config: StudyConfig):
    trials = [TRIAL.replace(phase="ablate", cell="width=8", seed=seed) for seed in (1_049_076, 1_049_077)]
    shown = [started(), *(event for trial in trials for event in events(trial=trial))]
    lines = [line for line in lines_of(config, shown) if "FINISHED" in line]
    assert [re.search(r"rotation (width=8 seed \d/\d)", line)[1] for line in lines] == [  # type: ignore[index]
        "width=8 seed 1/5",
        "width=8 seed 2/5",
    ]


def test_raw_pixels_have_no_seed_and_no_settings(config: StudyConfig):
    untrained = {"phase": "baselines", "budget_steps": 0}
    networks = [TRIAL.replace(task="random_init", seed=seed, **untrained) for seed in range(3)]
    shown = [
        started(),
        *(e for each in [*networks, TRIAL.replace(task="raw_pixels", **untrained)] for e in events(trial=each)),
    ]
    *_, network, pixels = [line for line in lines_of(config, shown) if "FINISHED" in line]
    assert "random_init seed 3/3" in network
    assert re.search(r"raw_pixels +probe", pixels)


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_broken(width: int, simulated_study: Path):
    told = list(records.read(simulated_study))
    config = check_config(dict(told[0].config))  # type: ignore[attr-defined]
    until = next(number for number, event in enumerate(told) if isinstance(event, PhaseStarted) and number > 600)
    lines = screen(config, told[:until], width)
    assert max(map(len, lines)) <= width
    whole = lines_of(config, told[:until])
    ended = [line for line in whole if "FINISHED" in line]
    ended_part = lines[: max(number for number, line in enumerate(lines) if "FINISHED" in line) + 1]
    words = {word for line in ended_part for word in line.split() if not CLOCK.fullmatch(word)}
    assert words <= {word for line in whole for word in line.split()}, "lines break between words"
    first_value = [re.search(r"probe/\S+ \d\.\d{3}", line)[0] for line in ended]  # type: ignore[index]
    text = "\n".join(ended_part)
    assert all(value in text for value in first_value), "the value by which a trial is chosen is always shown"


def test_a_resumed_study_counts_what_earlier_drivers_have_done(config: StudyConfig, tmp_path: Path):
    journal = Journal(tmp_path)
    for event in [started(), *events()]:
        journal.append(event)
    again = StudyStarted(time=5000, study="shown", plan=PLAN, objectives=started().objectives)
    journal.append(again)
    journal.close()
    shown = "\n".join(screen(config, [again, PhaseStarted(time=5000, phase="search")], 80, tmp_path))
    assert re.search(r"^search .* 1 of 4 trials", shown, re.M)
    assert "about 8 min 20 s left" in shown
    assert re.search(r"^rotation +probe/linear +0\.250 +0\.125", shown, re.M)


def test_colors_are_left_out_where_they_are_not_wanted(config: StudyConfig, monkeypatch: pytest.MonkeyPatch):
    def written() -> str:
        console = Console(file=io.StringIO(), width=80, force_terminal=True)
        progress = Progress(config, console)
        for event in [started(), *events()]:
            progress(event)
        console.print(progress._render())
        return console.file.getvalue()  # type: ignore[attr-defined]

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert COLOR.search(written())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOR.search(written())


@pytest.mark.core
@pytest.mark.slow
def test_a_whole_study_in_a_terminal_shows_bars_and_ends_with_what_it_found(tmp_path: Path):
    study = {"name": "demo", "tasks": ["rotation"], "budget_steps": 40, "report_every": 20}
    study |= {"search": {"num_samples": 2}, "confirm": {"top_k": 1, "seeds": 3}}
    (tmp_path / "demo.yaml").write_text(check_config(study).to_yaml())
    command = (sys.executable, str(REPOSITORY / "study" / "run.py"), "demo.yaml", "--simulate")
    shown = in_terminal(*command, cwd=tmp_path, RAY_ADDRESS="local")
    assert COLOR.search(shown)
    text = ESCAPE.sub("", shown)
    assert re.search(r"demo-simulated .* 16 of 16 trials", text)
    assert re.search(r"about \d+ s left, at the pace so far", text)
    end = text[text.index("demo-simulated: finished in") :]
    assert re.search(r"^rotation +\w+ +\d+\.\d +\d+\.\d +[+−]\d+\.\d \[.*\]", end, re.M)
    assert f"report  {tmp_path}/studies/demo-simulated/report.html" in end
    assert re.search(r"^MLflow  (\S*/)?mlflow ui$", end, re.M)
    assert "python study/run.py studies/demo-simulated/recommended.yaml" in end
