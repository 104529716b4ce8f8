"""The effect of each augmentation and each other cure, and where the evidence ends."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import analysis
from analysis.findings import Findings, compute_findings
from analysis.report.blocks import pictures_in
from analysis.report.page import sections_of
from analysis.report.plain import cure
from analysis.report.sections.cures import _table
from analysis.report.sections.designs import factorial_clause
from analysis.report.sections.summary import summary
from analysis.report.words import interval, signed
from tests.analysis.journals import TRUTH, write_study
from tests.analysis.report.pages import Page, section


def test_cures_are_ranked_with_interval_answer_and_how_often_they_converge(page: Page):
    text = page.section("cures")
    ranks = [
        text.index(f"{cell}: +0.0")
        for cell in ("augmentation_strength=1", "n_images=1000", "augmentation_strength=0.5")
    ]
    assert ranks == sorted(ranks)
    assert re.search(
        r"augmentation_strength=1: \+0\.07\d \[0\.0\d\d, 0\.\d{3}\] \(adjusted for the number of changes\), 5 seeds, "
        r"Holm p < 0\.001; 5 of 5 converge",
        text,
    )
    assert "Worse than base: budget_steps=400 (−0.03" in text
    assert "size_by_strength, compared with n_images=1000: better n_images=1000, augmentation_strength=1 (+0.0" in text


def test_where_the_evidence_does_not_suffice_it_says_what_would(findings: Findings, page: Page):
    row = findings.effects.query("cell == 'weight_decay=0.01'").iloc[0]
    row_text = f"`weight_decay=0.01`|–|{signed(row['mean_difference'])}|{interval(row['ci_low'], row['ci_high'])}|"
    row_text += f"{row['p_holm']:.3f}|5|{row['smallest_detectable']:.3f}|about {row['seeds_needed']}"
    assert row_text in section(findings, "cures")
    assert "Where the evidence is not enough." in page.text
    assert "Seeds needed for 0.01: to find the smallest difference that matters" in page.text


def test_a_test_that_cannot_find_anything_is_not_shown_as_one(findings: Findings):
    lines = section(findings, "cures").splitlines()
    [line] = [line for line in lines if line.startswith("cures|option/pairs_per_image=40|base|")]
    assert line.endswith("|5 of 5 [0.48, 1.00]|needs 6 seeds")
    tested = dataclasses.replace(findings, rate_changes=findings.rate_changes.assign(p_holm=0.25))
    assert "|5 of 5 [0.48, 1.00]|0.250" in section(tested, "cures")


def test_a_number_of_seeds_at_its_limit_reads_at_least(findings: Findings):
    effects = findings.effects.assign(seeds_needed=10_000)
    assert "|at least 10,000" in section(dataclasses.replace(findings, effects=effects), "cures")


def test_comparisons_that_designs_share_are_counted_once(findings: Findings):
    once = findings.effects.drop_duplicates(["task", "cell", "baseline"])
    assert len(once) == len(findings.effects) - 3
    few = (once["answer"] == "too few seeds").sum()
    assert f"{few} of {len(once)} comparisons has fewer than 5 seeds" in section(findings, "cures")
    inconclusive = (once["answer"] == "inconclusive").sum()
    assert f"{inconclusive} of {len(once)} comparisons are inconclusive" in summary(findings)[-1]


def test_a_failed_cell_is_reported_as_an_outcome_with_its_reason(folder: Path, page: Page):
    assert (
        "Failed: lr=0.003 (1 of 5). A failure is an outcome: a cell that failed at a seed at which its "
        in page.section("cures")
    )
    assert "RuntimeError: out of memory" in page.text
    assert "loss is <NaN> at step 12" in page.text
    assert "<NaN>" not in (folder / "report.html").read_text()


def test_effects_maps_and_take_off_are_drawn_of_each_task(page: Page):
    code = "\n".join(re.findall(r"^\w+\(.*\)$", page.text, re.MULTILINE))
    for task in TRUTH:
        runs = f"size_strength_map(design_runs(findings, '{task}', 'size_by_strength'), "
        assert f"{runs}'probe/shapes/linear', margin=0.01)" in code
        assert re.search(rf"effects_forest\(.*task == '{task}' and design == 'cures'.*margin=0.01", code)
    assert f"{runs}'converged'".replace(task, "rotation") in code
    assert re.search(r"survival_curves\(kaplan_meier\(steps_to\(.*task == 'context_prediction'", code)


def test_each_tasks_table_has_the_chance_of_that_task(tmp_path: Path):
    tasks = ("rotation", "context_prediction")
    folder = write_study(tmp_path, tasks=tasks, designs=("cures",), labeled=False)
    found = compute_findings(analysis.load(folder))
    for task, chance in zip(tasks, ("0.250", "0.125"), strict=True):
        caption = _table(found, found.effects.query("task == @task", local_dict={"task": task})).caption
        assert f"Scores of guessing: val/accuracy, chance {chance}." in caption


def test_few_seeds_are_shown_and_not_tested(tmp_path: Path):
    found = compute_findings(analysis.load(write_study(tmp_path, designs=("cures",), tasks=("rotation",), n_seeds=3)))
    text = section(found, "cures")
    assert "6 of 6 comparisons have fewer than 5 seeds with both values: means are shown without a test." in text
    row = r"`augmentation_strength=1`\|[^|]*a test needs 5\|\+0\.0\d\d\|–\|–\|3\|–\|at least 5"
    assert re.search(row, text)
    assert "Better than" not in text


def test_augmentation_ops_are_reported_by_leave_one_out_pairs_and_main_effects(tmp_path: Path):
    designs = ("leave_one_out", "pairs", "factorial")
    found = compute_findings(analysis.load(write_study(tmp_path, designs=designs, tasks=("rotation",))))
    text = section(found, "cures")
    assert "no change compared with the base is better (2 worse, the worst `only color_jitter`" in text
    assert "**pairs, compared with `no augmentation`**: better `base` (+0.1" in text
    assert re.search(r"color_jitter \+ crop_resize\|\+0\.0\d\d\|\[", text)
    assert "The factorial design of rotation" in text
    pictures = {each.name: each for part in sections_of(found, tmp_path) for each in pictures_in(part.blocks)}
    drawn = pictures["pairs-rotation"].draw()
    assert drawn.get_title(loc="left").startswith("rotation: pairs of augmentations")
    plt.close(drawn.get_figure(root=True))


def test_a_change_is_recommended_only_if_it_was_compared_with_the_base(findings: Findings, tmp_path: Path):
    found = compute_findings(analysis.load(write_study(tmp_path, designs=("pairs",), tasks=("rotation",))))
    assert set(found.effects["baseline"]) == {"no augmentation"}
    assert cure(found) == ""
    better = "better than another cell: `only color_jitter` than `no augmentation` (+0.02"
    assert f"; no change was compared with the base; {better}" in summary(found)[1]
    use = section(found, "what-to-use")
    assert "The ablation found better" not in use
    assert "is shown to do better" not in use
    cures = section(found, "cures")
    assert cures.count("Better than `no augmentation` in linear probe on shapes") == 1
    worse = dataclasses.replace(found, effects=found.effects.assign(answer="worse"))
    assert "**Worse** than `no augmentation`: `base` (" in section(worse, "cures")
    unrun = dataclasses.replace(
        findings, ablated=findings.ablated.query("cell != 'base'")
    )  # a strength that no cell has
    assert "The ablation" not in section(unrun, "what-to-use")


def test_a_study_without_an_ablation_says_what_would_have_to_be_run(tmp_path: Path):
    text = section(compute_findings(analysis.load(write_study(tmp_path, tasks=("rotation",)))), "cures")
    assert "No ablation was run, so this study cannot say what any augmentation does" in text
    assert "ablate: {designs: [cures, size_by_strength], seeds: 5}" in text


def test_an_ablation_under_way_is_reported_as_preliminary(tmp_path: Path):
    folder = write_study(tmp_path, designs=("cures",), tasks=("rotation",), until="ablate")
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    ended = [index for index, line in enumerate(lines) if '"trial_ended"' in line]
    path.write_text("".join(lines[: ended[-3]]))
    found = compute_findings(analysis.load(folder))
    assert "The ablate phase has not ended: every cell is compared with the base" in section(found, "cures")
    assert "1 trial has not ended yet, so these results are preliminary" in summary(found)[-1]


def test_an_ablate_phase_that_has_not_run_is_no_missing_setting(tmp_path: Path):
    study = analysis.load(write_study(tmp_path, designs=("cures",), tasks=("rotation",), until="confirm"))
    found = compute_findings(study)
    assert section(found, "cures") == "The ablate phase has not run yet."
    assert "Before the ablate phase, it is not known what would help." in " ".join(summary(found))
    ended = dataclasses.replace(study, outcomes={**study.outcomes, "ablate": {"designs": []}})
    assert section(compute_findings(ended), "cures").startswith("The ablate phase had no cell to train: ")


def test_an_interaction_that_has_an_alias_is_not_shown_as_the_only_explanation(findings: Findings):
    row = {"task": "rotation", "term": "a:b", "levels": "0 to 1", "p_holm": 0.01, "estimate": 0.1, "ci_low": 0.05}
    factorial = pd.DataFrame([{**row, "ci_high": 0.15, "aliased_with": "c:d"}])
    said = factorial_clause(dataclasses.replace(findings, factorial=factorial), "rotation")
    assert said == "effects shown: `a:b` from 0 to 1 (+0.100 [0.050, 0.150]; cannot be distinguished from `c:d`)"
    alone = factorial.assign(aliased_with="")
    assert "distinguished" not in factorial_clause(dataclasses.replace(findings, factorial=alone), "rotation")
