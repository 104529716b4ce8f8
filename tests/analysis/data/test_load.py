"""`load`: the same frames from the journal, from parquet and from MLflow, and errors that say what to do."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

import analysis
from analysis.data.frames import export
from analysis.records import PhaseStarted, StudyEnded, StudyStarted, TrialEnded, TrialStarted
from study.execution.journal import Journal
from study.tracking import sync
from tests.analysis.journals import DATASET, INFO, write_study
from trainables.errors import UserError
from trainables.trial import TrialConfig


def marked(folder: Path) -> None:
    """Change the parquet files' content but not what they say they were made from, so that reading them shows."""
    path = folder / "runs.parquet"
    runs = pd.read_parquet(path).assign(study="from parquet")
    metadata = pq.read_schema(path).metadata
    pq.write_table(pa.Table.from_pandas(runs, preserve_index=False).replace_schema_metadata(metadata), path)


def test_a_study_folder_gives_frames_configuration_datasets_and_outcomes(tmp_path: Path):
    study = analysis.load(write_study(tmp_path / "quick"))
    assert (study.name, study.folder) == ("quick", tmp_path / "quick")
    assert study.config["budget_steps"] == 200
    assert study.datasets[DATASET] == INFO
    assert set(study.outcomes["confirm"]["chosen"]) == {"rotation", "simclr", "context_prediction"}
    assert study.runs["phase"].unique().tolist() == ["baselines", "search", "confirm", "evaluate"]
    assert set(study.curves["trial_id"]) <= set(study.runs["trial_id"])


def test_parquet_is_read_while_the_journal_has_not_grown_and_the_journal_after(tmp_path: Path):
    folder = write_study(tmp_path)
    export(folder)
    marked(folder)
    assert analysis.load(folder).runs["study"].unique().tolist() == ["from parquet"]
    assert analysis.load(folder).outcomes["confirm"]["chosen"]
    journal = Journal(folder)
    journal.append(PhaseStarted(phase="report"))
    journal.close()
    assert analysis.load(folder).runs["study"].unique().tolist() == ["quick"]


def test_frames_from_parquet_equal_those_from_the_journal(tmp_path: Path):
    folder = write_study(tmp_path)
    before = analysis.load(folder)
    export(folder)
    after = analysis.load(folder)
    assert_frame_equal(after.runs, before.runs)
    assert_frame_equal(after.curves, before.curves)


def test_a_truncated_parquet_is_rebuilt_from_the_journal_with_one_line_in_the_log(tmp_path: Path, caplog):
    folder = write_study(tmp_path)
    expected = analysis.load(folder)
    export(folder)
    path = folder / "curves.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.INFO):
        assert_frame_equal(analysis.load(folder).curves, expected.curves)
    assert len(caplog.records) == 1
    assert "rebuilt from the journal" in caplog.text


def test_the_parquet_files_of_a_finished_study_are_read_and_not_its_journal(tmp_path: Path, monkeypatch):
    folder = write_study(tmp_path)
    export(folder)
    journal = Journal(folder)
    journal.append(StudyEnded(status="FINISHED"))
    journal.close()
    module = sys.modules["analysis.data.load"]  # which the function of that name hides
    monkeypatch.setattr(module, "frames", lambda events: pytest.fail("the journal was read"))
    assert len(analysis.load(folder).runs) == 47


def test_parquet_files_alone_are_enough_unless_they_are_broken(tmp_path: Path):
    folder = write_study(tmp_path)
    export(folder)
    (folder / "journal.jsonl").unlink()
    study = analysis.load(folder)
    assert (study.name, len(study.runs)) == ("quick", 47)
    (folder / "runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"no journal\.jsonl to rebuild them.*copy the study's folder again"):
        analysis.load(folder)


def test_a_study_that_has_only_begun_loads_empty(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append(StudyStarted(study="new", config={}, datasets={}))
    journal.close()
    study = analysis.load(tmp_path)
    assert (study.name, len(study.runs), len(study.curves)) == ("new", 0, 0)


def test_a_folder_that_is_no_study_names_the_studies_inside(tmp_path: Path):
    write_study(tmp_path / "quick", until="baselines")
    with pytest.raises(UserError, match=r"is not a study: it has neither journal\.jsonl.*it contains studies: quick"):
        analysis.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        analysis.load(tmp_path / "none")


def test_a_broken_line_of_the_journal_is_named(tmp_path: Path):
    folder = write_study(tmp_path, until="baselines")
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"event": "repo\n')
    with pytest.raises(UserError, match=r"journal\.jsonl, line \d+: broken line .*restore the file"):
        analysis.load(folder)


ODD_NAMES = ["with space (copy) @ a+b", f"folder:/{'very/long path/' * 18}"]  # refused, and too long, in MLflow


@pytest.fixture(scope="module", params=[DATASET, *ODD_NAMES], ids=["plain", "odd", "long"])
def tracked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study, on a data set of any name, and the store that has received it."""
    folder = write_study(tmp_path_factory.mktemp("study") / "quick", until="search", tasks=("simclr",))
    journal = folder / "journal.jsonl"
    lines = journal.read_text().replace(f'"{DATASET}"', f'"{request.param}"')
    journal.write_text(lines.replace(f"probe/{DATASET}/", f"probe/{request.param}/"))
    uri = f"sqlite:///{folder.parent / 'mlflow.db'}"
    with contextlib.chdir(folder.parent):  # where MLflow puts the artifacts of such a store
        sync.sync(folder, uri)
    return folder, uri


def test_mlflow_gives_the_frames_of_the_journal(tracked: tuple[Path, str]):
    folder, uri = tracked
    expected, found = analysis.load(folder), analysis.load(uri, study="quick")
    by_trial = expected.runs.set_index("trial_id")
    runs = found.runs.set_index("trial_id").loc[by_trial.index]
    assert set(runs) == set(by_trial)
    assert_frame_equal(runs[list(by_trial)].drop(columns="checkpoint"), by_trial.drop(columns="checkpoint"))
    key = ["trial_id", "step", "metric"]
    curves = [frame.sort_values(key, ignore_index=True) for frame in (found.curves, expected.curves)]
    assert_frame_equal(*curves)
    assert found.config == expected.config
    assert found.datasets == {name: found.datasets[name] | {"counts": INFO["counts"]} for name in expected.datasets}
    assert any(column.startswith("probe/") for column in runs)


def test_an_unknown_study_names_those_that_are_there(tracked: tuple[Path, str]):
    _, uri = tracked
    with pytest.raises(UserError, match="has no study 'other'; it has: quick"):
        analysis.load(uri, study="other")
    with pytest.raises(UserError, match=r'name one: load.*study="NAME"'):
        analysis.load(uri)


def test_a_database_that_is_not_there_is_an_error_and_is_not_made(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        analysis.load(f"sqlite:///{tmp_path}/typo.db", study="quick")
    assert not list(tmp_path.iterdir())


def test_a_server_that_is_away_says_so_in_seconds():
    with pytest.raises(UserError, match=r"cannot be read .* is the tracking server running there"):
        analysis.load("http://127.0.0.1:9", study="quick")


def test_mlflow_keeps_settings_that_only_some_trials_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    book = Journal(tmp_path / "given")
    book.append(StudyStarted(study="given", config={"name": "given"}))
    # A hash of digits that read as a number, and numbers that read as a tuple.
    given = {"weights": "12345e678901", "input_size": 64, "mean": (0.5, 0.25, 0.5), "std": (0.1, 0.2, 0.3)}
    for trial in (TrialConfig("confirm", "rotation", **given, probe_every=50), TrialConfig("confirm", "simclr")):
        book.append(TrialStarted.of(trial))
        book.append(TrialEnded(trial_id=trial.trial_id, status="FINISHED"))
    book.close()
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts of such a store
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sync.sync(tmp_path / "given", uri)
    names = ["weights", "input_size", "mean", "std", "probe_every"]
    loaded = analysis.load(tmp_path / "given"), analysis.load(uri, "given")
    expected, found = (study.runs.set_index("trial_id") for study in loaded)
    assert_frame_equal(found.loc[expected.index, names], expected[names])
    assert expected.iloc[0][names].tolist() == ["12345e678901", 64, "0.5,0.25,0.5", "0.1,0.2,0.3", 50]
