"""The summary: the findings in a few sentences at the top."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import analysis
from analysis.findings import Findings, compute_findings
from analysis.report.sections.summary import summary
from tests.analysis.journals import TRUTH, write_study
from tests.analysis.report.pages import Page


def test_the_summary_says_what_pre_training_is_worth_first(findings: Findings):
    runs = findings.study.runs.query("probe_split == 'test'")
    means = runs.groupby("task")["probe/shapes/linear"].mean()
    first = summary(findings)[0]
    assert first.startswith("**simclr is the best of 3 pretext tasks on shapes**: linear probe ")
    numbers = [means["simclr"], means["random_init"], means["simclr"] - means["random_init"], means["raw_pixels"]]
    assert [f"{number:.3f}" for number in numbers] == re.findall(r"0\.\d{3}", first)[:4]
    assert "higher in 3 of 3 seeds, too few to test" in first


def test_the_summary_names_each_tasks_trouble_its_evidence_and_its_cure(findings: Findings):
    text = {task: sentence for task in TRUTH for sentence in summary(findings) if sentence.startswith(f"**{task}** on")}
    cured = findings.effects.query("design == 'cures' and task == 'rotation' and cell == 'augmentation_strength=1'")
    row = cured.iloc[0]
    assert re.match(
        r"\*\*rotation\*\* on 200 images without augmentation overfits \(5 of 5 seeds\): val/accuracy worsened from "
        r"its best, 0\.\d+ around step \d+, to 0\.\d+ at step 200; \*\*`augmentation_strength=1`\*\* cures it "
        r"\(5 of 5 seeds then converge\): linear probe on shapes ",
        text["rotation"],
    )
    interval = f"+{row['mean_difference']:.3f} [{row['ci_low']:.3f}, {row['ci_high']:.3f}], 5 seeds, Holm p < 0.001"
    assert interval in text["rotation"]
    assert "converges (5 of 5 seeds); no tested change does better (3 worse, the worst" in text["simclr"]
    assert "stays at chance (5 of 5 seeds): val/accuracy" in text["context_prediction"]
    assert re.search(
        r"features are not shown to be better than untrained ones \(0\.4\d\d and 0\.4\d\d\)", text["context_prediction"]
    )
    assert "untrained" not in text["rotation"] + text["simclr"]
    assert "no change is shown to help" in text["context_prediction"]
    assert "can be missed" in text["context_prediction"]


def test_the_summary_says_what_makes_a_task_leave_chance_even_if_its_probe_shows_nothing(findings: Findings):
    text = next(sentence for sentence in summary(findings) if sentence.startswith("**context_prediction** on"))
    row = findings.take_off_changes.query("cell == 'option/pairs_per_image=40'").iloc[0]
    assert row["rate_difference"] == 1
    rate = f"(5 of 5 seeds, 0 without it, Holm p = {row['p_holm']:.3f})"
    assert f"; it leaves chance with `option/pairs_per_image=40` {rate}; no change is shown to help" in text
    assert "leaves chance with" not in "".join(summary(findings)).replace(text, "")
    still = findings.take_off_changes.assign(rate_difference=0.0)
    text = next(
        sentence
        for sentence in summary(dataclasses.replace(findings, take_off_changes=still))
        if sentence.startswith("**context_prediction** on")
    )
    assert "; no change makes it leave chance more often; " in text


def test_the_summary_is_at_the_top_and_three_to_six_sentences_long(findings: Findings, page: Page):
    assert 3 <= len(summary(findings)) <= 6
    start = page.text.index("simclr is the best of 3")
    assert start < page.text.index("What to use")
    assert "2 of 172 trials failed (RuntimeError: " in page.text


def test_where_no_task_beats_an_untrained_encoder_that_is_the_first_sentence(tmp_path: Path):
    found = compute_findings(analysis.load(write_study(tmp_path, tasks=("context_prediction",), seed=6)))
    task = found.against_untrained.iloc[0]
    assert not task["mean_difference"] > 0.03
    found = dataclasses.replace(found, differences=found.differences.assign(difference=-0.01))
    assert summary(found)[0].startswith("**No pretext task beats an untrained encoder on shapes**: the closest is")


def test_without_labels_or_before_the_evaluation_the_summary_says_why_it_cannot_tell(tmp_path: Path):
    bare = write_study(tmp_path / "a", tasks=("rotation",), labeled=False, designs=("cures",))
    early = write_study(tmp_path / "b", tasks=("rotation",), until="confirm")
    assert "without labels no probe can tell" in summary(compute_findings(analysis.load(bare)))[0]
    assert "the evaluate phase measures that" in summary(compute_findings(analysis.load(early)))[0]
