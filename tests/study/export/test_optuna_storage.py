"""The search of a study, read by Optuna from the file that `export-optuna` writes."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import analysis
from analysis.records import FINISHED, JOURNAL_FILE, STOPPED, to_line
from study.export.optuna_storage import export_optuna
from study.provenance import study_started
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError


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
