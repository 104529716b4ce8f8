"""The summary: the findings in a few sentences at the top."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.findings import Findings, compute_findings
from analysis.report.first_screen import _ending
from analysis.report.plain import cure
from analysis.report.sections.summary import _reasons, cure_clause, not_known, summary, take_off_clause
from analysis.report.words import effect
from tests.analysis.journals import TRUTH, write_study
from tests.analysis.report.pages import Page, section


def test_the_summary_says_what_pre_training_is_worth_first(findings: Findings):
    runs = findings.study.tested
    means = runs.groupby("task")["probe/shapes/linear"].mean()
    first = summary(findings)[0]
    assert first.startswith("**Of 3 pretext tasks, simclr has the highest validation mean**. On shapes: linear probe ")
    numbers = [means["simclr"], means["random_init"], means["simclr"] - means["random_init"], means["raw_pixels"]]
    assert [f"{number:.3f}" for number in numbers] == re.findall(r"0\.\d{3}", first)[:4]
    assert "higher in 3 of 3 seeds, too few to test" in first
    rival = f"{means['simclr'] - means['rotation']:.3f}, 3 seeds: too few to test"
    assert f"The runner-up, rotation, is not told apart on the test split (+{rival})" in first
    assert "best of" not in first


@pytest.mark.parametrize(
    ("answers", "starts", "runner_up"),
    [
        (("better", "better"), "**simclr is the best of 3", "The runner-up, rotation, is told apart"),
        (
            ("better", "inconclusive"),
            "**Of 3 pretext tasks, simclr has the highest",
            "The runner-up, context_prediction, is not told apart",
        ),
        (("worse", "better"), "**Of 3 pretext tasks, simclr has the highest", "On the test split, rotation is better"),
        (
            ("equivalent", "better"),
            "**Of 3 pretext tasks, simclr has the highest",
            "The runner-up, rotation, is not told apart",
        ),
    ],
)
def test_a_task_is_the_best_only_if_every_other_one_is_told_apart(
    findings: Findings, answers: tuple[str, str], starts: str, runner_up: str
):
    own = findings.between_tasks.loc[findings.between_tasks["cell"] == "simclr"]
    between = own.assign(answer=list(answers), p_holm=0.01, p_equivalence_holm=0.01)
    first = summary(dataclasses.replace(findings, between_tasks=between))[0]
    assert first.startswith(starts)
    assert runner_up in first


def test_tasks_without_a_gain_are_no_better_only_where_that_is_shown(findings: Findings):
    test_split = findings.against_untrained["design"] == "pre-training, test split"

    def second(**answers: str) -> list[str]:
        rows = findings.against_untrained.loc[test_split]
        rows = rows.assign(answer=rows["task"].map(answers).fillna("better"), p_holm=0.01, p_equivalence_holm=0.01)
        return summary(dataclasses.replace(findings, against_untrained=rows))

    said = second(rotation="equivalent", context_prediction="inconclusive")
    assert said[1].startswith("**No better than an untrained encoder** (test split; worse, or equivalent within ±0.01)")
    assert "rotation (" in said[1]
    assert "context_prediction" not in said[1]
    assert said[2].startswith("**Not shown to be better than an untrained encoder** (test split): context_prediction (")
    said = second(rotation="worse")
    assert said[1].startswith("**No better than an untrained encoder**")
    assert "Not shown to be better" not in " ".join(said)
    none = second(rotation="worse", context_prediction="equivalent", simclr="worse")[0]
    assert none.startswith("**No pretext task beats an untrained encoder on shapes** (test split; each is worse, or ")
    open_one = second(rotation="worse", context_prediction="inconclusive", simclr="worse")[0]
    assert open_one.startswith("**No pretext task is shown to beat an untrained encoder on shapes** (test split)")


def test_the_summary_names_each_tasks_trouble_its_evidence_and_its_cure(findings: Findings):
    text = {task: sentence for task in TRUTH for sentence in summary(findings) if sentence.startswith(f"**{task}** on")}
    cured = findings.effects.query("design == 'cures' and task == 'rotation' and cell == 'augmentation_strength=1'")
    row = cured.iloc[0]
    assert re.match(
        r"\*\*rotation\*\* on 200 images without augmentation overfits \(5 of 5 seeds\): val/accuracy worsened from "
        r"its best, 0\.\d+ around step \d+, to 0\.\d+ at step 200; \*\*`augmentation_strength=1`\*\* cures it"
        r", as it then converges \(5 of 5 seeds\): linear probe on shapes \(validation split\) ",
        text["rotation"],
    )
    ends = f"[{row['picked_low']:.3f}, {row['picked_high']:.3f}] (adjusted for the number of changes)"
    assert row["picked_low"] <= row["family_low"] < row["ci_low"]
    interval = f"+{row['mean_difference']:.3f} {ends}, 5 seeds, Holm p < 0.001"
    assert interval in text["rotation"]
    assert "converges (5 of 5 seeds); no change compared with the base is better (3 worse, the worst" in text["simclr"]
    assert "stays at chance (5 of 5 seeds): val/accuracy" in text["context_prediction"]
    assert re.search(
        r"features are not shown to be better than untrained ones \(linear probe on shapes \(validation split\) "
        r"0\.4\d\d and 0\.4\d\d\)",
        text["context_prediction"],
    )
    assert "untrained" not in text["rotation"] + text["simclr"]
    assert "no change is shown to be better than the base" in text["context_prediction"]
    assert "can be missed" in text["context_prediction"]


def test_a_comparison_without_a_p_says_why_instead_of_nan():
    row = pd.Series({"answer": "inconclusive", "mean_difference": 0.05, "n_seeds": 5, "note": "other images"})
    row = pd.concat([row, pd.Series(dict.fromkeys(("ci_low", "ci_high", "p_holm", "picked_low"), float("nan")))])
    assert effect(row) == effect(row, picked=True) == "+0.050, 5 seeds, other images"


def with_end(findings: Findings, cell: str, **columns: object) -> Findings:
    """Return the findings with other values of the verdict on a cell of rotation's ablation."""
    ends = findings.cell_verdicts.copy()
    [place] = ends.index[(ends["phase"] == "ablate") & (ends["task"] == "rotation") & (ends["cell"] == cell)]
    for name, value in columns.items():
        ends.at[place, name] = value
    return dataclasses.replace(findings, cell_verdicts=ends)


def test_a_cure_that_all_seeds_show_together_is_not_said_of_none_of_them(findings: Findings):
    none = {"n_verdict": 0, "others": {"undecided": 5}}
    together = "converges (5 seeds together; each alone: 5 undecided)"
    found = with_end(findings, "augmentation_strength=1", **none)
    assert f"cures it, as it then {together}: " in " ".join(summary(found))
    assert f"**With `augmentation_strength=1` it {together}**" in cure(found)
    chosen = findings.cell_verdicts["phase"] == "confirm"
    ends = findings.cell_verdicts.assign(
        n_verdict=findings.cell_verdicts["n_verdict"].mask(chosen, 0),
        others=[
            {"failed": 3} if here else each for here, each in zip(chosen, findings.cell_verdicts["others"], strict=True)
        ],
    )
    found = dataclasses.replace(findings, cell_verdicts=ends)
    assert "is undecided (3 seeds together; each alone: 3 failed)" in section(found, "what-to-use")
    assert _ending(found, "rotation")[0] == "undecided (3 seeds together; each alone: 3 failed)"


def test_nothing_is_cured_whose_failure_is_not_known(findings: Findings):
    found = with_end(findings, "base", verdict="undecided", possible="still_improving or converged")
    assert "**`augmentation_strength=1`** does better: " in " ".join(summary(found))
    assert "cures it" not in " ".join(summary(found))
    found = with_end(findings, "base", verdict="undecided", possible="still_improving or overfit")
    assert "**`augmentation_strength=1`** cures it, as it then converges (5 of 5 seeds): " in " ".join(summary(found))


def test_what_is_better_than_another_cell_is_not_passed_over(tmp_path: Path):
    designs = ("leave_one_out", "factorial")
    found = compute_findings(analysis.load(write_study(tmp_path, tasks=("rotation",), designs=designs)))
    shown = found.factorial.assign(p_holm=[0.003, *[0.5] * (len(found.factorial) - 1)], estimate=0.06)
    other = found.effects.iloc[[0]].assign(baseline="n_images=1000", answer="better")
    found = dataclasses.replace(found, factorial=shown, effects=pd.concat([found.effects, other]))
    clause = cure_clause(found, "rotation")
    assert clause.startswith("no change compared with the base is better (2 worse, ")
    assert f"; better than another cell: `{other['cell'].iloc[0]}` than `n_images=1000` (" in clause
    assert f"; effects shown: `{shown['term'].iloc[0]}` from " in clause
    assert "is shown to be better than the base** for rotation" in cure(found)


def test_the_summary_says_what_makes_a_task_leave_chance_even_if_its_probe_shows_nothing(findings: Findings):
    text = next(sentence for sentence in summary(findings) if sentence.startswith("**context_prediction** on"))
    row = findings.take_off_changes.query("cell == 'option/pairs_per_image=40'").iloc[0]
    assert row["rate_difference"] == 1
    rate = "(5 of 5 seeds, 0 without it; too few seeds to test: 6 could show it)"
    assert (
        f"; it left chance at more seeds with `option/pairs_per_image=40` {rate}; no change is shown to be better"
        in text
    )
    assert "left chance" not in "".join(summary(findings)).replace(text, "")
    for p_holm, claim in ((0.03, "it leaves chance more often with"), (0.3, "which is not shown to be more than luck")):
        tested = findings.take_off_changes.assign(p_holm=p_holm)
        words = " ".join(summary(dataclasses.replace(findings, take_off_changes=tested)))
        assert f"Holm p = {p_holm:.3f}" in words
        assert claim in words
    still = findings.take_off_changes.assign(rate_difference=0.0)
    text = next(
        sentence
        for sentence in summary(dataclasses.replace(findings, take_off_changes=still))
        if sentence.startswith("**context_prediction** on")
    )
    assert "; it left chance at more seeds with none of the changes; " in text
    unknown = findings.take_off_changes.assign(n_pairs=0, rate_difference=float("nan"))
    words = take_off_clause(dataclasses.replace(findings, take_off_changes=unknown), "context_prediction")
    assert words == "whether a change makes it leave chance is not known"


def test_the_largest_gain_is_that_of_the_comparisons_left_open(findings: Findings):
    own = findings.effects["task"] == "simclr"
    effects = findings.effects.assign(answer=findings.effects["answer"].mask(own, "worse"))
    first = effects.index[own & (effects["cell"] == "option/temperature=0.2")]
    effects.loc[first, "answer"] = "inconclusive"
    clause = cure_clause(dataclasses.replace(findings, effects=effects), "simclr")
    assert "the largest gain that is left open, `option/temperature=0.2` linear probe" in clause


def test_the_summary_is_at_the_top_and_three_to_six_sentences_long(findings: Findings, page: Page):
    assert 3 <= len(summary(findings)) <= 6
    start = page.text.index("Of 3 pretext tasks, simclr has the highest validation mean")
    assert start < page.text.index("What to use")
    assert "2 of 172 trials failed (for example: RuntimeError: " in page.text


def test_where_no_task_beats_an_untrained_encoder_that_is_the_first_sentence(tmp_path: Path):
    found = compute_findings(analysis.load(write_study(tmp_path, tasks=("context_prediction",), seed=6)))
    task = found.against_untrained.iloc[0]
    assert not task["mean_difference"] > 0.03
    found = dataclasses.replace(found, differences=found.differences.assign(difference=-0.01))
    lead = "**No pretext task is shown to beat an untrained encoder on shapes** (test split):"
    assert summary(found)[0].startswith(lead)


def test_without_labels_or_before_the_evaluation_the_summary_says_why_it_cannot_tell(tmp_path: Path):
    bare = write_study(tmp_path / "a", tasks=("rotation",), labeled=False, designs=("cures",))
    early = write_study(tmp_path / "b", tasks=("rotation",), until="confirm")
    assert "without labels no probe can tell" in summary(compute_findings(analysis.load(bare)))[0]
    assert "the evaluate phase measures that" in summary(compute_findings(analysis.load(early)))[0]


def test_a_confirm_phase_that_chose_nothing_has_ended(findings: Findings):
    outcomes = {**findings.study.outcomes, "confirm": {"chosen": {}}}
    none = dataclasses.replace(findings, study=dataclasses.replace(findings.study, outcomes=outcomes))
    known = "**No configuration is chosen**: no trial of the confirm phase finished with a value to choose by."
    assert not_known(none, "shapes") == known
    assert section(none, "what-to-use") == known


@pytest.mark.parametrize("ended", [False, True])
def test_encoders_that_were_probed_without_untrained_ones_were_probed(findings: Findings, ended: bool):
    study = findings.study
    untrained = (study.runs["phase"] == "evaluate") & (study.runs["task"] == "random_init")
    outcomes = {name: each for name, each in study.outcomes.items() if ended or name != "evaluate"}
    found = compute_findings(dataclasses.replace(study, runs=study.runs.loc[~untrained], outcomes=outcomes))
    yet = "" if ended else " yet"
    assert summary(found)[0] == (
        f"**Not known{yet}**: whether pre-training beats an untrained encoder; on the test split of shapes no seed has "
        "the results of both a chosen and an untrained encoder."
    )


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        (["", ""], ""),
        (["E: a", "E: a"], " (E: a)"),
        (["E: a", "E: a", "E: b", "", "", ""], " (most often, 2 times: E: a)"),
        (["E: a", "E: b"], " (for example: E: a)"),
    ],
)
def test_a_reason_is_given_for_as_many_trials_as_have_it(reasons: list[str], said: str):
    assert _reasons(pd.DataFrame({"status": "FAILED", "reason": reasons})) == said
