"""The first screen's sentences: plain words that say no more than their numbers show."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from analysis.comparisons import PRETRAINING_TEST
from analysis.findings import Findings, compute_findings, queries
from analysis.findings.gains import task_gains
from analysis.report.first_screen import _levels, first_screen
from analysis.report.next_step import next_step
from analysis.report.plain import _gained, answer, cure, headline, order_note

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
    assert "95% interval of that difference is **1.0 to 9.0** (3 seeds)" in first
    assert any(each.startswith("**Not shown to help**: ") and "rotation (" in each for each in others)
    assert any("Which task is best is still open: simclr cannot be told apart from " in each for each in others)
    assert others[-1].startswith("Each task's configuration was chosen from up to 2 candidates by their means")
    one = found.study.runs.query("phase != 'confirm' or cell == 'candidate-1'")
    alone = dataclasses.replace(found, study=dataclasses.replace(found.study, runs=one))
    assert not any("candidates" in each for each in said(alone))


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


def test_the_plot_and_the_headline_have_one_order_that_of_validation(findings: Findings, tmp_path: Path):
    gains = task_gains(findings)
    assert (gains.ordered_by, order_note(gains)) == ("validation", "")
    chosen = {task: dict(choice) for task, choice in queries.chosen(findings).items()}
    for place, task in enumerate(reversed(gains.rows["task"])):  # validation disagrees with the test split
        chosen[task]["mean"] = 0.9 - place / 10
    outcomes = {**findings.study.outcomes, "confirm": {"chosen": chosen}}
    study = dataclasses.replace(findings.study, outcomes=outcomes)
    for answers in ("better", "inconclusive"):
        other = with_answers(dataclasses.replace(findings, study=study), **dict.fromkeys(TASKS, answers))
        answered = answer(other, tmp_path)
        expected = list(reversed(gains.rows["task"]))
        assert [row.task for row in first_screen(other, answered).rows] == expected
        assert f"On features of {expected[0]}, a linear classifier gets" in answered.sentences[0]
        assert any(each.startswith("Tasks are listed by **validation** score") for each in answered.sentences)


def test_a_task_that_is_better_on_the_test_split_is_not_called_a_tie(findings: Findings):
    found = said(with_answers(findings, rivals="worse", **dict.fromkeys(TASKS, "better")))
    assert any(each.startswith("On the test split, ") and each.endswith(" better than simclr.") for each in found)
    assert not any("cannot be told apart" in each for each in found)


def test_a_task_that_ranks_before_the_best_and_is_better_on_the_test_split_is_named(findings: Findings):
    found = with_answers(findings, "inconclusive", simclr="inconclusive", rotation="better")
    between = found.between_tasks
    first = (between["cell"] == "simclr") & (between["baseline"] == "rotation")
    assert first.sum() == 1
    ahead = dataclasses.replace(found, between_tasks=between.assign(answer=between["answer"].mask(first, "better")))
    assert "On the test split, simclr is better than rotation." in said(ahead)
    assert "Which task is best is still open: rotation cannot be told apart from simclr" in " ".join(said(found))


def test_raw_pixels_are_named_where_no_task_is_above_them(findings: Findings):
    gains = task_gains(findings)
    assert not any("Raw pixels" in each for each in headline(findings, gains))
    high = dataclasses.replace(gains, levels={**gains.levels, "raw pixels": 0.99})
    assert "Raw pixels, without any network, reach 99.0" in headline(findings, high)[-1]


def test_the_cure_is_the_one_that_makes_a_failing_run_converge(findings: Findings):
    text = cure(findings)
    assert text.startswith("**rotation** on 200 images without augmentation overfits (5 of 5 seeds). **With `")
    assert "it converges (5 of 5 seeds)**, and the linear classifier gets " in text
    assert "more of 100 validation images right (95% interval " in text
    none = findings.effects.assign(answer="inconclusive")
    assert cure(dataclasses.replace(findings, effects=none)).startswith(
        "**No change is shown to be better than the base** for "
    )
    assert cure(dataclasses.replace(findings, ablated=findings.ablated.iloc[:0])) == ""


@pytest.mark.parametrize(
    ("metric", "mode", "numbers", "text"),
    [
        ("probe/shapes/linear", "max", (0.043, -0.044, 0.13), "gets 4.3 more of 100 validation images right (95% "
         "interval −4.4 to 13.0, 8 seeds)"),
        ("last/val/loss", "min", (-0.043, -0.13, 0.044), "the gain in val/loss is 0.043 (95% interval −0.044 to "
         "0.130, 8 seeds)"),
        ("last/val/accuracy", "max", (0.75, float("nan"), float("nan")), "is 0.750 (the same at all 8 seeds)"),
    ],
)  # fmt: skip
def test_the_interval_of_a_gain_has_the_ends_and_the_signs_of_the_numbers(
    metric: str, mode: str, numbers: tuple[float, float, float], text: str
):
    row = pd.Series({"metric": metric, "mode": mode, "split": "validation", "n_seeds": 8})
    names = ["mean_difference", "picked_low", "picked_high"]
    row = pd.concat([row, pd.Series(numbers, names)])
    assert _gained(pd.concat([row, pd.Series({"ci_low": row["picked_low"]})])).endswith(text)
    if not pd.isna(row["picked_low"]):
        adjusted = text.replace(" seeds)", " seeds; adjusted for the number of changes)")
        assert _gained(pd.concat([row, pd.Series({"ci_low": -0.01})])).endswith(adjusted)


def test_the_next_command_answers_what_is_open(findings: Findings, tmp_path: Path):
    gains, folder = task_gains(findings), tmp_path / "quick"
    folder.mkdir()
    assert next_step(findings, gains, folder).command == ""
    (folder / "study.yaml").touch()
    finish = f"python study/run.py {folder.as_posix()}/study.yaml --output {tmp_path.as_posix()}"
    assert next_step(findings, gains, folder).command == finish
    (folder / "recommended.yaml").touch()
    few = next_step(findings, gains, folder)
    assert few.why.startswith("Narrow the intervals with 5 fresh seeds")
    assert few.command.endswith("recommended.yaml")
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
    screen, gains = first_screen(findings, answer(findings, tmp_path)), task_gains(findings)
    assert [row.task for row in screen.rows] == list(gains.rows["task"])
    untrained = next(level for level in screen.levels if level.name == "untrained")
    assert untrained.labels[0] == f"untrained {100 * gains.levels['untrained']:.1f}"
    said = [label for level in screen.levels for label in level.labels]
    assert len(said) == len(gains.levels)
    scale = untrained.x / gains.levels["untrained"]
    for row, expected in zip(screen.rows, gains.rows.to_dict("records"), strict=True):
        assert row.mean == pytest.approx(scale * expected["mean"])
        assert row.seeds == pytest.approx([scale * value for value in expected["seeds"]])
        assert len(row.seeds) == expected["n_seeds"]
        assert 0 <= row.mean <= 100


def without_last_evaluation(findings: Findings, task: str) -> Findings:
    """Return the findings of the study in which the last evaluation of a task failed, at a seed of high features."""
    runs = findings.study.runs.copy()
    column, test_split = f"probe/{queries.main_dataset(findings)}/linear", runs["probe_split"] == "test"
    runs.loc[runs.index[test_split & (runs["task"] == "random_init")][-1], column] = 0.6
    failed = runs.index[test_split & (runs["task"] == task)][-1]
    runs.loc[failed, "status"] = "FAILED"
    runs.loc[failed, column] = float("nan")
    return compute_findings(dataclasses.replace(findings.study, runs=runs))


def test_the_line_of_untrained_networks_is_of_the_seeds_in_the_comparison(findings: Findings, tmp_path: Path):
    both = without_last_evaluation(findings, "rotation")
    screen = first_screen(both, answer(both, tmp_path))
    text = {row.task: row.gain for row in screen.rows}
    assert text["rotation"].endswith(" at the same seeds")
    assert "at the same seeds" not in text["simclr"]
    alone = without_last_evaluation(compute_findings(findings.study, task="rotation"), "rotation")
    gains = task_gains(alone)
    assert gains.levels["untrained"] == gains.rows["untrained"].iloc[0] < 0.5
    assert "at the same seeds" not in first_screen(alone, answer(alone, tmp_path)).rows[0].gain


def test_levels_within_the_margin_share_a_line_and_no_label_overlaps_another():
    levels = {"untrained": 0.118, "raw pixels": 0.114, "chance": 0.1, "largest class": 0.12}
    untrained, chance = _levels(levels, margin=0.01, top=0.26)
    assert list(untrained.labels) == ["untrained 11.8", "≈ raw pixels 11.4", "≈ largest class 12.0"]
    assert (list(chance.labels), chance.is_left) == (["chance 10.0"], True)
    for margin in (0.0, 0.001, 0.01):
        for top in (0.13, 0.26, 0.5, 1.0):
            placed = _levels(levels, margin, top)
            boxes = [(*each.span, each.row, each.lines) for each in placed]
            assert all(low >= 0 and high <= 100 for low, high, *_ in boxes)
            for place, (low, high, row, lines) in enumerate(boxes):
                for low2, high2, row2, lines2 in boxes[:place]:
                    assert high <= low2 or high2 <= low or lines <= row2 or lines2 <= row
