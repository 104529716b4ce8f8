"""Trials are ranked by one rule, ties included, in tables, figures and phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import analysis
from analysis.data.ranking import rank_trials
from analysis.data.tables import last_values
from analysis.figures import parallel_coordinates
from analysis.findings import compute_findings
from analysis.records import Facts, Report, TrialEnded, TrialStarted, read
from analysis.report.sections.sensitivity import how_sensitive
from analysis.report.sources import Sources
from study.execution.journal import Journal
from study.plan.history import History, finished
from study.plan.ranking import ranked
from tests.analysis.journals import write_study
from tests.analysis.report.pages import texts
from trainables.trial import TrialConfig

COLUMN = "last/probe/linear"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search in which four trials tie in the probe, two of them in their own metric; higher ones did not finish."""
    folder = write_study(tmp_path_factory.mktemp("study"), until="baselines", tasks=("rotation",))
    journal = Journal(folder)
    for lr, probe, own, status in (
        (0.01, 0.5, 0.6, "FINISHED"),
        (0.02, 0.5, 0.7, "FINISHED"),
        (0.03, 0.5, 0.7, "FINISHED"),
        (0.04, 0.5, 0.65, "FINISHED"),
        (0.05, 0.9, 0.9, "STOPPED"),
        (0.06, 0.95, 0.9, "FAILED"),
    ):
        trial = TrialConfig("search", "rotation", lr=lr)
        journal.append(TrialStarted.of(trial))
        facts = {"primary_metric": "val/accuracy", "primary_mode": "max", "chance": {"val/accuracy": 0.25}}
        journal.append(Facts(trial_id=trial.trial_id, n_validation=500, **facts))
        journal.append(Report(trial_id=trial.trial_id, step=100, metrics={"probe/linear": probe, "val/accuracy": own}))
        journal.append(TrialEnded(trial_id=trial.trial_id, status=status, reason="", steps=100, results={}, wall_s=1.0))
    journal.close()
    return folder


def test_table_figure_and_phase_name_the_same_best_trial_of_several_that_tie(folder: Path):
    history = History()
    for event in read(folder):
        history.observe(event)
    phase = [
        record.trial.trial_id for record in ranked(finished(history.of("search", "rotation")), "probe/linear", "max")
    ]
    study = analysis.load(folder)
    runs = last_values(study.runs, study.curves).query("phase == 'search'")
    table = rank_trials(runs, COLUMN)
    assert table["trial_id"].tolist()[:4] == phase
    assert table["lr"].tolist()[2:] == [0.04, 0.01, 0.05]
    assert set(table["lr"].head(2)) == {0.02, 0.03}
    best = table.iloc[0]
    findings = compute_findings(study)
    text = "\n".join(texts(how_sensitive(findings, Sources(findings)).blocks))
    assert f"|lr={best['lr']:.3g}|0.500|" in text
    ax = parallel_coordinates(runs, COLUMN, Figure().subplots())
    [line] = [line for line in ax.lines if line.get_label() == "the best trial"]
    log = np.log(runs["lr"].to_numpy())
    height = (np.log(best["lr"]) - log.min()) / (log.max() - log.min())
    assert np.asarray(line.get_ydata())[0] == pytest.approx(height)


def test_the_order_in_which_trials_started_does_not_matter(folder: Path):
    study = analysis.load(folder)
    runs = last_values(study.runs, study.curves).query("phase == 'search'")
    expected = rank_trials(runs, COLUMN)["trial_id"].tolist()
    assert rank_trials(runs.iloc[::-1], COLUMN)["trial_id"].tolist() == expected


def test_the_best_trial_follows_the_direction_of_the_metric(tmp_path: Path):
    study = analysis.load(write_study(tmp_path, until="search", tasks=("simclr",)))
    runs = last_values(study.runs, study.curves).query("phase == 'search'")
    done = runs.loc[runs["status"] == "FINISHED"]
    assert rank_trials(runs, "last/val/loss").index[0] == done["last/val/loss"].idxmin()
    assert rank_trials(runs, COLUMN).index[0] == done[COLUMN].idxmax()
    assert rank_trials(runs, "last/no/such").empty
    assert rank_trials(pd.DataFrame(), COLUMN).empty
