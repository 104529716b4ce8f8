"""Label-free measures of a study, and what a choice by them costs in the library of real trials."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import analysis
from analysis.comparisons.label_free import MEASURES, N_CHOICES, N_TRIALS, REGRETS, has_labels, label_free
from analysis.report import write_report
from tests.analysis.journals import write_study
from tests.analysis.label_free_regret import choices, labeled_trials, regrets


def test_the_stated_regrets_are_those_of_the_library():
    trials = labeled_trials()
    chosen = choices(trials)
    assert (len(trials), len(chosen)) == (N_TRIALS, N_CHOICES)
    found = regrets(chosen)
    assert found.keys() == REGRETS.keys()
    for way, stated in REGRETS.items():
        assert stated == pytest.approx(found[way], abs=0.002), way


def test_each_task_has_the_means_of_its_chosen_configuration(tmp_path: Path):
    study = analysis.load(write_study(tmp_path / "quick"))
    assert has_labels(study)
    found = label_free(study)
    assert set(found.index) == set(study.outcomes["confirm"]["chosen"])
    chosen = study.outcomes["confirm"]["chosen"]["rotation"]["trial_ids"]
    last = (
        study.curves[study.curves["trial_id"].isin(chosen)].sort_values("step").groupby(["trial_id", "metric"]).last()
    )
    for name in ("val/accuracy", *MEASURES):
        values = last["value"].unstack().get(name)
        shown = found.loc["rotation", "value" if name == "val/accuracy" else name]
        assert shown == pytest.approx(values.mean()) if values is not None else shown != shown
    assert found.loc["rotation", "seeds"] == len(chosen)


@pytest.mark.core
@pytest.mark.slow
def test_the_report_of_a_study_without_labels_says_what_a_choice_by_each_measure_costs(tmp_path: Path):
    page = write_report(write_study(tmp_path / "bare", labeled=False, tasks=("rotation", "simclr"))).read_text()
    words = re.sub("<[^>]*>", "", page).replace("\N{MINUS SIGN}", "-")
    assert "this study tells whether each task is learned" in words
    for cost in REGRETS.values():
        assert f"{cost.mean:.3f} [{cost.low:.3f}, {cost.high:.3f}]" in words
    labeled = write_report(write_study(tmp_path / "labeled", tasks=("rotation",))).read_text()
    assert "Without labels" not in labeled
