"""Verdicts on trials that learned, on curves made by hand, and the frame of verdicts."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from analysis.convergence import VERDICTS, verdicts
from analysis.records import STOPPED
from analysis.report.words import first_clause
from tests.analysis.convergence.made_curves import FLAT, LOSS, RISING, classified, flat, frames
from tests.analysis.simulated_frames import frames_of
from trainables.errors import UserError
from trainables.simulated.trajectories import OUTCOMES
from trainables.trial import RANDOM_INIT, RAW_PIXELS


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


def test_a_probe_that_may_still_improve_leaves_that_open_and_is_named() -> None:
    probe = [0.3, 0.40, 0.43, 0.44, 0.45, 0.46, 0.47, 0.475, 0.48]
    paired = {"probe/linear_se": [0.02] * 9, "probe/linear_gain_se": [0.02] * 9, "probe/linear_recent_se": [0.016] * 9}
    found = classified(flat() | {"probe/linear": probe, **paired})
    assert found.verdict == "undecided"
    assert found.possible == "still_improving or converged"
    assert "; probe/linear 0.48 at step 200" in found.evidence


def test_a_probe_that_improves_has_no_forecast_which_was_measured_on_validation_metrics_alone() -> None:
    paired = {"probe/linear_se": [0.01] * 9, "probe/linear_gain_se": [0.01] * 9, "probe/linear_recent_se": [0.01] * 9}
    found = classified(flat() | {"probe/linear": RISING, **paired})
    assert found.verdict == "still_improving"
    assert found.evidence.startswith("no improvement shown in val/accuracy, but probe/linear 0.65 at step 200")
    assert "expected to add" not in found.evidence
    assert first_clause(found.evidence) == found.evidence.split("; ")[0]


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
    assert "about 329 validation images (100 now), which more steps or larger batches pay for" in found.cure


def test_where_no_number_of_images_would_decide_it_is_said_so() -> None:
    curve = {"val/accuracy": [0.25, 0.30, 0.50, 0.50, 0.505], "val/accuracy_se": [0.03] * 5}
    curve |= {"val/accuracy_gain_se": [0.03] * 5, "val/accuracy_recent_se": [0.06] * 5}
    found = classified(curve, n_validation_images=100)
    assert found.verdict == "undecided"
    assert "more than 2,000 validation images (100 now), which more steps or larger batches pay for" in found.cure


def test_an_accuracy_that_still_rises_is_not_overfit_though_the_loss_does_too() -> None:
    growing = [1.39, 1.2, 1.25, 1.5, 1.9, 2.2, 2.4, 2.6]
    rising = [0.25, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]
    training = [math.nan, 1.2, 0.8, 0.3, 0.1, 0.05, 0.02, 0.01]
    found = classified(
        {"val/loss": growing, "train/loss": training, "val/accuracy": rising}, **{"chance/val/loss": 1.386}
    )
    assert found.verdict == "still_improving"


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


def test_a_fall_without_a_training_metric_is_overfit_and_says_that_training_is_unknown() -> None:
    found = classified({"val/accuracy": [0.25, 0.5, 0.6, 0.66, 0.64, 0.6, 0.57, 0.55, 0.54, 0.53]})
    assert found.verdict == "overfit"
    assert "to 0.53 at step 225: by 0.13" in found.evidence
    assert found.evidence.endswith("; no training metric was reported")
    assert "fewer steps" not in found.cure


def test_a_fall_that_training_shares_is_not_overfit() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.66, 0.65, 0.63, 0.61, 0.61, 0.61, 0.61]
    loss = [math.nan, 1.2, 0.9, 0.6, 0.62, 0.66, 0.69, 0.7, 0.7, 0.7]
    gaining = [math.nan, 1.2, 0.9, 0.6, 0.58, 0.54, 0.51, 0.5, 0.5, 0.5]
    known = {"chance/train/loss": 1.386, "n_validation": 4000}
    assert classified({"val/accuracy": accuracy, "train/loss": gaining}, **known).verdict == "overfit"
    assert classified({"val/accuracy": accuracy, "train/loss": loss}, **known).verdict == "converged"


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


@pytest.mark.parametrize("losses", [(0.514, 0.458), (0.495, 0.453), (0.501, 0.457)])
def test_two_reports_of_a_context_encoder_are_not_called_converged(losses: tuple[float, float]) -> None:
    # `quick`, 128 images: 300 steps took each of the three 15% further.
    row = {"task": "context_encoder", "primary_metric": "val/loss_fraction", "primary_mode": "min", "chance": 1.0}
    row |= {"chance/val/loss_fraction": 1.0, "chance/val/accuracy": math.nan, "n_validation": 128}
    values = {"val/loss_fraction": [1.0, *losses], "val/loss_fraction_se": [0.0, 0.03, 0.03]}
    assert classified(values, every=50, **row).verdict in ("undecided", "still_improving")


def test_what_did_not_train_has_no_verdict() -> None:
    runs, curves = frames({"val/accuracy": FLAT})
    for change in ({"task": RANDOM_INIT}, {"task": RAW_PIXELS}, {"init_from": "abc"}):
        assert verdicts(runs.assign(**change), curves).empty
    assert verdicts(runs, curves[curves["step"] == 0]).empty
    assert verdicts(runs, curves[:0]).empty
    dtypes = verdicts(runs[:0], curves[:0]).dtypes.astype(str).to_dict()
    assert list(dtypes) == ["trial_id", "verdict", "possible", "left_chance", "evidence", "cure"]
    assert {name for name, dtype in dtypes.items() if dtype != "str"} == {"left_chance"}
    assert dtypes["left_chance"] == str(verdicts(runs, curves)["left_chance"].dtype) == "boolean"


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


def test_a_frame_without_a_needed_column_is_refused() -> None:
    runs, curves = frames({"val/accuracy": FLAT})
    with pytest.raises(UserError, match="runs has no column status"):
        verdicts(runs.drop(columns="status"), curves)
    with pytest.raises(UserError, match="curves has no column value"):
        verdicts(runs, curves.drop(columns="value"))


def test_a_loss_that_fell_is_said_to_have_gained_with_the_level_of_its_interval() -> None:
    falling = [1.39, 1.3, 1.25, 1.24, 1.23, 1.22, 1.21, 1.205, 1.2]
    row = {"primary_metric": "val/loss", "primary_mode": "min", "chance": 1.386, "chance/val/loss": 1.386}
    found = classified({"val/loss": falling, "val/loss_se": [0.02] * 9}, **row)
    assert found.verdict == "undecided"
    assert found.evidence.endswith(", which gained +0.0325 [-0.014, 0.079] (90% interval) since step 100")
