"""Figures that would say nothing are not drawn."""

from __future__ import annotations

import dataclasses

from analysis.findings import Findings
from analysis.records.phases import SEARCH
from analysis.report.blocks import pictures_in
from analysis.report.sections.cure_figures import ablation_pictures
from analysis.report.sections.sensitivity import FEWEST_LINES, how_sensitive
from analysis.report.sources import Sources


def alts(findings: Findings, task: str) -> dict[str, str]:
    return {each.name: each.alt for each in ablation_pictures(findings, Sources(findings), task)}


def names(findings: Findings, task: str) -> set[str]:
    return set(alts(findings, task))


def test_seeds_that_are_open_are_not_said_to_be_at_chance(findings: Findings):
    alt = alts(findings, "context_prediction")["take-off-context_prediction"]
    assert alt.startswith("context_prediction: share of seeds not shown to have left chance against optimizer steps; ")


def test_curves_of_take_off_that_coincide_are_not_drawn(findings: Findings):
    assert "take-off-context_prediction" in names(findings, "context_prediction")  # two of its cells learn
    curves = findings.study.curves.copy()
    ended = curves["metric"].eq("val/accuracy") & (curves["step"] > 0)
    curves.loc[ended, "value"] = 0.99  # every seed leaves chance at its first report
    same = dataclasses.replace(findings, study=dataclasses.replace(findings.study, curves=curves))
    assert "take-off-context_prediction" not in names(same, "context_prediction")


def test_a_share_that_is_the_same_in_every_square_is_not_drawn(findings: Findings):
    assert "size-strength-rotation-converged" in names(findings, "rotation")
    same = dataclasses.replace(findings, ablated=findings.ablated.assign(converged=True))
    assert "size-strength-rotation-converged" not in names(same, "rotation")


def test_lines_through_few_trials_are_not_drawn(findings: Findings):
    def parallel(found: Findings) -> list[str]:
        section = how_sensitive(found, Sources(found))
        return [each.name for each in pictures_in(section.blocks) if each.name.startswith("parallel")]

    runs = findings.study.runs
    searched = runs["phase"] == SEARCH
    counts = runs.loc[searched].groupby("task").size()
    assert len(parallel(findings)) == (counts >= FEWEST_LINES).sum()
    few = runs.loc[~searched | (runs.loc[searched].groupby("task").cumcount().reindex(runs.index) < FEWEST_LINES - 1)]
    assert parallel(dataclasses.replace(findings, study=dataclasses.replace(findings.study, runs=few))) == []
