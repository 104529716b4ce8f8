"""Answers: which cell is ranked where, how a cell ended, and what beats an untrained encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.findings import Findings, compute_findings, queries
from tests.analysis.journals import CELLS, DATASET, TRUTH, write_study


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return compute_findings(
        analysis.load(write_study(tmp_path_factory.mktemp("study"), designs=("size_by_strength", "cures")))
    )


def test_cells_are_ranked_against_the_base_by_gain_each_once(findings: Findings):
    ranked = queries.ranked(findings, "rotation")
    assert list(ranked["cell"].head(3)) == ["augmentation_strength=1", "n_images=1000", "augmentation_strength=0.5"]
    assert ranked["cell"].iloc[-1] == "budget_steps=400"
    assert ranked["cell"].is_unique
    assert set(ranked["baseline"]) == {"base"}
    assert list(queries.cures(findings, "rotation")["cell"]) == list(ranked["cell"].head(3))
    assert queries.cures(findings, "simclr").empty


def test_where_less_is_better_the_largest_fall_comes_first(findings: Findings):
    metrics = {task: metric._replace(mode="min") for task, metric in findings.metrics.items()}
    ranked = queries.ranked(dataclasses.replace(findings, metrics=metrics), "rotation")
    assert ranked["cell"].iloc[0] == "budget_steps=400"


def test_a_cell_of_two_designs_has_the_same_numbers_in_both_and_is_ranked_once(findings: Findings):
    twice = findings.effects.query("task == 'rotation' and cell == 'augmentation_strength=1'")
    assert len(twice) == 2
    assert twice["p_holm"].nunique() == 1
    assert len(queries.distinct(twice)) == 1
    assert (queries.ranked(findings, "rotation")["cell"] == "augmentation_strength=1").sum() == 1


def test_the_runner_up_is_the_highest_task_that_is_not_told_apart(findings: Findings):
    metric = f"probe/{DATASET}/linear"
    assert queries.task_rivals(findings, "simclr", metric)["baseline"].tolist() == ["rotation", "context_prediction"]
    apart = findings.between_tasks["baseline"] == "rotation"
    between = findings.between_tasks.assign(answer=findings.between_tasks["answer"].mask(apart, "better"))
    found = queries.task_rivals(dataclasses.replace(findings, between_tasks=between), "simclr", metric)
    assert found["baseline"].tolist() == ["context_prediction", "rotation"]


def test_a_change_from_another_baseline_is_not_one_of_the_base(findings: Findings):
    assert queries.main_baseline(findings, "rotation") == "base"
    others = dataclasses.replace(
        findings,
        effects=findings.effects.query("baseline != 'base'"),
        take_off_changes=findings.take_off_changes.assign(baseline="n_images=1000", rate_difference=1.0),
    )
    assert queries.main_baseline(others, "rotation") == "n_images=1000"
    assert set(queries.ranked(others, "rotation", "n_images=1000")["baseline"]) == {"n_images=1000"}
    assert (others.effects["answer"] == "better").any()
    for rows in (queries.ranked, queries.cures, queries.take_offs):
        assert rows(others, "rotation").empty


def test_how_a_cell_ended_is_the_verdict_on_its_seeds_together(findings: Findings):
    found = queries.convergence(findings, "ablate", "rotation", "lr=0.003")
    assert found is not None
    assert (found.verdict, found.count, found.n_trials, found.others) == ("overfit", 4, 5, {"failed": 1})
    assert found.evidence.startswith("val/accuracy worsened from its best")
    assert found.evidence.endswith("(mean of 4 seeds)")
    assert "more images than 2,000" in found.cure
    alone = dataclasses.replace(findings, cell_verdicts=findings.cell_verdicts.iloc[:0])
    single = queries.convergence(alone, "ablate", "rotation", "base")
    assert single is not None
    assert (single.verdict, single.n_trials) == ("overfit", 1)
    assert queries.convergence(findings, "ablate", "rotation", "no such cell") is None


def test_a_base_that_left_chance_and_diverged_is_not_led_out_of_it(findings: Findings):
    base = (findings.cell_verdicts["task"] == "rotation") & (findings.cell_verdicts["cell"] == "base")
    broken = findings.cell_verdicts.assign(verdict=findings.cell_verdicts["verdict"].mask(base, "diverged"))
    broken["possible"] = broken["possible"].mask(base, "diverged")
    better = queries.cures(findings, "rotation")
    for left, led in ((True, False), (pd.NA, True), (False, True)):
        ends = broken.assign(left_chance=broken["left_chance"].mask(base, left))
        found = dataclasses.replace(findings, cell_verdicts=ends)
        assert queries.leads_out_of_chance(queries.with_ends(found, better)).tolist() == [led] * len(better)


def test_the_base_differs_from_what_was_chosen_in_what_the_study_changed(findings: Findings, tmp_path: Path):
    changes = queries.base_changes(findings, "rotation")
    assert changes == {"n_images": (1000, 200), "augmentation_strength": (1.0, 0.0)}
    same = compute_findings(analysis.load(write_study(tmp_path, designs=("leave_one_out",), tasks=("rotation",))))
    assert queries.base_changes(same, "rotation") == {}
    assert queries.base_changes(same, "simclr") == {}


def test_few_seeds_that_all_lie_above_an_untrained_encoder_are_told_from_those_that_do_not(findings: Findings):
    found = queries.against_untrained(findings, "simclr", DATASET)
    assert found is not None
    assert (found.is_above, found.n_above) == (True, 3)
    assert found.row["mean"] == pytest.approx(TRUTH["simclr"]["linear"], abs=0.03)
    seeds = findings.differences
    below = (seeds["design"] == "pre-training, test split") & (seeds["task"] == "simclr")
    seeds = seeds.assign(difference=seeds["difference"].mask(below & below.cumsum().eq(1), -0.01))
    found = queries.against_untrained(dataclasses.replace(findings, differences=seeds), "simclr", DATASET)
    assert found is not None
    assert (found.is_above, found.n_above) == (False, 2)
    assert queries.against_untrained(findings, "simclr", "voc2012") is None


def test_the_base_of_the_ablation_is_tested_against_untrained_encoders(findings: Findings):
    standing = {task: queries.base_against_untrained(findings, task) for task in CELLS}
    assert {task: found.is_above for task, found in standing.items() if found} == {
        "rotation": True,
        "simclr": True,
        "context_prediction": False,
    }


def test_validation_means_order_tasks_and_test_means_only_where_those_cannot_be_compared(findings: Findings):
    test_means = {"context_prediction": 0.9, "rotation": 0.2, "simclr": 0.1}
    order, split = queries.ordered_tasks(findings, test_means)
    assert (order[0], split) == ("simclr", "validation")
    chosen = {task: dict(choice) for task, choice in queries.chosen(findings).items()}
    chosen["rotation"]["mean"] = 0.99
    assert queries.ordered_tasks(with_chosen(findings, chosen), test_means)[0][0] == "rotation"
    chosen["rotation"]["metric"] = "val/loss"
    for choices in (chosen, {}):
        assert queries.ordered_tasks(with_chosen(findings, choices), test_means) == (list(test_means), "test")


def test_failures_are_those_of_the_ablation(findings: Findings):
    failed = queries.failures(findings, "rotation")
    assert failed["cell"].tolist() == ["lr=0.003"]
    assert queries.failures(findings, "simclr").empty


def with_chosen(findings: Findings, chosen: dict[str, dict[str, object]]) -> Findings:
    outcomes = {**findings.study.outcomes, "confirm": {"chosen": chosen}}
    return dataclasses.replace(findings, study=dataclasses.replace(findings.study, outcomes=outcomes))


def test_rates_are_found_by_cell(findings: Findings):
    rate = queries.rate(findings, "ablate", "rotation", "augmentation_strength=1")
    assert isinstance(rate, pd.Series)
    assert rate["rate"] == 1
    assert queries.rate(findings, "search", "rotation", "") is None
