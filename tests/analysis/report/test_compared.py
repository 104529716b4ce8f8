"""Beside chance, raw pixels and random initialisation, and at what cost."""

from __future__ import annotations

import re
from pathlib import Path

import analysis
from analysis.findings import Findings
from tests.analysis.journals import TRUTH
from tests.analysis.report.pages import Page


def test_test_accuracies_stand_beside_their_spread_chance_and_baselines(folder: Path, page: Page):
    runs = analysis.load(folder).runs.query("probe_split == 'test'")
    for task in (*TRUTH, "random_init"):
        values = runs.loc[runs["task"] == task, "probe/shapes/linear"]
        assert f"{values.mean():.3f} ± {values.std():.3f} (3)" in page.text
    pixels = runs.loc[runs["task"] == "raw_pixels", "probe/shapes/linear"].item()
    assert f"{pixels:.3f} (1)" in page.text
    assert "Fewer than 5 seeds: means and every seed are shown" in page.text


def test_pre_training_is_tested_against_untrained_encoders_in_the_ablation(findings: Findings, page: Page):
    row = findings.against_untrained.query("design == 'pre-training' and task == 'rotation' and cell == 'base'").iloc[0]
    told = f"rotation better, +{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], 5 seeds"
    assert f"Did pre-training help at all? The ablation's base against untrained encoders: {told}" in page.text
    assert "Across tasks: which cell is best on average" in page.text


def test_data_and_cost_are_told(page: Page):
    assert "0123456789abcdef" in page.text
    assert "pretext_train 1,000" in page.text
    assert re.search(r"total\s*172", page.text)
