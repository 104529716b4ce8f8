"""The search of a study, read by Optuna from the file that `export-optuna` writes."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import analysis
from analysis.records import (
    FAILED,
    FINISHED,
    JOURNAL_FILE,
    STOPPED,
    Event,
    Report,
    TrialEnded,
    TrialStarted,
    to_line,
)
from study.export.optuna_storage import export_optuna
from study.provenance import study_started
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError, StorageError


def test_every_search_trial_is_there_with_its_settings_and_value(simulated_study: Path, tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    counts = export_optuna(simulated_study, path)
    loaded = analysis.load(simulated_study)
    runs = loaded.runs.query("phase == 'search'").set_index("trial_id")
    curves = loaded.curves.set_index(["trial_id", "metric"]).sort_values("step")
    assert sum(counts.values()) == len(runs)
    states = {FINISHED: TrialState.COMPLETE, STOPPED: TrialState.PRUNED}
    for name, n_trials in counts.items():
        study = optuna.load_study(study_name=name, storage=f"sqlite:///{path}")
        assert len(study.trials) == n_trials
        (metric,) = study.metric_names or [""]
        for trial in study.trials:
            row = runs.loc[trial.user_attrs["trial_id"]]
            assert name.endswith(f"/{row['task']}")
            assert trial.state == states[row["status"]]
            assert trial.params["lr"] == row["lr"]
            curve = curves.loc[(trial.user_attrs["trial_id"], metric)]
            assert list(trial.intermediate_values) == curve["step"].to_list()
            assert trial.value == curve["value"].iloc[-1]
        assert study.best_trial.state == TrialState.COMPLETE


def test_a_loss_is_minimized_and_a_trial_has_the_state_in_which_it_is(tmp_path: Path) -> None:
    plan = plan_of(tiny(search={"metric": "val/loss"}))
    base, states = plan.search_base("rotation"), {}
    events: list[Event] = [study_started(plan)]

    def ran(state: TrialState, *losses: float, status: str | None) -> None:
        trial = base.replace(lr=0.001 * (2 + len(states)))
        states[trial.trial_id] = state
        reports = [
            Report(trial_id=trial.trial_id, step=step, metrics={"val/loss": loss}) for step, loss in enumerate(losses)
        ]
        events.extend([TrialStarted.of(trial), *reports])
        if status is not None:
            events.append(TrialEnded(trial_id=trial.trial_id, status=status))

    ran(TrialState.COMPLETE, 0.9, 0.5, status=FINISHED)
    ran(TrialState.COMPLETE, 0.3, 0.6, status=FINISHED)
    ran(TrialState.PRUNED, 0.1, status=STOPPED)
    ran(TrialState.FAIL, 0.1, status=FAILED)
    ran(TrialState.FAIL, 0.1, math.nan, status=FINISHED)
    ran(TrialState.FAIL, 0.1, math.inf, status=FINISHED)
    ran(TrialState.FAIL, status=FINISHED)
    ran(TrialState.RUNNING, 0.1, status=None)
    (tmp_path / JOURNAL_FILE).write_bytes(b"".join(map(to_line, events)))
    assert export_optuna(tmp_path, tmp_path / "search.db") == {"tiny/rotation": 8}
    study = optuna.load_study(study_name="tiny/rotation", storage=f"sqlite:///{tmp_path / 'search.db'}")
    assert study.direction == StudyDirection.MINIMIZE
    assert {trial.user_attrs["trial_id"]: trial.state for trial in study.trials} == states
    assert [trial.value for trial in study.trials] == [0.5, 0.6, 0.1, None, None, None, None, None]
    assert study.best_value == 0.5
    assert [len(trial.intermediate_values) for trial in study.trials] == [2, 2, 1, 1, 1, 1, 0, 1]  # the finite ones


@pytest.mark.parametrize("begun", [False, True], ids=["empty journal", "no trial"])
def test_a_study_without_a_search_trial_is_refused(tmp_path: Path, begun: bool) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(to_line(study_started(plan_of(tiny()))) if begun else b"")
    with pytest.raises(ConfigError, match="has no search trial yet; run the study first"):
        export_optuna(tmp_path, tmp_path / "search.db")


def test_a_file_that_exists_is_kept(simulated_study: Path, tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"search.db exists; delete it, or name another file with --output"):
        export_optuna(simulated_study, path)
    assert path.read_text() == "mine"
    with pytest.raises(StorageError, match=r"search\.db: File exists; fix this"):
        export_optuna(simulated_study, path / "again.db")
