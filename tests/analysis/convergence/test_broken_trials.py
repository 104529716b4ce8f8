"""Verdicts on trials that diverged, collapsed or failed."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from analysis.convergence import verdicts
from analysis.records import FAILED, STOPPED
from tests.analysis.convergence.made_curves import FLAT, LOSS, classified, flat, frames


@pytest.mark.parametrize("metric", ["train/loss", "val/loss", "val/loss_fraction"])
def test_a_loss_that_is_not_finite_has_diverged(metric: str) -> None:
    found = classified({"val/accuracy": FLAT, metric: [1.39, 1.2, math.inf]}, lr=0.3)
    assert found.verdict == "diverged"
    assert f"{metric} was nan from step 50 on, 1.2 at step 25" in found.evidence
    assert "lr 0.003 instead of 0.3" in found.cure


def test_a_loss_that_was_not_finite_for_a_while_has_not_diverged() -> None:
    recovered = [1.39, math.inf, 1.1, 0.9, 0.85, 0.83, 0.82, 0.82, 0.82]
    assert classified(flat(val__loss=recovered, train__loss=LOSS)).verdict == "converged"


@pytest.mark.parametrize("first", [math.nan, math.inf])
def test_a_loss_that_was_not_finite_at_its_first_report_is_compared_with_the_first_finite_one(first: float) -> None:
    runs, curves = frames(flat(train__loss=[9.0, *LOSS[1:]]))  # of no known chance level, and not validated at step 0
    training = curves["metric"] == "train/loss"
    curves.loc[training & (curves["step"] == 0), ["step", "value"]] = (5, first)
    (found,) = verdicts(runs, curves).itertuples()
    assert found.verdict == "converged"
    curves.loc[training & (curves["step"] == 200), "value"] = 9.0
    (exploded,) = verdicts(runs, curves).itertuples()
    assert exploded.verdict == "diverged"
    assert "train/loss 9 at step 200 is 8.18 x its initial 1.1" in exploded.evidence


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


@pytest.mark.parametrize(("figure", "values"), [("feature_std", [0.45, 0.3, 0.01]), ("rankme", [33.0, 9.0, 1.1])])
def test_features_that_became_one_point_have_collapsed(figure: str, values: list[float]) -> None:
    loss = [math.nan, 5.5, 5.5]
    row = {"task": "simclr", "chance/train/loss": 5.5, "lr": 0.3, "option/temperature": 0.1, "batch_size": 64}
    found = classified({f"health/{figure}": values, "train/loss": loss, "val/accuracy": [0.25, 0.3, 0.4]}, **row)
    assert found.verdict == "collapsed"
    assert f"health/{figure} {values[-1]:g}" in found.evidence
    assert "train/loss 5.5 at step 50 (chance 5.5)" in found.evidence
    for words in ("lr 0.003 instead of 0.3", "temperature instead of 0.1", "batch_size instead of 64"):
        assert words in found.cure


def test_one_dimension_that_solves_the_task_has_not_collapsed() -> None:
    values = flat(health__rankme=[33.0] + [1.5] * 8, train__loss=[0.69, 0.3, *[0.05] * 7])
    assert classified(values, **{"chance/train/loss": math.log(2)}).verdict == "converged"


def test_features_as_narrow_as_untrained_ones_have_not_collapsed() -> None:
    assert classified(flat(health__feature_std=[0.04] * 9)).verdict == "converged"


def test_what_was_learned_and_lost_again_in_training_too_is_not_convergence() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.62, 0.6, 0.45, 0.4, 0.38, 0.38, 0.37]
    loss = [math.nan, 1.2, 0.9, 0.8, 0.85, 1.1, 1.2, 1.25, 1.25, 1.26]
    found = classified({"val/accuracy": accuracy, "train/loss": loss}, **{"chance/train/loss": 1.386})
    assert found.verdict == "diverged"
    assert "train/loss with it" in found.evidence


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


def test_a_broken_trial_has_left_chance_if_its_curves_show_that() -> None:
    accuracy = [0.25, 0.5, 0.6, 0.62, 0.6, 0.45, 0.4, 0.38, 0.38, 0.37]
    loss = [math.nan, 1.2, 0.9, 0.8, 0.85, 1.1, 1.2, 1.25, 1.25, 1.26]
    forgotten = classified({"val/accuracy": accuracy, "train/loss": loss}, **{"chance/train/loss": 1.386})
    assert (forgotten.verdict, forgotten.left_chance) == ("diverged", True)
    exploded = {"train/loss": [1.39, 1.2, math.inf]}
    assert classified({"val/accuracy": FLAT, **exploded}).left_chance
    guessing = classified({"val/accuracy": [0.25, 0.26, 0.24], **exploded}, n_validation=400)
    assert (guessing.verdict, guessing.left_chance) == ("diverged", pd.NA), "400 predictions leave it open"
    assert not classified({"val/accuracy": [0.25, 0.26, 0.24], **exploded}, n_validation=10_000).left_chance
    collapsed = classified({"health/feature_std": [0.45, 0.3, 0.01], "val/accuracy": [0.25, 0.3, 0.6]})
    assert (collapsed.verdict, collapsed.left_chance) == ("collapsed", True)
    assert not classified({"val/accuracy": FLAT}, status=FAILED).left_chance
