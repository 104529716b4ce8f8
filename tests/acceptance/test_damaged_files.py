"""Files that a crash or a bad disk has damaged: made good from what is whole, or an error that says what to do."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main as analysis_main
from analysis.records import JOURNAL_FILE, JournalError, TrialEvent, read
from study.cli.commands import main as tools_main
from study.driver import Outcome, run_study
from study.plan.history import History
from tests.acceptance.studies import DriverProcess, assert_mlflow_equals_journal, assert_whole, curves_of
from tests.study.studies import tiny

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CONFIG = tiny(
    budget_steps=9,
    search={"num_samples": 4, "algorithm": "random", "scheduler": "none"},
    resources={"cpu": 2},  # one actor a phase: they take longer to start than such a phase to run
)


def run_here(study: DriverProcess, *, fresh: bool = False) -> Outcome:
    with contextlib.chdir(study.root):
        return run_study(study.config, study.root / "out", fresh=fresh)


@pytest.fixture(scope="module")
def undisturbed(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> DriverProcess:
    """A study that nothing happened to. Not to be changed."""
    study = DriverProcess(tmp_path_factory.mktemp("undisturbed"), CONFIG)
    run_here(study)
    return study


@pytest.fixture
def study(undisturbed: DriverProcess, tmp_path: Path) -> Iterator[DriverProcess]:
    """A copy of the finished study, with its MLflow store."""
    root = tmp_path / "root"
    shutil.copytree(undisturbed.root, root)
    copy = DriverProcess(root, CONFIG)
    # What is remembered of a store goes by its address.
    (copy.folder / "mlflow.json").unlink()
    return copy


@pytest.fixture
def own_sigterm() -> Iterator[None]:
    """Give SIGTERM back to the tests, from whom the command line takes it."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def lines_of(study: DriverProcess) -> list[bytes]:
    return (study.folder / JOURNAL_FILE).read_bytes().splitlines(keepends=True)


def test_half_a_journal_line_and_half_a_checkpoint_are_passed_over_with_a_word(
    study: DriverProcess, undisturbed: DriverProcess, caplog: pytest.LogCaptureFixture
):
    # As a power cut in the middle of the search leaves it, MLflow not having heard of anything.
    lines = lines_of(study)
    cut = next(i for i, line in enumerate(lines) if b'"step":6' in line and json.loads(line)["event"] == "report")
    (study.folder / JOURNAL_FILE).write_bytes(b"".join(lines[: cut + 1]) + lines[cut + 1][:40])
    running = json.loads(lines[cut])["trial_id"]
    newest = study.folder / "checkpoints" / running / "step-000000009.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    for path in (study.folder / "checkpoints").iterdir():
        if path.name not in History.read(study.folder).trials:
            shutil.rmtree(path)
    for path in (*study.root.glob("mlflow.db"), *study.folder.glob("*.parquet"), study.folder / "report.html"):
        path.unlink()

    with caplog.at_level(logging.WARNING):
        run_here(study)
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if "incomplete last line" in line] == [
        f"{study.folder / JOURNAL_FILE}: removed an incomplete last line (40 bytes)"
    ]
    (line,) = [line for line in said if "not a readable checkpoint" in line]
    assert line.startswith(str(newest))
    assert "; the newest readable one is of step " in line
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert curves_of(study.folder) == curves_of(undisturbed.folder)


@pytest.mark.parametrize("garbage", [b"\x00" * 300, b'{"event":"repo', b"[1, 2]", b"\xff\xfe garbage", b""])
def test_garbage_amid_the_journal_is_an_error_that_names_the_line_and_changes_nothing(
    garbage: bytes,
    study: DriverProcess,
    own_sigterm: None,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(study.root)
    lines = lines_of(study)
    lines[6] = garbage + b"\n"
    (study.folder / JOURNAL_FILE).write_bytes(b"".join(lines))
    before = {path: path.read_bytes() for path in study.folder.glob("*.*")}
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 7: broken line .*restore the file .*--fresh"):
        run_here(study)
    for main, command in [(tools_main, "status"), (tools_main, "sync"), (analysis_main, "verdicts")]:
        monkeypatch.setattr(sys, "argv", [command, command, str(study.folder)])
        with pytest.raises(SystemExit) as exit_:
            main()
        said = capfd.readouterr().err
        assert exit_.value.code == 2, said
        assert f"error: {study.folder / JOURNAL_FILE}, " in said
        assert "broken line" in said
        assert "Traceback" not in said
    assert {path: path.read_bytes() for path in before} == before


def test_a_study_with_a_broken_journal_begins_again_where_that_is_asked_for(study: DriverProcess):
    (study.folder / JOURNAL_FILE).write_bytes(b"garbage\n")
    run_here(study, fresh=True)
    assert_whole(study)
    (aside,) = study.folder.parent.glob("tiny.*")
    assert (aside / JOURNAL_FILE).read_bytes() == b"garbage\n"


def test_a_journal_whose_trial_never_started_is_refused(study: DriverProcess):
    lines = [line for line in lines_of(study) if not line.startswith(b'{"event":"trial_started"')]
    (study.folder / JOURNAL_FILE).write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"journal\.jsonl: .* of trial \w+, which never started; restore the file"):
        run_here(study)


def test_truncated_projections_are_made_again_from_the_journal(
    study: DriverProcess, undisturbed: DriverProcess, caplog: pytest.LogCaptureFixture
):
    run_here(study)
    events = list(read(study.folder, TrialEvent))
    for name in ("runs.parquet", "curves.parquet", "report.html", "mlflow.json"):
        path = study.folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        run_here(study)
    assert list(read(study.folder, TrialEvent)) == events
    (line,) = [record.getMessage() for record in caplog.records if "mlflow.json" in record.getMessage()]
    assert "not readable" in line
    assert_whole(study)
    assert_mlflow_equals_journal(study)
    for name in ("runs.parquet", "curves.parquet"):
        found, expected = (pd.read_parquet(each.folder / name) for each in (study, undisturbed))
        assert len(found) == len(expected)


@pytest.mark.parametrize("content", [b"", b"name: [", b"\xff\xfe"])
def test_a_broken_configuration_in_the_folder_is_written_again(content: bytes, study: DriverProcess):
    file = study.folder / "study.yaml"
    file.write_bytes(content)
    assert run_here(study).failed == []  # the journal remembers what the study was started with
    assert file.read_text(encoding="utf-8") == study.config.to_yaml()
