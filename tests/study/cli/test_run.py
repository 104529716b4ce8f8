"""The command line that runs a study: exit codes, and one line that says what is wrong."""

from __future__ import annotations

import functools
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from analysis.records import StudyStarted
from study.cli import launch
from study.cli import run as run_command
from study.config.schema import StudyConfig
from study.driver import Outcome
from study.execution import cluster
from study.execution.journal import Journal
from tests.conftest import REPOSITORY
from tests.study.cli.conftest import Command
from tests.study.studies import tiny
from trainables.data import Splits, load_splits
from trainables.trial import TrialConfig


@pytest.fixture
def run(call_main: Command) -> Command:
    """Call `python study/run.py ...`."""
    return functools.partial(call_main, run_command.main)


@pytest.fixture
def study_file(tmp_path: Path) -> str:
    """A tiny study's YAML."""
    (tmp_path / "tiny.yaml").write_text(tiny(max_train=250).to_yaml())
    return "tiny.yaml"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["quik"], "'quik' is neither a YAML file nor a preset; did you mean 'quick'? known: ablation, cifar10,"),
        (["nowhere.yaml"], "nowhere.yaml: no such file"),
        (["quick", "--set", "search.num_sample=3"], "search.num_sample: unknown key; did you mean 'num_samples'?"),
        (["quick", "--set", "budget_steps"], "--set budget_steps: must be KEY=VALUE"),
        (["quick", "--set", "budget_steps=soon"], "budget_steps = 'soon': input should be a valid integer"),
        (["quick", "--set", "n_images=["], "--set n_images: not valid YAML"),
        (["quick", "--set", "name=../up"], "name = '../up': string should match pattern"),
        (["quick", "--tasks", "rotation,jigsaw"], "tasks.1 = 'jigsaw': input should be 'rotation',"),
        (["cifar10"], "cifar10 is read from a data root, but none was given; add --data-root DIR"),
        (["cifar10", "--data-root", "nowhere"], "nowhere is not a folder; give an existing one with --data-root DIR"),
        (["quick", "--set", "n_images=100000"], "n_images = 100000, but shapes has"),
    ],
)
def test_what_the_user_got_wrong_is_said_in_one_line_with_exit_code_2(
    run: Command, arguments: list[str], complaint: str
):
    answer = run(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert complaint in answer.err
    assert not Path("studies").exists()


def test_an_option_that_does_not_exist_is_refused(run: Command):
    answer = run("quick", "--dryrun")
    assert answer.code == 2
    assert "--dry-run" in answer.err


def test_a_dry_run_prints_the_plan_and_touches_nothing(run: Command, study_file: str):
    answer = run(study_file, "--dry-run")
    assert (answer.code, answer.err) == (0, "")
    for part in ("tiny: shapes", "baselines", "search", "confirm", "evaluate", "18", "what groups of workers"):
        assert part in answer.out
    assert re.search(r"^rotation: search\.space leaves out .*batch_size \(always 8\)", answer.out, re.MULTILINE)
    assert sorted(path.name for path in Path().iterdir()) == ["tiny.yaml"]


def test_a_dry_run_as_json_is_one_object_per_phase(run: Command, study_file: str):
    answer = run(study_file, "--dry-run", "--json", "--set", "confirm.seeds=3")
    phases = {phase["phase"]: phase for phase in json.loads(answer.out)}
    assert {name: phase["trials"] for name, phase in phases.items()} == {
        "start": 0,
        "baselines": 4,
        "search": 3,
        "confirm": 3,
        "evaluate": 7,
        "report": 0,
    }
    assert phases["search"]["steps"] == 3 * 6
    assert 0 < phases["search"]["low"] < phases["search"]["seconds"] < phases["search"]["high"]


def test_a_dry_run_of_a_study_that_has_begun_shows_the_sizes_that_will_run(run: Command, study_file: str):
    """Its sizes are fixed: another time budget only says how long the driver runs."""
    began = tiny(max_train=250, budget_hours=3, confirm={"seeds": 7})
    journal = Journal(Path("studies/tiny"))
    journal.append(StudyStarted(study="tiny", config=began.model_dump(mode="json"), config_hash=began.config_hash))
    journal.close()
    for options in (["--hours", "0.0001"], ["--hours", "10"], []):
        answer = run(study_file, "--dry-run", *options)
        assert (answer.code, answer.err) == (0, ""), options
        assert "sized to" not in answer.out
        phases = {phase["phase"]: phase for phase in json.loads(run(study_file, "--dry-run", "--json", *options).out)}
        assert phases["confirm"]["trials"] == 7
    assert "sized to 10 hours" in run(study_file, "--dry-run", "--hours", "10", "--fresh").out


SERIES = """
name: two
parts:
  first: &first
    {{max_train: 250, budget_steps: 4, report_every: 2, tasks: [rotation], encoder: {{width: 4}},
      search: {{space: {{lr: {{uniform: [0.001, 0.01]}}}}}}}}
  second: {{<<: *first, report_every: 4, dataset: {dataset}}}
"""


@pytest.mark.core
@pytest.mark.slow
def test_a_dry_run_of_a_series_shows_the_plan_of_every_part(run: Command):
    Path("two.yaml").write_text(SERIES.format(dataset="shapes"))
    answer = run("two.yaml", "--dry-run", "--json", "--set", "second.confirm.seeds=5")
    plans = json.loads(answer.out)
    assert list(plans) == ["first", "second"]
    confirm = {part: next(phase for phase in phases if phase["phase"] == "confirm") for part, phases in plans.items()}
    assert (confirm["first"]["trials"], confirm["second"]["trials"]) == (2 * 3, 2 * 5)
    shown = run("two.yaml", "--dry-run").out
    assert re.search(r"^two: .* (minutes|seconds) for all 2 parts$", shown, re.MULTILINE)
    assert shown.count("rotation: search.space leaves out") == 1


def test_a_series_with_a_part_that_cannot_run_is_refused_before_any_part_runs(run: Command):
    Path("two.yaml").write_text(SERIES.format(dataset="nowhere"))
    answer = run("two.yaml")
    assert answer.code == 2
    assert answer.err.startswith("error: unknown data set 'nowhere'")
    assert not Path("studies").exists()


def test_the_parts_of_a_series_run_on_what_was_loaded_to_check_them_alike_data_sets_once(
    run: Command, monkeypatch: pytest.MonkeyPatch
):
    Path("two.yaml").write_text(SERIES.format(dataset="shapes"))
    loaded, given = [], {}

    def load(name: str, **options: Any) -> Splits:
        loaded.append(name)
        return load_splits(name, **options)

    def record(config: StudyConfig, *_: object, datasets: dict[str, Splits], **__: object) -> Outcome:
        given[config.name] = datasets["shapes"]
        return Outcome(Path("f"), Path("r"), {})

    monkeypatch.setattr(launch, "load_splits", load)
    monkeypatch.setattr(launch, "run_study", record)
    assert run("two.yaml").code == 0
    assert loaded == ["shapes"]
    assert given["two-first"] is given["two-second"]
    assert run("two.yaml", "--set", "second.max_train=300").code == 0
    assert loaded == ["shapes"] * 3
    assert len(given["two-first"].pretext_train) < len(given["two-second"].pretext_train)


def test_what_cannot_run_is_refused_by_a_dry_run_too(run: Command, study_file: str):
    answer = run(study_file, "--dry-run", "--set", "defaults.rotation.batch_size=4096")
    assert answer.code == 2
    assert "batch_size 4096 is more than the" in answer.err


def test_the_self_tests_show_each_value_with_its_bound(run: Command, study_file: str):
    answer = run(study_file, "--self-test", "--dry-run")
    assert answer.code == 0
    assert answer.err.count("passed") == 3
    assert answer.err.count("rotation") == 3
    assert "failed" not in answer.err


@pytest.mark.core
@pytest.mark.slow
def test_a_task_that_cannot_pass_its_self_tests_ends_the_command_before_the_study(run: Command, study_file: str):
    # A single patch does not show its position, so the task cannot overfit one batch.
    hopeless = [
        "--set",
        "defaults={}",
        "--set",
        "task_options.context_prediction={head_hidden: 1, neighbor_only: true}",
    ]
    answer = run(study_file, "--self-test", "--tasks", "context_prediction", *hopeless)
    assert answer.code == 1
    assert "failed" in answer.err
    assert "[red]" not in answer.err
    assert not Path("studies").exists()


CHOICE = {
    "config": TrialConfig(phase="confirm", task="rotation", lr=0.004, batch_size=8).to_dict(),
    "metric": "probe/linear",
    "mean": 0.625,
    "seeds": [1, 2],
}


@pytest.mark.parametrize(("failed", "code"), [([], 0), (["abc", "def"], 1)])
def test_a_study_ends_with_its_report_and_with_exit_code_1_where_trials_failed(
    run: Command, monkeypatch: pytest.MonkeyPatch, failed: list[str], code: int
):
    outcome = Outcome(Path("studies/quick"), Path("studies/quick/report.html"), {"rotation": CHOICE}, failed)
    monkeypatch.setattr(launch, "run_study", lambda *_, **__: outcome)
    answer = run("quick")
    assert answer.code == code
    assert "studies/quick/report.html" in answer.out
    assert ("2 trials failed; the report says why" in answer.err) == bool(failed)

    as_json = run("quick", "--json")
    assert as_json.code == code
    assert json.loads(as_json.out) == {
        "folder": "studies/quick",
        "report": "studies/quick/report.html",
        "failed": failed,
        "chosen": {"rotation": CHOICE},
        "unfinished": [],
        "tracked": True,
    }


def test_a_study_ends_with_where_to_look_in_full_and_without_a_password(run: Command, monkeypatch: pytest.MonkeyPatch):
    """`ray submit` runs it in the home folder of another machine."""
    outcome = Outcome(Path("studies/quick"), Path("studies/quick/report.html"), {})
    monkeypatch.setattr(launch, "run_study", lambda *_, **__: outcome)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    here = Path.cwd()
    lines = run("quick").out.splitlines()
    assert f"report  {here}/studies/quick/report.html" in lines
    assert f"data    {here}/studies/quick" in lines
    assert any(re.fullmatch(r"MLflow  (\S*/)?mlflow ui", line) for line in lines)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:secret@db/mlflow")
    secret = run("quick").out
    assert "@db/mlflow" in secret
    assert "secret" not in secret


def test_a_study_that_mlflow_lags_behind_says_how_to_catch_up(run: Command, monkeypatch: pytest.MonkeyPatch):
    outcome = Outcome(Path("studies/quick"), Path("report.html"), {}, tracked=False)
    monkeypatch.setattr(launch, "run_study", lambda *_, **__: outcome)
    assert "python -m study sync studies/quick" in run("quick").err


def test_an_interrupted_study_says_how_to_resume_and_exits_with_130(run: Command, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> Outcome:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("SIGTERM was ignored")

    timeouts: list[float] = []
    monkeypatch.setattr(launch, "run_study", interrupted)
    # The tests' Ray keeps running.
    monkeypatch.setattr(launch.cluster, "shutdown", lambda timeout_s: not timeouts.append(timeout_s))
    monkeypatch.setattr(sys, "orig_argv", ["python", "study/run.py", "my study.yaml", "--fresh", "--output", "out"])
    answer = run("quick")
    assert answer.code == 130
    assert timeouts == [cluster.SHUTDOWN_PATIENCE_S]
    # Without `--fresh`, which would start the study anew.
    assert answer.err == "interrupted; to resume, run: python study/run.py 'my study.yaml' --output out\n"


def test_options_reach_the_study(run: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = {}

    def record(config: StudyConfig, output: Path, **options: object) -> Outcome:
        asked.update(config=config, output=output, **options)
        return Outcome(Path("f"), Path("r"), {})

    monkeypatch.setattr(launch, "run_study", record)
    command = ["quick", "--tasks", "simclr, rotation", "--data-root", "data", "--output", "there", "--fresh"]
    assert run(*command, "--download", "--set", "confirm.seeds=5").code == 0
    assert asked["config"].tasks == ["simclr", "rotation"]
    assert asked["config"].data_root == str(tmp_path / "data")
    assert asked["config"].confirm.seeds == 5
    assert (asked["output"], asked["fresh"], asked["download"]) == (Path("there"), True, True)


@pytest.mark.core
@pytest.mark.slow
def test_warnings_reach_standard_error(tmp_path: Path):
    """In a process of its own, since some libraries mute the root logger when they are imported."""
    for index in range(40):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.png").write_bytes(b"")
    config = tiny(
        dataset=f"folder:{tmp_path}", max_train=None, on_bad_image="skip", defaults={"rotation": {"batch_size": 2}}
    )
    (tmp_path / "study.yaml").write_text(config.to_yaml())
    command = [sys.executable, "study/run.py", str(tmp_path / "study.yaml"), "--dry-run"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=REPOSITORY)
    assert ended.returncode == 0, ended.stderr
    assert "1 of 41 images" in ended.stderr
    assert "WARNING" in ended.stderr


@pytest.mark.core
@pytest.mark.slow
def test_the_script_copied_alone_finds_the_installed_package_and_never_its_neighbors(tmp_path: Path):
    """`ray submit` copies the script to the home folder, where a user may have modules of any name."""
    shutil.copy(REPOSITORY / "study" / "run.py", tmp_path / "run.py")
    for neighbor in ("study", "trainables", "config", "typer", "yaml", "json", "journal", "history"):
        (tmp_path / f"{neighbor}.py").write_text(f"raise SystemExit('{neighbor} of the home folder was imported')")
    command = [sys.executable, str(tmp_path / "run.py"), "quik"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=tmp_path)
    assert ended.stderr.startswith("error: 'quik' is neither"), ended.stderr
    assert ended.returncode == 2


def test_the_reference_recipes_that_cannot_run_are_listed_with_the_reason(run: Command, tmp_path: Path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "data/cifar10" / part / name).mkdir(parents=True)
            for shade in range(4):
                color = (40 * shade, len(name + part), ord(name[0]))
                Image.new("RGB", (32, 32), color).save(tmp_path / "data/cifar10" / part / name / f"{shade}.png")
    done = run("reference", "--data-root", "data", "--json")
    recipes = {each["recipe"]: each for each in json.loads(done.out)["recipes"]}
    assert done.code == 0
    assert {each["answer"] for each in recipes.values()} == {"NOT RUN"}
    assert recipes["conv4-rotation"]["reason"] == "needs 50,000 training images, and there are 8"
    assert "NOT RUN" in (tmp_path / "studies/reference/report.html").read_text()


def test_the_reference_recipes_refuse_the_options_of_a_study(run: Command):
    assert "--set: the reference recipes are fixed" in run("reference", "--set", "budget_steps=1").err
    assert "add --data-root DIR" in run("reference").err
