"""The section on the search, where trials without labels ended with an infinite loss."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import analysis
from analysis.findings import Findings, compute_findings
from analysis.records.phases import SEARCH
from analysis.report.blocks import pictures_in
from analysis.report.sections.sensitivity import _no_importance, how_sensitive
from analysis.report.sources import Sources
from tests.analysis.journals import write_study
from tests.analysis.report.pages import texts

COLUMN = "last/val/loss"


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = write_study(tmp_path_factory.mktemp("study"), until="search", tasks=("simclr",), labeled=False)
    return compute_findings(analysis.load(folder))


def with_infinite(findings: Findings, trials: list[str]) -> Findings:
    """Return the findings with an infinite last value of every validation metric of some trials."""
    curves = findings.study.curves.copy()
    last = curves["step"] == curves.groupby("trial_id")["step"].transform("max")
    curves.loc[curves["trial_id"].isin(trials) & last & curves["metric"].str.startswith("val/"), "value"] = np.inf
    return dataclasses.replace(findings, study=dataclasses.replace(findings.study, curves=curves))


def test_trials_whose_loss_became_infinite_are_left_out_of_the_figures(unlabeled: Findings, tmp_path: Path) -> None:
    runs = unlabeled.study.runs
    searched = runs.loc[runs["phase"] == SEARCH, "trial_id"].tolist()
    found = with_infinite(unlabeled, searched[:1])
    pictures = list(pictures_in(how_sensitive(found, Sources(found)).blocks))
    assert "search-simclr" in {each.name for each in pictures}
    for each in pictures:
        assert "inf" not in each.alt
        each.draw()
        plt.close("all")
    none = with_infinite(unlabeled, searched)
    section = how_sensitive(none, Sources(none))
    assert not list(pictures_in(section.blocks))
    assert "|–|–|" in "\n".join(texts(section.blocks))


def test_importance_needs_as_many_finite_values_as_its_computation_does() -> None:
    rng = np.random.default_rng(0)
    runs = pd.DataFrame({"task": "simclr", "phase": "search", "status": "FINISHED", COLUMN: rng.uniform(3, 5, 15)})
    runs["lr"] = 10 ** rng.uniform(-4, -1, 15)
    assert _no_importance(runs, "simclr", COLUMN) == ""
    runs.loc[0, COLUMN] = np.inf
    assert _no_importance(runs, "simclr", COLUMN) == "simclr: too few trials: 14 finished, at least 15 are needed"
    note = analysis.comparisons.importance(runs, COLUMN, "min", evaluator="ped_anova", n_bootstrap=0)["note"]
    assert note.iloc[0].startswith("too few trials: 14 finished")


def test_labels_are_missing_only_where_nothing_was_probed(unlabeled: Findings, findings: Findings) -> None:
    said = " are compared by a pretext metric: simclr. "
    assert f"Without labels, trials{said}" in "\n".join(texts(how_sensitive(unlabeled, Sources(unlabeled)).blocks))
    chosen = {"simclr": {**findings.study.outcomes["confirm"]["chosen"]["simclr"], "metric": "val/accuracy"}}
    study = dataclasses.replace(findings.study, outcomes={"confirm": {"chosen": chosen}})
    by_choice = dataclasses.replace(findings, study=study)
    assert f"\nTrials{said}" in "\n".join(texts(how_sensitive(by_choice, Sources(by_choice)).blocks))
