"""A study writes below its output folder alone, runs nothing that it finds there, and trusts no other trial's state."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.data.load import load
from analysis.records import FINISHED
from study.config.loading import load_config
from study.config.validation import check_config
from study.driver import run_study
from study.folder import open_folder
from study.plan.history import History
from tests.acceptance.studies import curves_of
from tests.study.studies import plan_of, splits_of, tiny
from trainables.errors import CheckpointError, ConfigError, UserError
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import trained_encoder
from trainables.training import checkpoint
from trainables.trial import TrialConfig


class Trap:
    """An object that makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The folder that a trap makes."""
    return tmp_path / "sprung"


def plant(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def state_of(trial: TrialConfig, step: int, **more: Any) -> dict[str, Any]:
    return {"trial_id": trial.trial_id, "step": step, "task": {}, "optimizer": {}, **more}


# --- code ----------------------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_that_was_planted_in_a_study_folder_is_run_or_taken_for_a_trials_own(
    local_ray: None, tmp_path: Path, sprung: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    search = {"num_samples": 3, "algorithm": "random", "scheduler": "none"}
    config = tiny(search=search, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    folder = tmp_path / "out" / config.name
    first, second, third = plan_of(config).enumerated("rotation")

    pickled = pickle.dumps(Trap(sprung))
    trap = checkpoint.to_bytes(state_of(second, config.budget_steps, extra=Trap(sprung)))
    wonder = {"metrics": {"probe/linear": 2.0}, "facts": {"primary_metric": "probe/linear", "primary_mode": "max"}}
    foreign = checkpoint.to_bytes(state_of(first, config.budget_steps, **wonder))
    for trial, content in ((first, pickled), (second, trap), (third, foreign)):
        plant(folder / "checkpoints" / trial.trial_id / f"step-{config.budget_steps:09d}.pt", content)
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state.pkl", "experiment_state-2026-01-01_00-00-00.json"):
        plant(folder / "tune" / "search-rotation.1" / name, pickled)
    for name in ("runs.parquet", "curves.parquet", "mlflow.json", "verdicts.csv", "report.html"):
        plant(folder / name, pickled)

    outcome = run_study(config, tmp_path / "out")

    assert not sprung.exists()
    assert outcome.failed == []
    trials, curves = History.read(folder).trials, curves_of(folder)
    for trial in (first, second, third):
        assert trials[trial.trial_id].status == FINISHED
        assert sorted(curves[trial.trial_id]) == [0, 3, 6]
        assert all(report["probe/linear"] <= 1 for report in curves[trial.trial_id].values())
    for content in (pickled, archived_pickle(trap)):  # and the traps were no duds
        pickle.loads(content)
        sprung.rmdir()


def archived_pickle(content: bytes) -> bytes:
    """Return the pickle inside a checkpoint's archive, with its tensors' references left out: there are none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        return archive.read(name)


@pytest.mark.parametrize("kind", ["pickle", "ray.data.arrow_pickled_object", "arrow.py_extension_type"])
def test_frames_that_hold_code_are_refused_or_read_as_bytes(tmp_path: Path, sprung: Path, kind: str):
    """Somebody else's study folder, without a journal: its parquet files are all there is to read."""
    pytest.importorskip("ray.data")  # where it is imported, Ray unpickles what a column of its type holds
    pickled = pickle.dumps(Trap(sprung))
    field = pa.field(
        "trial_id", pa.large_binary(), metadata={"ARROW:extension:name": kind, "ARROW:extension:metadata": pickled}
    )
    table = pa.table([pa.array([pickled], pa.large_binary())], schema=pa.schema([field]))
    for name in ("runs.parquet", "curves.parquet"):
        if kind == "pickle":
            (tmp_path / name).write_bytes(pickled)
        else:
            pq.write_table(table, tmp_path / name)
    with pytest.raises(UserError, match=r"\.parquet|parquet files"):
        load(tmp_path)
    assert not sprung.exists()


def test_a_study_file_with_a_tag_that_would_run_code_is_refused(tmp_path: Path, sprung: Path):
    config = tiny()
    (tmp_path / config.name).mkdir()
    (tmp_path / config.name / "study.yaml").write_text(f"name: !!python/object/apply:os.mkdir ['{sprung}']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(str(tmp_path / config.name / "study.yaml"))
    open_folder(config, tmp_path)
    assert not sprung.exists()
    assert "!!python" not in (tmp_path / config.name / "study.yaml").read_text()


# --- other trials' states ------------------------------------------------------------------------------------------


def test_the_encoder_of_another_trial_is_not_evaluated_in_the_place_of_ones_own(tmp_path: Path):
    wanted = TrialConfig(phase="confirm", task="rotation", width=4, seed=1)
    other = wanted.replace(seed=2)
    store = CheckpointStore(str(tmp_path))
    plant(tmp_path / wanted.trial_id / "step-000000006.pt", checkpoint.to_bytes(state_of(other, 6)))
    evaluated = wanted.replace(phase="evaluate", init_from=wanted.trial_id)
    with pytest.raises(CheckpointError, match=f"no checkpoint of trial {wanted.trial_id}"):
        trained_encoder(evaluated, store, splits_of("shapes", 150))


@pytest.mark.parametrize(
    "change", [{"lr": 0.5}, {"seed": 7}, {"width": 8}, {"batch_size": 9}, {"options": {"x": 1}}], ids=str
)
def test_any_change_of_a_trials_configuration_makes_its_old_state_another_trials(
    tmp_path: Path, change: dict[str, Any]
):
    before = TrialConfig(phase="search", task="rotation")
    store = CheckpointStore(str(tmp_path))
    store.save(before.trial_id, state_of(before, 3))
    after = before.replace(**change)
    assert store.load(after.trial_id) is None
    (tmp_path / before.trial_id).rename(tmp_path / after.trial_id)
    assert store.load(after.trial_id) is None
    with pytest.raises(CheckpointError, match=f"belongs to trial {before.trial_id}, not to {after.trial_id}"):
        store.read(str(tmp_path / after.trial_id / "step-000000003.pt"), after.trial_id)


# --- names ---------------------------------------------------------------------------------------------------------


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "name", ["..", "-rf", "a/../../b", "a\0b", "/tmp/x", "C:\\x", "~root", "$HOME", "a\nb", ".", "…", "a:b"]
)
def test_a_study_whose_name_is_more_than_a_name_is_refused_and_nothing_is_written(tmp_path: Path, name: str):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError, match=r"^name = "):
        run_study(check_config({"name": name}), tmp_path / "out")
    assert files_below(tmp_path) == {Path("out")}


@pytest.mark.parametrize("name", ["con", "NUL.txt", "a..b", "a-", "x" * 64])
def test_an_odd_but_plain_name_is_a_folder_of_the_output(tmp_path: Path, name: str):
    folder = open_folder(tiny(name=name), tmp_path / "out")
    assert folder == tmp_path / "out" / name
    assert files_below(tmp_path) == {Path("out"), Path("out", name), Path("out", name, "study.yaml")}


def test_starting_afresh_moves_a_link_aside_and_touches_nothing_behind_it(tmp_path: Path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "study.yaml").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny").symlink_to(tmp_path / "disk")
    folder = open_folder(tiny(), tmp_path / "out", fresh=True)
    assert not folder.is_symlink()
    assert (tmp_path / "disk" / "study.yaml").read_text() == "precious"
    assert files_below(tmp_path / "disk") == {Path("study.yaml")}
