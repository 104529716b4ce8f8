"""The report says whether own pre-training is better than, equal to or worse than pretrained weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import analysis
from analysis.comparisons import BETTER, WEIGHTS_TEST, WORSE
from analysis.comparisons.designs import chosen_against_weights
from analysis.figures import accuracy_by_task, learning_curves
from analysis.findings import Findings, compute_findings
from analysis.findings.gains import task_gains
from analysis.report.blocks import Folded, Table
from analysis.report.plain import answer
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sources import Sources
from study.config.validation import check_config
from tests.analysis.figure_helpers import lines
from tests.analysis.simulated_studies import simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated study of two tasks and weights that are better than both."""
    output = tmp_path_factory.mktemp("weights")
    (output / "given.pth").write_bytes(b"not read by a simulated study")
    config = check_config(
        {
            "name": "weights",
            "simulate": True,
            "dataset": "cifar10",
            "tasks": ["rotation", "simclr"],
            "budget_steps": 400,
            "search": {"num_samples": 2},
            "confirm": {"top_k": 1, "seeds": 5},
            "baselines": [{"weights": str(output / "given.pth"), "encoder": "conv4", "name": "imagenet"}],
        }
    )
    return simulate(config, output)


def test_every_task_is_compared_with_the_weights_at_each_of_its_seeds(findings: Findings) -> None:
    own = findings.against_weights
    assert set(own["task"]) == {"rotation", "simclr"}
    assert set(own["baseline"]) == {"weights:imagenet"}
    assert set(own["n_seeds"]) == {5}
    assert set(own["answer"]) == {WORSE}
    runs = findings.study.runs
    (weights,) = runs.loc[runs["task"].eq("weights:imagenet") & runs["probe_split"].eq("test"), own["metric"].iloc[0]]
    for row in own.itertuples():
        tested = runs.loc[runs["task"].eq(row.task) & runs["probe_split"].eq("test"), row.metric]
        assert row.mean_difference == pytest.approx(tested.mean() - weights)
        assert row.seeds_high - row.seeds_low == pytest.approx(2 * 2.776 * tested.std() / np.sqrt(5), rel=1e-3)
    assert set(findings.every_effect.query("design == @design", local_dict={"design": WEIGHTS_TEST})["task"]) == set(
        own["task"]
    )


def test_the_first_screen_answers_for_the_best_task(folder: Path, findings: Findings) -> None:
    answered = answer(findings, folder)
    row = answered.gains.weights.iloc[0]
    assert row["task"] == answered.gains.rows["task"].iloc[0]
    said = answered.sentences[1]
    assert said.startswith("**Pre-training here is worse than the weights imagenet.** On features of ")
    assert f"**{100 * -row['mean_difference']:.1f} fewer than** on those of the weights imagenet" in said
    assert "(5 seeds)" in said
    assert not any("untrained baseline" in each and "imagenet" in each for each in answered.sentences)


def test_weights_that_are_worse_are_said_to_be(folder: Path) -> None:
    study = analysis.load(folder)
    runs = study.runs.copy()
    given = runs["task"] == "weights:imagenet"
    results = [name for name in runs if name.startswith("probe/cifar10/linear")]
    runs.loc[given, results] = 0.1
    findings = compute_findings(dataclasses.replace(study, runs=runs))
    assert set(findings.against_weights["answer"]) == {BETTER}
    assert (
        answer(findings, folder).sentences[1].startswith("**Pre-training here is better than the weights imagenet.**")
    )


def test_weights_that_are_still_probed_with_few_labels_are_compared_at_every_seed_of_a_task(folder: Path) -> None:
    study = analysis.load(folder)
    (given,) = study.runs.loc[study.runs["task"].eq("weights:imagenet") & study.runs["probe_split"].eq("test")].index
    results = [name for name in study.runs if name.startswith("probe/")]
    unfinished = study.runs.loc[[given]].assign(
        seed=-1, trial_id="another", status="RUNNING", **dict.fromkeys(results, np.nan)
    )
    study = dataclasses.replace(study, runs=pd.concat([study.runs, unfinished], ignore_index=True))
    found = pd.concat([effects for effects, _ in chosen_against_weights(study, 0.01)])
    assert set(found["n_seeds"]) == {5}


def test_the_report_compares_every_task_with_the_weights(findings: Findings) -> None:
    blocks = how_it_compares(findings, Sources(findings)).blocks
    [folded] = [each for each in blocks if isinstance(each, Folded) and "pretrained weights" in each.summary]
    [table] = folded.blocks
    assert isinstance(table, Table)
    assert [row[:2] for row in table.rows] == [["rotation", "imagenet"], ["simclr", "imagenet"]]
    assert {row[3] for row in table.rows} == {WORSE}


def test_figures_draw_weights_as_a_line_of_their_name(folder: Path) -> None:
    study = analysis.load(folder)
    tested = study.tested
    assert any(name.startswith("imagenet, linear") for name in lines(accuracy_by_task(tested, "cifar10")))
    confirmed, baselines = (
        study.runs.query("phase == @phase", local_dict={"phase": each}) for each in ("confirm", "baselines")
    )
    ax = learning_curves(study.curves, confirmed.query("task == 'rotation'"), "probe/linear", baselines=baselines)
    assert any(name.startswith("imagenet, final probe") for name in lines(ax))


def test_weights_are_a_level_of_the_plot_and_no_pretext_task(findings: Findings) -> None:
    gains = task_gains(findings)
    assert "weights:imagenet" in gains.levels
    assert set(gains.rows["task"]) == {"rotation", "simclr"}
    assert not findings.verdicts["task"].str.startswith("weights:").any()
