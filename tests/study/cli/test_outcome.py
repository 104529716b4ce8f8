"""What a study says when it ends: the numbers of its findings, the report's next step, and commands to copy."""

from __future__ import annotations

import dataclasses
import io
import re
from pathlib import Path

import pytest
from rich.console import Console

import analysis
from analysis.findings import compute_findings
from analysis.report.plain import answer
from study.cli.outcome import MLFLOW_ROWS, _places, show_outcome
from study.config.validation import check_config
from study.driver import Outcome
from study.execution.resources import BOOTSTRAP_CONFIG
from study.tracking.pages import MlflowPages, mlflow_pages
from tests.analysis.simulated_studies import simulate

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but line ends


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A small simulated study that has ended."""
    config = check_config(
        {
            "name": "demo",
            "simulate": True,
            "tasks": ["rotation", "context_prediction"],
            "budget_steps": 100,
            "report_every": 50,
            "search": {"num_samples": 2},
            "confirm": {"top_k": 1, "seeds": 3},
        }
    )
    folder = simulate(config, tmp_path_factory.mktemp("ended"))
    (folder / "recommended.yaml").write_text("")  # the next step trains it again
    findings = compute_findings(analysis.load(folder))
    chosen = dict(findings.study.outcomes["confirm"]["chosen"])
    answered = answer(findings, folder)
    return Outcome(folder, folder / "report.html", chosen, answer=answered)


def shown(outcome: Outcome, *, width: int = 80, terminal: bool = True) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, record=True)
    show_outcome(outcome, "demo", "sqlite:///runs.db", 112, console)
    return console.export_text() if terminal else console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [80, 200])
def test_each_task_has_its_answer_beside_the_untrained_networks(outcome: Outcome, width: int):
    assert outcome.answer is not None
    text = shown(outcome, width=width)
    assert text.startswith("demo: finished in 1 min 52 s ─")
    rows = outcome.answer.gains.rows
    assert set(rows["task"]) == {"rotation", "context_prediction"}
    for row in rows.itertuples():
        [line] = [line for line in text.splitlines() if re.match(rf"{row.task} +\w+ +\d", line)]
        difference = f"{100 * row.difference:+.1f}".replace("-", "−")
        assert line.split()[1:5] == [row.answer, f"{100 * row.mean:.1f}", f"{100 * row.untrained:.1f}", difference]
        assert line.split()[5] == f"[{100 * row.ci_low:.1f},".replace("-", "−")
    assert ("as chosen, it" in text) == (width == 200)


def test_on_80_columns_only_what_a_reader_copies_is_longer_than_a_line(outcome: Outcome):
    for line in shown(outcome).splitlines():
        assert len(line) <= 80 or re.fullmatch(r"[\w ]{8}(/|http://127|\S*mlflow ui |python ).*", line), line


def test_the_sentence_and_the_next_step_are_those_of_the_report(outcome: Outcome):
    assert outcome.answer is not None
    text, step = shown(outcome, terminal=False), outcome.answer.step
    assert outcome.answer.sentences[0].replace("**", "") in text
    assert step.command
    assert text.endswith(f"next    {step.why}\n        {step.command}\n")


def test_the_commands_are_whole_lines(outcome: Outcome):
    pages = mlflow_pages(outcome.folder, "sqlite:///runs.db")
    lines = shown(outcome).splitlines()
    assert f"report  {outcome.report}" in lines
    assert f"MLflow  {pages.command}" in lines
    assert f"        {pages.runs}" in lines
    assert pages.command.endswith("mlflow ui --backend-store-uri sqlite:///runs.db")


def test_on_the_head_of_a_cluster_it_says_how_to_fetch_the_folder(
    outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "ray rsync-down" not in shown(outcome)
    (tmp_path / Path(BOOTSTRAP_CONFIG).name).write_text("cluster_name: demo")  # as `ray up` leaves it there
    assert f"ray rsync-down CLUSTER.yaml {outcome.folder}/ {outcome.folder.name}" in shown(outcome)


def test_where_mlflow_shows_only_the_first_runs_of_a_view_it_is_said(outcome: Outcome):
    pages = MlflowPages("mlflow ui", "http://runs", {"Search": "http://search"})
    for n_trials, expected in ((MLFLOW_ROWS, False), (MLFLOW_ROWS + 1, True)):
        said = [text for _, text in _places(dataclasses.replace(outcome, n_trials=n_trials), pages)]
        assert "http://search (Search)" in said
        assert any("Load more" in text for text in said) == expected


def test_a_simulated_study_says_so_first(outcome: Outcome):
    assert shown(outcome).splitlines()[1].startswith("Simulated: no network was trained.")


def test_a_pipe_gets_plain_lines_one_for_each_task(outcome: Outcome):
    text = shown(outcome, terminal=False)
    assert not CONTROL.search(text)
    assert "─" not in text
    line = r"^rotation: \w+, test % \d+\.\d, untrained % \d+\.\d, difference .*, as chosen, it "
    assert re.search(line, text, re.M)
