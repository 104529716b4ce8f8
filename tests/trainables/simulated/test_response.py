"""The declared truth: effects have their declared sizes and directions, and nothing else has an effect."""

from __future__ import annotations

from typing import Any

import pytest

from tests.trainables.simulated.configurations import LINEAR, trial
from trainables import simulated
from trainables.simulated.effects import EffectByValue, LogQuadratic, Peak, Quadratic
from trainables.simulated.response import failure_rate, final_progress, gain, magnitudes, memorization, outcome_rates
from trainables.simulated.trajectories import (
    AT_CHANCE,
    COLLAPSED,
    CONVERGED,
    DIVERGED,
    OUTCOMES,
    OVERFIT,
    STILL_IMPROVING,
)
from trainables.tasks import TASKS
from trainables.trial import RANDOM_INIT, TrialConfig


def effect(changed: TrialConfig, base: TrialConfig) -> float:
    """Return the true difference of the probe's accuracy."""
    return simulated.expected_value(changed, LINEAR) - simulated.expected_value(base, LINEAR)


def only(outcome: str, config: TrialConfig) -> bool:
    """Return whether all seeds of a configuration have the same outcome."""
    return outcome_rates(config)[outcome] == pytest.approx(1)


@pytest.mark.parametrize("task", TASKS)
def test_the_optimal_learning_rate_is_the_best_and_the_loss_is_quadratic_in_its_logarithm(task: str) -> None:
    best = simulated.TRUTH.tasks[task].lr
    base = trial(task, lr=best, budget_steps=5000, n_images=10_000, augmentation_strength=1.0)
    assert effect(base.replace(lr=3 * best), base) == pytest.approx(-0.03 * 0.4771**2, rel=0.02)
    below = effect(base.replace(lr=best / 3), base)
    assert below == pytest.approx(-0.03 * 0.4771**2, rel=0.1)
    assert effect(base.replace(lr=best / 9), base) == pytest.approx(4 * below, rel=0.3)
    assert effect(base.replace(optimizer="sgd", lr=50 * best), base) == 0


@pytest.mark.parametrize("task", TASKS)
def test_each_op_alone_has_its_declared_effect(task: str) -> None:
    base = trial(task, augmentation={}, augmentation_strength=1.0, n_images=10**9)
    for op, declared in simulated.TRUTH.tasks[task].ops.items():
        for magnitude in (0.2, 1.0):
            with_op = base.replace(augmentation={op: magnitude})
            assert effect(with_op, base) == pytest.approx(declared(magnitude), abs=1e-4)
            halved = base.replace(augmentation={op: magnitude}, augmentation_strength=0.5)
            assert effect(halved, base) == pytest.approx(declared(magnitude / 2), abs=1e-4)


def test_two_ops_of_simclr_give_more_together_than_the_sum_of_each() -> None:
    base = trial("simclr", augmentation={}, augmentation_strength=1.0, n_images=10**9)
    crop, jitter = ({"crop_resize": 1.0}, {"color_jitter": 0.5})
    alone = [effect(base.replace(augmentation=policy), base) for policy in (crop, jitter)]
    both = effect(base.replace(augmentation=crop | jitter), base)
    assert both - sum(alone) == pytest.approx(0.06 * 1.0 * 0.5, abs=1e-4)


def test_few_images_without_augmentation_overfit_below_random_init_and_augmentation_cures_it() -> None:
    small = trial(n_images=200, augmentation_strength=0.0, batch_size=32)
    augmented = small.replace(augmentation_strength=1.0)
    untrained = simulated.expected_value(TrialConfig("ablate", RANDOM_INIT, dataset="cifar10", width=16), LINEAR)
    assert only(OVERFIT, small)
    assert only(CONVERGED, augmented)
    assert simulated.expected_value(small, LINEAR) < untrained - 0.03
    assert simulated.expected_value(augmented, LINEAR) > untrained + 0.02


def test_augmentation_helps_the_more_the_fewer_the_images() -> None:
    gains = []
    for n_images in (200, 1000, 5000, None):
        plain = trial(n_images=n_images, augmentation_strength=0.0, batch_size=32)
        gains.append(effect(plain.replace(augmentation_strength=0.5), plain))
    assert sorted(gains, reverse=True) == gains
    assert gains[0] > 2.5 * gains[-1] > 0


def test_a_smaller_encoder_knows_less_by_heart_but_is_worse_at_its_best() -> None:
    small = trial(n_images=200, augmentation_strength=0.0)
    assert memorization(small.replace(width=4)) < memorization(small)
    assert effect(trial(width=8), trial()) == pytest.approx(-0.01, abs=2e-3)


def test_too_few_steps_leave_a_trial_at_chance_or_still_improving() -> None:
    assert only(AT_CHANCE, trial("context_prediction", budget_steps=50))
    assert only(STILL_IMPROVING, trial("context_prediction", budget_steps=120))
    assert only(CONVERGED, trial("context_prediction", budget_steps=600))
    assert all(only(AT_CHANCE, trial(task, budget_steps=0)) for task in TASKS)


def test_pairs_and_norm_cure_context_prediction_where_augmentation_and_images_do_not() -> None:
    case = trial(
        "context_prediction",
        n_images=200,
        batch_size=32,
        budget_steps=400,
        augmentation_strength=0.0,
        options={"pairs_per_image": 1, "head_norm": "batch"},
    )
    assert only(AT_CHANCE, case)
    assert only(AT_CHANCE, case.replace(augmentation_strength=1.0))
    assert only(AT_CHANCE, case.replace(n_images=None))
    for pairs in (8, 40):
        cured = case.with_values({"option/pairs_per_image": pairs})
        assert only(CONVERGED, cured)
        assert effect(cured, case) > 0.01
    assert outcome_rates(case.with_values({"option/head_norm": "batch_no_affine"}))[AT_CHANCE] < 0.5
    # More steps leave chance, but then the few images are known by heart.
    assert only(OVERFIT, case.replace(budget_steps=1600))


def test_corners_diverge_collapse_and_fail() -> None:
    assert only(DIVERGED, trial(lr=1.0))
    assert 0 < outcome_rates(trial(lr=0.03))[DIVERGED] < 1
    assert outcome_rates(trial(lr=0.01))[DIVERGED] == 0
    assert only(COLLAPSED, trial(weight_decay=0.5))
    assert failure_rate(trial()) == 0
    assert failure_rate(trial(batch_size=2048)) == pytest.approx(0.5)
    assert failure_rate(trial(batch_size=4096)) == 1
    assert failure_rate(trial(), simulated.Truth(failure_rate=0.1)) == pytest.approx(0.1)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("lr", [1e-5, 1e-3, 0.05])
@pytest.mark.parametrize("n_images", [200, None])
def test_rates_are_probabilities_and_what_learns_is_plainly_above_chance(
    task: str, lr: float, n_images: int | None
) -> None:
    config = trial(task, lr=lr, n_images=n_images)
    rates = outcome_rates(config)
    assert tuple(rates) == OUTCOMES
    assert all(0 <= rate <= 1 for rate in rates.values())
    assert sum(rates.values()) == pytest.approx(1)
    assert 0.15 <= final_progress(config) <= 0.9
    assert -0.25 < gain(config) < 0.15


@pytest.mark.parametrize(
    "values",
    [
        {"warmup_fraction": 0.5},
        {"workers": 2},
        {"report_every": 7},
        {"data_seed": 5},
        {"option/head_hidden": 64},
        {"phase": "ablate"},
        {"cell": "base"},
        {"init_from": "abc"},
        {"probe_split": "test"},
    ],
)
def test_what_is_not_declared_has_no_effect(values: dict[str, Any]) -> None:
    base = trial()
    for metric in (LINEAR, "val/accuracy", "probe/knn"):
        assert simulated.expected_value(base.with_values(values), metric) == simulated.expected_value(base, metric)
    assert outcome_rates(base.with_values(values)) == outcome_rates(base)


def test_magnitudes_are_scaled_and_cut_at_one() -> None:
    config = trial(augmentation={"flip": 1.0, "gray": 0.4, "blur": 0.0}, augmentation_strength=0.5)
    assert magnitudes(config) == {"flip": 0.5, "gray": 0.2}
    assert magnitudes(config.replace(augmentation_strength=0.0)) == {}


def test_forms_of_effects() -> None:
    assert LogQuadratic(1e-3, 0.02)(1e-2) == pytest.approx(-0.02)
    assert LogQuadratic(1e-3, 0.02, limit=0.05)(0) == -0.05
    assert LogQuadratic(1e-3, 0.02, limit=0.05)(1e9) == -0.05
    assert Quadratic(0.4, 2.0)(0.5) == pytest.approx(-0.02)
    assert Peak(0.01, 0.5)(0.5) == 0.01
    assert Peak(0.01, 0.5)(0.0) == 0
    assert Peak(0.01, 0.2)(1.0) == -0.01
    assert EffectByValue({"a": 0.1})("a") == 0.1
