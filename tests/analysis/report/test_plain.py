"""The first screen's sentences: plain words that say no more than their numbers show."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.comparisons import PRETRAINING_TEST
from analysis.findings import Findings, compute_findings, queries
from analysis.findings.gains import task_gains
from analysis.report.first_screen import _levels, first_screen
from analysis.report.next_step import next_step
from analysis.report.plain import _gained, answer, cure, headline, order_note
from analysis.report.sections.summary import summary
from analysis.report.words import in_points
from tests.analysis.report.pages import section

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


def test_what_is_best_is_open_only_where_no_task_is_ahead_and_equivalent_tasks_are_called_so(findings: Findings):
    found = with_answers(findings, "inconclusive", **dict.fromkeys(TASKS, "better"))
    between = found.between_tasks
    rotation = (between["cell"] == "simclr") & (between["baseline"] == "rotation")
    for answer_of_it, known in (
        ("worse", "rotation is better than simclr"),
        ("equivalent", "simclr is equivalent to rotation"),
    ):
        answers = between["answer"].mask(rotation, answer_of_it)
        text = said(dataclasses.replace(found, between_tasks=between.assign(answer=answers)))
        assert f"On the test split, {known}." in text
        open_one = "simclr cannot be told apart from context_prediction."
        assert (open_one in text) == (answer_of_it == "worse")
        assert (f"Which task is best is still open: {open_one}" in text) == (answer_of_it == "equivalent")


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
    (folder / "study.yaml").touch()
    assert next_step(findings, gains, folder).command == "", "no trial of the confirm phase had a value"
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


def with_outcomes(findings: Findings, **outcomes: dict[str, object] | None) -> Findings:
    """Return the findings with other outcomes of phases; None for a phase that has not ended."""
    known = {**findings.study.outcomes, **outcomes}
    study = dataclasses.replace(
        findings.study, outcomes={name: each for name, each in known.items() if each is not None}
    )
    return dataclasses.replace(findings, study=study)


@pytest.mark.parametrize("outcomes", [{"evaluate": None}, {"ablate": None}, {"ablate": {"designs": [], "cut": True}}])
def test_a_study_with_a_phase_that_has_not_ended_is_to_be_finished(
    findings: Findings, tmp_path: Path, outcomes: dict[str, dict[str, object] | None]
):
    folder = tmp_path / "my studies" / "quick"
    folder.mkdir(parents=True)
    (folder / "recommended.yaml").touch()
    begun, gains = with_outcomes(findings, **outcomes), task_gains(findings)
    assert next_step(begun, gains, folder).why != "Finish the study:", "without its configuration it cannot be"
    (folder / "study.yaml").touch()
    step = next_step(begun, gains, folder)
    assert step.why == "Finish the study:"
    where = folder.parent.as_posix()
    assert shlex.split(step.command)[2:] == [f"{where}/quick/study.yaml", "--output", where]
    again = next_step(findings, gains, folder)
    assert shlex.split(again.command)[2] == f"{where}/quick/recommended.yaml"


def test_an_ablation_is_advised_only_to_a_study_without_one(findings: Findings, tmp_path: Path):
    (tmp_path / "recommended.yaml").touch()
    none = dataclasses.replace(task_gains(findings), rows=pd.DataFrame())
    assert next_step(findings, none, tmp_path).why == "Train the chosen configurations again, with fresh seeds:"


def probed_elsewhere(folder: Path) -> Findings:
    """Return the findings of a study that trained on images without labels and was probed on `shapes`."""
    study = analysis.load(folder)
    runs = study.runs.assign(dataset="photos")
    datasets = {**study.datasets, "photos": {"counts": {}}}
    return compute_findings(
        dataclasses.replace(study, runs=runs, datasets=datasets, config={**study.config, "dataset": "photos"})
    )


def test_a_study_that_was_probed_on_another_data_set_is_answered_on_that_one(folder: Path, tmp_path: Path):
    found = probed_elsewhere(folder)
    better = with_answers(found, simclr="better")
    first = said(better)[0]
    assert first.startswith("**Pre-training with simclr helps.**")
    assert " of 100 test images of shapes right, **" in first
    screen = first_screen(found, answer(found, tmp_path))
    assert screen.axis == "Linear probe on the test split of shapes, in %"
    assert all(row.mean is not None for row in screen.rows)
    assert "has the highest validation mean on photos**. On shapes: " in summary(found)[0]
    assert "|linear probe|untrained|difference" in section(found, "what-to-use").splitlines()[0]
    assert "Without a final probe on the training data set, cells are compared by" in section(found, "cures")


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


def test_an_interval_at_the_line_shows_no_gain_only_where_line_and_test_agree(findings: Findings, tmp_path: Path):
    def decides(found: Findings) -> bool:
        return first_screen(found, answer(found, tmp_path)).line_decides

    assert decides(findings)
    assert not decides(without_last_evaluation(findings, "rotation")), "its untrained networks are of other seeds"
    signs = with_answers(findings, simclr="better")
    shown = dataclasses.replace(signs, against_untrained=signs.against_untrained.assign(ci_low=-0.001))
    assert decides(signs)
    assert not decides(shown), "the sign-flip test shows a gain that the interval does not"


@pytest.mark.parametrize(("margin", "words"), [(0.0025, "0.25 points"), (0.01, "1 point"), (0.07, "7 points")])
def test_a_margin_is_said_as_it_was_given(margin: float, words: str):
    assert in_points(margin) == words


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
