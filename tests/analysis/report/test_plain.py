"""The first screen's sentences: plain words that say no more than their numbers show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from analysis.comparisons import PRETRAINING_TEST
from analysis.findings import Findings
from analysis.findings.gains import task_gains
from analysis.report.first_screen import first_screen
from analysis.report.plain import cure, headline, next_step

TASKS = ("rotation", "simclr", "context_prediction")


def with_answers(findings: Findings, rivals: str = "too few seeds", **answers: str) -> Findings:
    """Return the findings with other answers: of the tasks named against untrained encoders, and between tasks."""
    rows = findings.against_untrained
    changed = rows["task"].map(answers).where(rows["design"] == PRETRAINING_TEST).fillna(rows["answer"])
    rows = rows.assign(answer=changed, ci_low=0.01, ci_high=0.09)
    between = findings.between_tasks.assign(answer=rivals)
    return dataclasses.replace(findings, against_untrained=rows, between_tasks=between)


def said(findings: Findings) -> list[str]:
    return headline(findings, task_gains(findings))


def test_the_gain_is_said_in_images_with_its_interval(findings: Findings):
    found = with_answers(findings, rotation="inconclusive", simclr="better", context_prediction="worse")
    row = task_gains(found).rows.set_index("task").loc["simclr"]
    first, *others = said(found)
    assert first.startswith("**Pre-training with simclr helps.** On features of simclr, a linear classifier gets ")
    assert f"{100 * row['mean']:.1f} of 100 test images right, **{100 * row['difference']:.1f} more than**" in first
    assert f"an untrained network ({100 * row['untrained']:.1f})" in first
    assert "95 % interval of that difference is **1.0 to 9.0** (3 seeds)" in first
    assert any(each.startswith("**Not shown to help**: ") and "rotation (" in each for each in others)
    assert "Which task is best is still open: simclr cannot be told apart from " in others[-1]


def test_several_tasks_that_help_are_all_named_and_the_best_only_if_told_apart(findings: Findings):
    better = dict.fromkeys(TASKS, "better")
    assert said(with_answers(findings, **better))[0].startswith("**Pre-training with simclr, ")
    best = said(with_answers(findings, rivals="better", **better))
    assert best[0].startswith("**Pre-training with simclr helps most.**")
    assert best[1].startswith("**Also better than untrained**: ")


@pytest.mark.parametrize(
    ("answers", "lead"),
    [
        (("worse", "equivalent", "worse"), "**No pretext task helps here.**"),
        (("worse", "inconclusive", "worse"), "**No pretext task is shown to help.**"),
        (("too few seeds",) * 3, "**No pretext task is shown to help.**"),
    ],
)
def test_no_help_is_claimed_only_where_it_is_excluded(findings: Findings, answers: tuple[str, ...], lead: str):
    [first, *_] = said(with_answers(findings, **dict(zip(TASKS, answers, strict=True))))
    assert first.startswith(lead)
    if answers[0] == "too few seeds":
        assert "of 3 seeds, which are too few for a test" in first


def test_raw_pixels_are_named_where_no_task_is_above_them(findings: Findings):
    gains = task_gains(findings)
    assert not any("Raw pixels" in each for each in headline(findings, gains))
    high = dataclasses.replace(gains, levels={**gains.levels, "raw pixels": 0.99})
    assert "Raw pixels, without any network, reach 99.0" in headline(findings, high)[-1]


def test_the_cure_is_the_one_that_makes_a_failing_run_converge(findings: Findings):
    text = cure(findings)
    assert text.startswith("**rotation** on 200 images without augmentation overfits (5 of 5 seeds). **With `")
    assert "it converges (5 of 5 seeds)**, and the linear classifier gets " in text
    assert "more of 100 validation images right (95 % interval " in text
    none = findings.effects.assign(answer="inconclusive")
    assert cure(dataclasses.replace(findings, effects=none)).startswith("**No change is shown to help** ")
    assert cure(dataclasses.replace(findings, ablated=findings.ablated.iloc[:0])) == ""


def test_the_next_command_answers_what_is_open(findings: Findings, tmp_path: Path):
    gains, folder = task_gains(findings), tmp_path / "quick"
    folder.mkdir()
    assert next_step(findings, gains, folder).command == ""
    (folder / "study.yaml").touch()
    finish = f"python study/run.py {folder.as_posix()}/study.yaml --output {tmp_path.as_posix()}"
    assert next_step(findings, gains, folder).command == finish
    (folder / "recommended.yaml").touch()
    assert next_step(findings, gains, folder).command.endswith("recommended.yaml --set confirm.seeds=5")
    bare = dataclasses.replace(findings, ablated=findings.ablated.iloc[:0])
    assert "ablate.designs=[cures]" in next_step(bare, gains, folder).command
    sure = dataclasses.replace(gains, rows=gains.rows.assign(n_seeds=5, verdict="converged"))
    assert next_step(findings, sure, folder).command.endswith("recommended.yaml")
    rising = dataclasses.replace(
        sure, rows=sure.rows.assign(verdict=["still_improving", *["converged"] * (len(sure.rows) - 1)])
    )
    step = next_step(findings, rising, folder)
    assert f"since {rising.rows['task'].iloc[0]} is still improving" in step.why
    assert step.command.endswith(f"--set budget_steps={2 * findings.study.config['budget_steps']}")


def test_the_plot_has_every_task_seed_and_level_where_its_value_is(findings: Findings, tmp_path: Path):
    screen, gains = first_screen(findings, tmp_path), task_gains(findings)
    assert [row.task for row in screen.rows] == list(gains.rows["task"])
    names = {name: value for name, _, value in screen.levels}
    assert names["untrained"] == f"{100 * gains.levels['untrained']:.1f}"
    scale = screen.levels[0][1] / gains.levels["untrained"]
    for row, expected in zip(screen.rows, gains.rows.to_dict("records"), strict=True):
        assert row.mean == pytest.approx(scale * expected["mean"])
        assert row.seeds == pytest.approx([scale * value for value in expected["seeds"]])
        assert len(row.seeds) == expected["n_seeds"]
        assert 0 <= row.mean <= 100
