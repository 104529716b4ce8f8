"""Every figure of a level names the split that it was measured on."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

import analysis
from analysis.data.tables import last_values, split_note, split_of
from analysis.figures import (
    accuracy_by_task,
    effects_forest,
    learning_curves,
    pair_heatmap,
    parallel_coordinates,
    probe_by_stage,
    search_scatter,
    size_strength_map,
)
from analysis.findings import Findings, compute_findings, design_runs
from tests.analysis.journals import write_study

PROBE = "probe/shapes/linear"


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = write_study(tmp_path_factory.mktemp("study"), tasks=("rotation",), designs=("size_by_strength",))
    return compute_findings(analysis.load(folder))


@pytest.mark.parametrize(
    ("column", "split", "note"),
    [
        (PROBE, "test", " (test split)"),
        ("probe/linear", "validation", " (validation split)"),
        ("last/probe/linear", "validation", " (validation split)"),
        ("last/val/loss", "validation", ""),
        ("train/loss", "train", ""),
        ("lr", "", ""),
        ("last/grad_norm", "", ""),
    ],
)
def test_a_metric_has_one_split_which_is_named_once(column: str, split: str, note: str):
    runs = pd.DataFrame({PROBE: [0.5, 0.6], "probe_split": ["test", "test"]})
    assert split_of(runs, column) == split
    assert split_note(column, split) == note


def test_runs_of_two_splits_have_none():
    runs = pd.DataFrame({PROBE: [0.5, 0.6, None], "probe_split": ["test", "validation", "test"]})
    assert split_of(runs, PROBE) == ""
    assert split_of(runs.iloc[[1, 2]], PROBE) == "validation"
    assert split_of(runs[[PROBE]], PROBE) == ""


def test_titles_and_axes_name_it(findings: Findings):
    study = findings.study
    searched = last_values(study.runs, study.curves).query("phase == 'search'")
    tested = study.tested
    staged = tested.assign(**{f"{PROBE}/stage1": 0.5})
    cells = design_runs(findings, "rotation", "size_by_strength")
    pairs = pd.DataFrame({"first": ["a", "b", "a"], "second": ["a", "b", "b"], "mean": [0.1, 0.2, 0.3]})
    drawn = {
        "validation": [
            learning_curves(study.curves, searched, "probe/linear", Figure().subplots()),
            search_scatter(searched, ax=Figure().subplots()),
            parallel_coordinates(searched, "last/probe/linear", Figure().subplots()),
            size_strength_map(cells, PROBE, Figure().subplots()),
            pair_heatmap(pairs, Figure().subplots(), metric=PROBE, split="validation"),
        ],
        "test": [
            accuracy_by_task(tested, "shapes", Figure().subplots()),
            probe_by_stage(staged, "shapes", ax=Figure().subplots()),
        ],
    }
    for split, figures in drawn.items():
        for ax in figures:
            assert f"{split} split" in ax.get_title(loc="left").replace("\n", " ")
    forest = effects_forest(findings.effects, ax=Figure().subplots(), metric=PROBE)
    assert forest.get_xlabel().endswith("(validation split)")
