"""A report compares with chance, raw pixels and random initialization, and states its cost."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import analysis
from analysis.findings import Findings
from analysis.report.blocks import Folded, Gallery, Table
from analysis.report.sections.baselines import how_it_compares
from analysis.report.sources import Sources
from tests.analysis.journals import TRUTH
from tests.analysis.report.pages import Page, texts


def test_test_accuracies_stand_beside_their_spread_chance_and_baselines(folder: Path, page: Page):
    runs = analysis.load(folder).tested
    for task in (*TRUTH, "random_init"):
        values = runs.loc[runs["task"] == task, "probe/shapes/linear"]
        assert f"{values.mean():.3f} ± {values.std():.3f} (3)" in page.text
    pixels = runs.loc[runs["task"] == "raw_pixels", "probe/shapes/linear"].item()
    assert f"{pixels:.3f} (1)" in page.text
    assert "Fewer than 5 seeds: means and every seed are shown" in page.text


def test_a_test_is_called_missing_only_for_the_tasks_without_one(findings: Findings):
    few = "Fewer than 5 seeds: means and every seed are shown, without a test."
    assert few in "\n".join(texts(how_it_compares(findings, Sources(findings)).blocks))
    own = findings.against_untrained
    tested = (own["design"] == "pre-training, test split") & (own["task"] == "simclr")
    found = own.assign(answer=own["answer"].mask(tested, "better"))
    changed = dataclasses.replace(findings, against_untrained=found)
    text = "\n".join(texts(how_it_compares(changed, Sources(changed)).blocks))
    assert few not in text
    assert "Fewer than 5 seeds of rotation and context_prediction: means and every seed are shown" in text


def test_pre_training_is_tested_against_untrained_encoders_in_the_ablation(findings: Findings, page: Page):
    row = findings.against_untrained.query("design == 'pre-training' and task == 'rotation' and cell == 'base'").iloc[0]
    numbers = f"+{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], 5 seeds"
    answer = f"rotation better, linear probe on shapes (validation split) {numbers}"
    assert f"Did pre-training help at all? The ablation's base compared with untrained encoders: {answer}" in page.text
    assert "Across tasks: the average of each cell" in page.text


def test_masks_and_stages_are_reported_if_they_were_probed(findings: Findings):
    runs = findings.study.tested
    columns = {"miou": 0.31, "miou_chance": 0.04, "iou/background": 0.9, "iou/cat": 0.123, "miou/stage1": 0.2}
    runs = runs.assign(**{f"probe/voc/{name}": value for name, value in columns.items()})
    segmented = dataclasses.replace(findings, study=dataclasses.replace(findings.study, runs=runs))
    blocks = how_it_compares(segmented, Sources(segmented)).blocks
    probes = next(block for block in blocks if isinstance(block, Table))
    assert probes.head[-1] == "voc miou"
    assert {row[0]: row[-1] for row in probes.rows}["chance"] == "0.040"
    alts = [shown.alt for block in blocks if isinstance(block, Gallery) for shown in block.pictures]
    assert any(alt.startswith("Test mIoU on voc by pretext task: rotation miou 0.310") for alt in alts)
    assert any("segmentation probe (mIoU) of every stage on voc: " in alt for alt in alts)
    [classes] = [block for block in blocks if isinstance(block, Folded) and "class by class" in block.summary]
    assert [row[:2] for row in classes.blocks[0].rows] == [["background", "0.900"], ["cat", "0.123"]]


def test_a_mean_below_a_baseline_is_reported_as_a_mean_and_not_as_a_test(findings: Findings):
    runs = findings.study.runs.copy()
    own = (runs["task"] == "rotation") & (runs["probe_split"] == "test")
    runs.loc[own, "probe/shapes/knn"] = 0.1
    lowered = dataclasses.replace(findings, study=dataclasses.replace(findings.study, runs=runs))
    text = "\n".join(texts(how_it_compares(lowered, Sources(lowered)).blocks))
    [warning] = [
        line for line in text.splitlines() if line.startswith("Test-split mean not above an untrained baseline")
    ]
    assert "rotation 0.100, random_init 0.3" in warning
    assert "(means, not a test)" in warning
    assert "No better than" not in text


def test_data_and_cost_are_reported(page: Page):
    assert "0123456789abcdef" in page.text
    assert "pretext_train 1,000" in page.text
    assert re.search(r"total\s*172", page.text)
