"""Each rule of the verdicts, on small curves made by hand; and the case that started this."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.convergence import VERDICTS, verdicts
from analysis.records import FAILED, FINISHED, STOPPED
from tests.analysis.simulated_frames import frames_of
from trainables.errors import UserError
from trainables.simulated.trajectories import OUTCOMES
from trainables.trial import RANDOM_INIT, RAW_PIXELS

Curves = Mapping[str, Sequence[float]]


def frames(values: Curves, every: int = 25, **row: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of one trial `t` that reported `values` at steps 0, every, 2 every ...; NaN is a gap.

    A value of infinity is reported as NaN.
    """
    points = [
        ("t", i * every, name, math.nan if math.isinf(value) else value)
        for name, curve in values.items()
        for i, value in enumerate(curve)
        if not math.isnan(value)
    ]
    known = {
        "trial_id": "t",
        "task": "rotation",
        "status": FINISHED,
        "primary_metric": "val/accuracy",
        "primary_mode": "max",
        "chance": 0.25,
        "n_validation": 1000,
        "chance/val/accuracy": 0.25,
    }
    return pd.DataFrame([{**known, **row}]), pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])


def classified(values: Curves, every: int = 25, **row: Any) -> Any:
    """Return the only row of the verdicts on one trial."""
    (found,) = verdicts(*frames(values, every, **row)).itertuples()
    return found


# The case that started this: two heads at chance under one loss that seemed to learn (RECIPES, section 0)


def original_case() -> tuple[dict[str, list[float]], dict[str, Any]]:
    values = {
        "train/loss": [math.nan, 6.8, 4.8, 4.5, 4.46, 4.44, 4.43],
        "val/loss": [math.nan, 10.5, 6.2, 4.65, 4.62, 4.9, 4.5],
        "val/accuracy_position": [math.nan, 0.121, 0.131, 0.117, 0.136, 0.128, 0.130],
        "val/accuracy_class": [math.nan, 0.095, 0.104, 0.110, 0.098, 0.093, 0.107],
    }
    row = {
        "task": "context_prediction",
        "primary_metric": "val/loss",
        "primary_mode": "min",
        "chance": math.log(8) + math.log(10),
        "chance/val/loss": math.log(8) + math.log(10),
        "chance/train/loss": math.log(8) + math.log(10),
        "chance/val/accuracy": math.nan,
        "chance/val/accuracy_position": 1 / 8,
        "chance/val/accuracy_class": 1 / 10,
        "n_validation": 1449,
        "n_images": 1464,
        "batch_size": 128,
        "lr": 1e-3,
        "option/pairs_per_image": 1,
        "option/head_norm": "batch",
    }
    return values, row


def test_the_case_that_started_this_is_at_chance_in_both_heads() -> None:
    values, row = original_case()
    found = classified(values, every=11, **row)
    assert found.verdict == "at_chance"
    assert "val/accuracy_position 0.13 after 66 steps" in found.evidence
    assert "val/accuracy_class 0.107 after 66 steps" in found.evidence
    assert "1,449 predictions" in found.evidence
    assert "val/loss" not in found.evidence
    for words in (
        "66 showed each of 1,464 images 5.77 times",
        "pairs_per_image 8 or 40 instead of 1",
        "batch_no_affine",
    ):
        assert words in found.cure


# Each rule


FLAT = [0.25, 0.5, 0.6, 0.62, 0.618, 0.622, 0.62, 0.619, 0.621]
LOSS = [1.39, 1.1, 0.9, 0.85, 0.83, 0.82, 0.82, 0.815, 0.815]


def flat(**others: Sequence[float]) -> dict[str, Sequence[float]]:
    """Return a curve that is flat from the fourth report on, with the errors of paired changes."""
    paired = {
        "val/accuracy_se": [0.015] * 9,
        "val/accuracy_gain_se": [0.015] * 9,
        "val/accuracy_recent_se": [0.004] * 9,
    }
    return {"val/accuracy": FLAT, **paired, **{name.replace("__", "/"): curve for name, curve in others.items()}}


def test_a_flat_curve_beyond_chance_has_converged() -> None:
    found = classified(flat(train__loss=LOSS))
    assert found.verdict == "converged"
    assert re.search(r"val/accuracy 0.621 at step 200 \(chance 0.25, 1,000 predictions\)", found.evidence)
    assert "twice the steps would add at most 3.0% of its gain" in found.evidence
    assert found.cure.startswith("none")


def test_the_same_curve_is_undecided_where_its_changes_are_not_certain_enough() -> None:
    found = classified({"val/accuracy": FLAT, "train/loss": LOSS})  # of a former version: no errors of changes
    assert found.verdict == "undecided"
    assert found.evidence.startswith("still_improving or converged are possible: val/accuracy 0.621 at step 200")
    assert "twice the steps, budget_steps=400, and compare the two" in found.cure
    few = classified(flat() | {"val/accuracy_recent_se": [0.02] * 9}, n_validation_images=250)
    assert few.verdict == "undecided"


def test_three_reports_do_not_show_where_a_curve_bends() -> None:
    few = {name: curve[:4] for name, curve in flat().items()} | {"val/accuracy": [0.25, 0.62, 0.621, 0.62]}
    found = classified(few)
    assert found.verdict == "undecided"
    assert "at least 4 reports: report_every=18" in found.cure


def test_what_would_decide_is_said_in_images() -> None:
    curve = {"val/accuracy": [0.25, 0.30, 0.45, 0.50, 0.505], "val/accuracy_se": [0.03] * 5}
    curve |= {"val/accuracy_gain_se": [0.03] * 5, "val/accuracy_recent_se": [0.06] * 5}
    found = classified(curve, n_validation_images=100)
    assert found.verdict == "undecided"
    # The 0.055 since the second quarter is 0.917 standard errors; 1.66 are needed: (1.66 / 0.917)^2 x 100.
    assert "about 329 validation images (100 now)" in found.cure


@pytest.mark.parametrize("metric", ["train/loss", "val/loss", "val/loss_fraction"])
def test_a_loss_that_is_not_finite_has_diverged(metric: str) -> None:
    found = classified({"val/accuracy": FLAT, metric: [1.39, 1.2, math.inf]}, lr=0.3, warmup_fraction=0.1)
    assert found.verdict == "diverged"
    assert f"{metric} was nan from step 50 on, 1.2 at step 25" in found.evidence
    assert "lr 0.1 instead of 0.3" in found.cure
    assert "warm-up than 10%" in found.cure


def test_a_loss_that_was_not_finite_for_a_while_has_not_diverged() -> None:
    recovered = [1.39, math.inf, 1.1, 0.9, 0.85, 0.83, 0.82, 0.82, 0.82]
    assert classified(flat(val__loss=recovered, train__loss=LOSS)).verdict == "converged"


def test_a_training_loss_that_grew_beyond_its_start_has_diverged() -> None:
    rising = [math.nan, 1.3, 1.2, 1.4, 1.8, 2.2]
    guessing = [0.25] * 6
    known = {"chance/train/loss": 1.386}
    assert classified({"train/loss": rising, "val/accuracy": guessing}, **known).verdict == "diverged"
    # Coming back, with budget left: it may learn yet. With the budget spent it has not come back.
    falling = [math.nan, 9.0, 8.0, 6.0, 4.0, 2.2]
    many = {"n_validation": 10_000}
    stopped = classified({"train/loss": falling, "val/accuracy": guessing}, status=STOPPED, **known, **many)
    assert stopped.verdict == "at_chance"
    found = classified({"train/loss": falling, "val/accuracy": guessing}, **known)
    assert found.verdict == "diverged"
    assert "1.59 x its initial 1.386 (highest 9)" in found.evidence


def test_a_validation_loss_that_grows_while_training_gains_has_not_diverged() -> None:
    growing = [1.39, 1.2, 1.25, 1.5, 1.9, 2.2, 2.4, 2.6]
    training = [math.nan, 1.2, 0.8, 0.3, 0.1, 0.05, 0.02, 0.01]
    accuracy = [0.25, 0.43, 0.42, 0.42, 0.42, 0.42, 0.42, 0.42]
    found = classified(
        {"val/loss": growing, "train/loss": training, "val/accuracy": accuracy}, **{"chance/val/loss": 1.386}
    )
    assert found.verdict == "overfit"
    assert "val/loss worsened from its best, 1.2 around step 25, to 2.6 at step 175" in found.evidence
    assert "train/loss went from 1.2 to 0.01" in found.evidence


def test_an_accuracy_that_still_rises_is_not_overfit_though_the_loss_does_too() -> None:
    growing = [1.39, 1.2, 1.25, 1.5, 1.9, 2.2, 2.4, 2.6]
    rising = [0.25, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]
    training = [math.nan, 1.2, 0.8, 0.3, 0.1, 0.05, 0.02, 0.01]
    found = classified(
        {"val/loss": growing, "train/loss": training, "val/accuracy": rising}, **{"chance/val/loss": 1.386}
    )
    assert found.verdict == "still_improving"


@pytest.mark.parametrize(("figure", "values"), [("feature_std", [0.45, 0.3, 0.01]), ("rankme", [33.0, 9.0, 1.1])])
def test_features_that_became_one_point_have_collapsed(figure: str, values: list[float]) -> None:
    loss = [math.nan, 5.5, 5.5]
    row = {"task": "simclr", "chance/train/loss": 5.5, "lr": 0.3, "option/temperature": 0.1, "batch_size": 64}
    found = classified({f"health/{figure}": values, "train/loss": loss, "val/accuracy": [0.25, 0.3, 0.4]}, **row)
    assert found.verdict == "collapsed"
    assert f"health/{figure} {values[-1]:g}" in found.evidence
    assert "train/loss 5.5 at step 50 (chance 5.5)" in found.evidence
    for words in ("lr 0.1 instead of 0.3", "temperature instead of 0.1", "batch_size instead of 64"):
        assert words in found.cure


def test_one_dimension_that_solves_the_task_has_not_collapsed() -> None:
    values = flat(health__rankme=[33.0] + [1.5] * 8, train__loss=[0.69, 0.3, *[0.05] * 7])
    assert classified(values, **{"chance/train/loss": math.log(2)}).verdict == "converged"


def test_features_as_narrow_as_untrained_ones_have_not_collapsed() -> None:
    assert classified(flat(health__feature_std=[0.04] * 9)).verdict == "converged"


def test_nothing_learned_is_shown_by_an_upper_bound_not_by_the_lack_of_evidence() -> None:
    guessing = [0.25, 0.26, 0.24, 0.25]
    assert classified({"val/accuracy": guessing}, n_validation=400).verdict == "undecided"
    found = classified({"val/accuracy": guessing}, n_validation=4000)
    assert found.verdict == "at_chance"
    assert "chance 0.25: it learned at most 1.50% of the way to a perfect score, below 3%" in found.evidence
    assert "with 4,000 predictions" in found.evidence
    few = classified({"val/accuracy": guessing}, n_validation=400)
    assert few.evidence.startswith("at_chance or still_improving or converged are possible")
    assert re.search(r"about [\d,]+ validation images \(400 now\)", few.cure)


def test_a_trial_is_at_chance_by_every_measure_or_by_none() -> None:
    guessing = {"val/accuracy": [0.25, 0.25, 0.25, 0.25], "val/accuracy_se": [0.003] * 4, "val/loss_se": [0.003] * 4}
    known = {"chance/val/loss": 1.386}
    assert classified(guessing | {"val/loss": [1.386, 1.386, 1.386, 1.386]}, **known).verdict == "at_chance"
    # The loss fell by 8 %: nothing that guessing does, though the accuracy did not move.
    assert classified(guessing | {"val/loss": [1.386, 1.37, 1.32, 1.27]}, **known).verdict == "still_improving"


def test_a_loss_is_compared_with_chance_by_its_standard_error() -> None:
    row = {"primary_metric": "val/loss_fraction", "primary_mode": "min", "chance": 1.0, "chance/val/accuracy": math.nan}
    row |= {"chance/val/loss_fraction": 1.0, "task": "context_encoder"}
    flat_loss = [1.0, 0.99, 0.985, 0.99, 0.99]
    for error, at_chance in ((0.01, True), (0.05, False)):
        values = {"val/loss_fraction": flat_loss, "val/loss_fraction_se": [error] * 5, "train/loss": [0.1] * 5}
        assert (classified(values, **row).verdict == "at_chance") == at_chance


def test_beyond_chance_from_the_start_a_trial_must_beat_the_untrained_network() -> None:
    untrained = {"task": "simclr", "chance/val/accuracy": 0.004, "chance": 0.004, "n_validation": 4000}
    found = classified({"val/accuracy": [0.1, 0.1, 0.11, 0.1, 0.1]}, **untrained)
    assert found.verdict == "at_chance"
    assert "untrained 0.1" in found.evidence
    assert classified({"val/accuracy": [0.1, 0.2, 0.25, 0.25, 0.25]}, **untrained).verdict != "at_chance"


def test_paired_images_exclude_learning_where_two_means_could_not() -> None:
    untrained = {"task": "simclr", "chance/val/accuracy": 0.004, "chance": 0.004, "n_validation_images": 200}
    accuracy = {"val/accuracy": [0.1, 0.1, 0.11, 0.1, 0.1], "val/accuracy_se": [0.02] * 5}
    assert classified(accuracy, **untrained).verdict == "undecided"
    paired = {f"val/accuracy_{change}_se": [math.nan, *[0.006] * 4] for change in ("gain", "recent")}
    assert classified(accuracy | paired, **untrained).verdict == "at_chance"


def test_what_was_learned_and_lost_again_in_training_too_is_not_convergence() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.62, 0.6, 0.45, 0.4, 0.38, 0.38, 0.37]
    loss = [math.nan, 1.2, 0.9, 0.8, 0.85, 1.1, 1.2, 1.25, 1.25, 1.26]
    found = classified({"val/accuracy": accuracy, "train/loss": loss}, **{"chance/train/loss": 1.386})
    assert found.verdict == "diverged"
    assert "train/loss with it" in found.evidence


def test_a_fall_from_the_best_while_training_gains_is_overfit_and_names_the_cures() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.66, 0.64, 0.6, 0.57, 0.55, 0.54, 0.53]
    loss = [math.nan, 1.2, 0.9, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01]
    row = {"augmentation_strength": 0.25, "n_images": 200, "encoder": "conv4", "width": 24}
    found = classified({"val/accuracy": accuracy, "train/loss": loss}, **row)
    assert found.verdict == "overfit"
    assert "0.66 around step 75, to 0.53 at step 225: by 0.13" in found.evidence
    cures = found.cure.split("; or ")
    assert cures[0].startswith("more images than 200 (on real images, four times the images improved ")
    assert cures[1].startswith("a higher augmentation_strength than 0.25 (on real images, ")
    assert cures[2:] == ["fewer steps: about 75 instead of 225"]
    noisy = classified({"val/accuracy": accuracy, "train/loss": loss}, **row | {"n_validation": 30})
    assert noisy.verdict != "overfit"


def test_a_fall_that_training_shares_is_not_overfit() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.66, 0.65, 0.63, 0.61, 0.61, 0.61, 0.61]
    loss = [math.nan, 1.2, 0.9, 0.6, 0.62, 0.66, 0.69, 0.7, 0.7, 0.7]
    gaining = [math.nan, 1.2, 0.9, 0.6, 0.58, 0.54, 0.51, 0.5, 0.5, 0.5]
    known = {"chance/train/loss": 1.386, "n_validation": 4000}
    assert classified({"val/accuracy": accuracy, "train/loss": gaining}, **known).verdict == "overfit"
    assert classified({"val/accuracy": accuracy, "train/loss": loss}, **known).verdict == "converged"


RISING = [0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]


def test_a_slope_at_the_end_buys_more_steps_within_bounds() -> None:
    found = classified({"val/accuracy": RISING, "train/loss": LOSS}, budget_steps=200)
    assert found.verdict == "still_improving"
    assert "val/accuracy 0.65 at step 200" in found.evidence
    assert "at least 800 more, budget_steps=1,000" in found.cure  # a line has no end: four times is a limit
    slowing = [0.25, *(0.65 - 0.4 * np.exp(-np.arange(1, 9) / 4))]
    bought = classified({"val/accuracy": slowing, "train/loss": LOSS}, budget_steps=200, n_validation=20_000)
    more = int(re.search(r"about ([\d,]+) more", bought.cure).group(1).replace(",", ""))  # type: ignore[union-attr]
    assert 100 <= more < 400


def test_a_trial_that_was_stopped_while_improving_is_to_run_to_its_budget() -> None:
    found = classified({"val/accuracy": RISING}, status=STOPPED, budget_steps=1000)
    assert found.verdict == "still_improving"
    assert found.cure == "let it run to its budget of 1,000 steps"


def test_a_schedule_that_anneals_does_not_make_a_trial_converge() -> None:
    # Progress is proportional to the learning rate spent: a slow trial that a cosine brought to a halt.
    time = np.linspace(0, 1, 21)
    spent = time / 2 + np.sin(np.pi * time) / (2 * np.pi)
    accuracy = list(0.25 + 0.6 * spent / spent[-1])
    assert accuracy[-1] - accuracy[-3] < 0.02 * (accuracy[-1] - accuracy[0])
    errors = {f"val/accuracy_{change}_se": [math.nan, *[0.005] * 20] for change in ("gain", "recent")}
    assert classified({"val/accuracy": accuracy, **errors}).verdict == "still_improving"
    flat_end = list(0.85 - 0.6 * np.exp(-spent * 60))
    assert classified({"val/accuracy": flat_end, **errors}).verdict == "converged"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.25, 0.62], "still_improving"),  # one report: end and beginning of the curve are the same
        ([0.25, 0.61, 0.62], "undecided"),
        ([0.25, 0.4, 0.6], "still_improving"),
        ([0.25, 0.6, 0.62, 0.62], "undecided"),
        ([0.25, 0.6, 0.62, 0.45], "diverged"),
        ([0.25, 0.3, 0.4, 0.5, 0.6], "still_improving"),
    ],
)
def test_few_reports_decide_only_what_is_large(values: list[float], verdict: str) -> None:
    training = [math.nan, *(1.5 - value for value in values[1:])]
    found = classified({"val/accuracy": values, "train/loss": training}, **{"chance/train/loss": 1.25})
    assert found.verdict == verdict
    assert ("cannot tell" in found.evidence) == (len(values) == 2)


def test_small_but_certain_changes_are_not_worth_a_verdict() -> None:
    steps = np.arange(21)
    creeping = 0.6 + 0.0003 * steps
    creeping[0] = 0.25
    assert classified({"val/accuracy": list(creeping)}, n_validation=10**9).verdict == "converged"
    sinking = 0.6 - 0.0003 * steps
    sinking[0] = 0.25
    training = [math.nan, *np.linspace(1, 0, 20)]
    assert (
        classified({"val/accuracy": list(sinking), "train/loss": training}, n_validation=10**9).verdict == "converged"
    )


# Cases of real trials that earlier rules called wrongly (EVIDENCE: each was trained further)


@pytest.mark.parametrize("losses", [(0.514, 0.458), (0.495, 0.453), (0.501, 0.457)])
def test_two_reports_of_a_context_encoder_are_not_called_converged(losses: tuple[float, float]) -> None:
    # `quick`, 128 images: 300 steps took each of the three 15 % further.
    row = {"task": "context_encoder", "primary_metric": "val/loss_fraction", "primary_mode": "min", "chance": 1.0}
    row |= {"chance/val/loss_fraction": 1.0, "chance/val/accuracy": math.nan, "n_validation": 128}
    values = {"val/loss_fraction": [1.0, *losses], "val/loss_fraction_se": [0.0, 0.03, 0.03]}
    assert classified(values, every=50, **row).verdict in ("undecided", "still_improving")


@pytest.mark.parametrize("hits", [16, 25, 33])
def test_a_contrastive_loss_far_below_the_untrained_one_is_not_at_chance(hits: int) -> None:
    row = {"task": "simclr", "chance": 1 / 255, "chance/val/accuracy": 1 / 255, "chance/val/loss": math.log(255)}
    values = {"val/accuracy": [14 / 256, 15 / 256, hits / 256], "val/loss": [5.52, 5.2, 4.93]}
    found = classified(values | {"val/loss_se": [0.03, 0.05, 0.06]}, every=50, n_validation=256, **row)
    assert found.verdict in ("undecided", "still_improving")
    few = {"val/accuracy": [0.1, 0.1, 0.12], "val/loss": [4.484, 4.0, 3.648], "val/loss_se": [0.013, 0.06, 0.07]}
    row |= {"chance": 1 / 95, "chance/val/accuracy": 1 / 95, "chance/val/loss": 4.554}
    assert classified(few, n_validation=96, **row).verdict in ("undecided", "still_improving")


def test_context_prediction_that_may_have_left_chance_is_not_given_up() -> None:
    # Stopped at 0.185 +- 0.02 by an earlier rule; its sisters reached 0.20 and 0.23.
    row = {"task": "context_prediction", "chance": 1 / 8, "chance/val/accuracy": 1 / 8, "n_validation": 377}
    found = classified(
        {"val/accuracy": [0.125, 0.13, 0.16, 0.185], "val/accuracy_se": [0.0, 0.017, 0.019, 0.02]}, **row
    )
    assert found.verdict in ("undecided", "still_improving")


# Frames


def test_a_failed_trial_says_why_unless_it_had_diverged() -> None:
    reason = "Traceback ...\nRuntimeError: CUDA out of memory"
    found = classified({"val/accuracy": FLAT}, status=FAILED, reason=reason)
    assert found.verdict == "failed"
    assert found.evidence == "failed after 200 steps: RuntimeError: CUDA out of memory"
    assert (
        classified({"val/accuracy": FLAT, "train/loss": [1.0, math.inf]}, status=FAILED, reason=reason).verdict
        == "diverged"
    )
    assert classified({}, status=FAILED).verdict == "failed"


def test_what_did_not_train_has_no_verdict() -> None:
    runs, curves = frames({"val/accuracy": FLAT})
    for change in ({"task": RANDOM_INIT}, {"task": RAW_PIXELS}, {"init_from": "abc"}):
        assert verdicts(runs.assign(**change), curves).empty
    assert verdicts(runs, curves[curves["step"] == 0]).empty
    assert verdicts(runs, curves[:0]).empty
    assert list(verdicts(runs[:0], curves[:0]).columns) == ["trial_id", "verdict", "possible", "evidence", "cure"]


def test_rows_come_in_the_order_of_runs_whatever_the_order_of_points() -> None:
    runs, curves, _ = frames_of(
        [*OUTCOMES, "failed"], rng=np.random.default_rng(9), tasks=("rotation", "simclr", "context_encoder")
    )
    found = verdicts(runs, curves)
    assert found["trial_id"].tolist() == runs["trial_id"].tolist()
    assert set(found["verdict"]) <= set(VERDICTS)
    assert (found[["evidence", "cure"]].map(len) > 0).all(axis=None)
    assert not found["evidence"].str.contains("\n").any()
    pd.testing.assert_frame_equal(found, verdicts(runs, curves.sample(frac=1, random_state=0)))


def test_nothing_validated_shows_no_learning() -> None:
    found = classified({"train/loss": [1.0, 0.9, 0.8]})
    assert found.verdict == "undecided"
    assert "nothing shows what it learned" in found.evidence


def test_a_frame_without_a_needed_column_is_refused() -> None:
    runs, curves = frames({"val/accuracy": FLAT})
    with pytest.raises(UserError, match="runs has no column status"):
        verdicts(runs.drop(columns="status"), curves)
    with pytest.raises(UserError, match="curves has no column value"):
        verdicts(runs, curves.drop(columns="value"))
