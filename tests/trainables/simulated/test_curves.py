"""Curves: each outcome shows what defines it, and the noise is that of finite validation data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.errors import ConfigError
from trainables.simulated.curves import Curve, draw_curve, expected_curve, measure, sample_accuracy
from trainables.simulated.measurement import TWO_HEADS, Measurement
from trainables.simulated.trajectories import OUTCOMES, draw_trajectory
from trainables.tasks import TASKS
from trainables.trial import TrialConfig

ALL_TASKS = [*TASKS, TWO_HEADS]
SEEDS = range(20)


def truths(outcome: str, task: str, **fixed: float | bool) -> list[Curve]:
    """Return noise-free curves of many instances of an outcome."""
    measurement = Measurement(TrialConfig("test", task, budget_steps=400, report_every=20))
    return [
        expected_curve(draw_trajectory(outcome, np.random.default_rng(seed), task=task, **fixed), measurement)
        for seed in SEEDS
    ]


def primary(found: Curve) -> np.ndarray:
    """Return the primary metric as a gain over chance that is the better the higher, 1 perfect."""
    facts = found.facts
    chance, values = facts["chance"][facts["primary_metric"]], found.metrics[facts["primary_metric"]]
    return (values - chance) / (1 - chance) if facts["primary_mode"] == "max" else (chance - values) / chance


# --- what defines each outcome --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ALL_TASKS)
def test_a_diverged_loss_is_not_finite_or_has_grown_and_still_grows(task: str) -> None:
    endless = 0
    for found in truths("diverged", task):
        train, validation = found.metrics["train/loss"], found.metrics["val/loss"]
        if math.isinf(found.trajectory.growth):
            endless += 1
            assert np.isfinite(train[1:-1]).all()
            assert math.isnan(train[-1])
            assert math.isnan(found.metrics["health/feature_std"][-1])
            assert found.steps[-1] < 400
        else:
            assert validation[-1] > 1.5 * validation[0]
            assert train[-1] > 1.5 * train[1]
            assert (np.diff(train[-4:]) > 0).all()
    assert 0 < endless < len(SEEDS)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_collapsed_features_are_one_point_and_tell_nothing(task: str) -> None:
    for found in truths("collapsed", task):
        last = found.report(-1)
        assert last["health/feature_std"] < 0.01
        assert last["health/rankme"] == pytest.approx(1, abs=0.1)
        assert last["health/uniformity"] == pytest.approx(0, abs=0.01)
        assert last["val/loss"] == pytest.approx(found.facts["chance"]["val/loss"], rel=1e-3)
        assert last["probe/linear"] < 0.15


def test_a_collapsed_simclr_stands_at_the_log_of_the_number_of_other_views() -> None:
    found = truths("collapsed", "simclr")[0]
    others = 2 * found.measurement.validation_batch - 1
    assert found.metrics["val/loss"][-1] == pytest.approx(math.log(others), rel=1e-3)


@pytest.mark.parametrize("task", ALL_TASKS)
def test_at_chance_nothing_but_chance_is_ever_seen(task: str) -> None:
    for found in truths("at_chance", task):
        for name, level in found.facts["chance"].items():
            assert found.metrics[name][1:] == pytest.approx(level)
        assert np.ptp(found.metrics["probe/linear"]) == 0


def test_what_is_learned_by_heart_is_not_known_of_other_images() -> None:
    for found in truths("at_chance", "rotation", memorized=True):
        assert found.metrics["train/accuracy"][-1] > 0.9
        assert found.metrics["val/accuracy"] == pytest.approx(0.25)
        assert found.metrics["val/loss"][-1] > found.facts["chance"]["val/loss"]


@pytest.mark.parametrize("task", ALL_TASKS)
def test_overfitting_loses_much_of_the_best_while_training_gains(task: str) -> None:
    for found in truths("overfit", task):
        gained, best = primary(found), int(np.argmax(primary(found)))
        assert 0 < best < len(gained) - 5
        assert gained[-1] < 0.75 * gained[best]
        assert gained[-1] > 0.1
        loss = found.metrics["train/loss"]
        assert loss[-1] < loss[best] - 0.05 * found.facts["chance"]["train/loss"]
        assert found.metrics["val/loss"][-1] > found.metrics["val/loss"][best]


@pytest.mark.parametrize("task", ALL_TASKS)
def test_what_still_improves_gains_much_in_its_last_third(task: str) -> None:
    for found in truths("still_improving", task):
        gained, probe = primary(found), found.metrics["probe/linear"]
        third = len(gained) // 3
        assert gained[-1] - gained[-third] > 0.2 * (gained[-1] - gained[0])
        assert probe[-1] - probe[-third] > 0.02
        assert gained[-1] > 0.35


@pytest.mark.parametrize("task", ALL_TASKS)
def test_the_trap_of_a_flat_loss_shows_in_the_probe_alone(task: str) -> None:
    for found in truths("still_improving", task, flat_loss=True):
        gained, probe = primary(found), found.metrics["probe/linear"]
        third = len(gained) // 3
        assert gained[-1] - gained[-third] == pytest.approx(0, abs=1e-3)
        assert probe[-1] - probe[-third] > 0.02


@pytest.mark.parametrize("task", ALL_TASKS)
def test_what_has_converged_is_flat_above_chance(task: str) -> None:
    for found in truths("converged", task):
        gained, probe = primary(found), found.metrics["probe/linear"]
        third = len(gained) // 3
        assert gained[-1] - gained[-third] == pytest.approx(0, abs=2e-3)
        assert probe[-1] - probe[-third] == pytest.approx(0, abs=2e-3)
        assert gained[-1] > 0.35


def test_two_heads_have_one_loss_and_one_may_be_stuck() -> None:
    rng = np.random.default_rng(0)
    both = draw_curve("converged", task=TWO_HEADS, rng=rng, end=0.6)
    stuck = draw_curve("converged", task=TWO_HEADS, rng=rng, end=0.6, stuck_head="position")
    chance = both.facts["chance"]
    assert chance["val/loss"] == pytest.approx(math.log(8) + math.log(10))
    assert both.metrics["val/accuracy_position"][-1] > 0.5
    assert stuck.metrics["val/accuracy_position"][-1] == pytest.approx(1 / 8, abs=0.03)
    assert stuck.metrics["val/accuracy_class"][-1] == pytest.approx(both.metrics["val/accuracy_class"][-1], abs=0.05)
    gained = (chance["val/loss"] - stuck.metrics["val/loss"][-1]) / (chance["val/loss"] - both.metrics["val/loss"][-1])
    assert gained == pytest.approx(math.log(10) / math.log(80), abs=0.05)
    assert both.facts["primary_metric"] == "val/loss"
    assert "val/loss_se" in both.metrics


# --- noise -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("correlation", [0.0, 0.7])
def test_shares_are_binomial_and_correlate_from_report_to_report_as_declared(correlation: float) -> None:
    rng, n, p = np.random.default_rng(1), 200, np.array([0.125, 0.125, 0.5])
    seen = np.array([sample_accuracy(p, n, correlation, rng) for _ in range(10_000)])
    assert seen.mean(axis=0) == pytest.approx(p, abs=5 * math.sqrt(0.25 / n / len(seen)))
    assert seen.var(axis=0) == pytest.approx(p * (1 - p) / n, rel=0.08)
    assert np.corrcoef(seen[:, 0], seen[:, 1])[0, 1] == pytest.approx(correlation, abs=0.04)
    counts = np.round(seen[:, 0] * n)
    tail = math.fsum(math.comb(n, k) * 0.125**k * 0.875 ** (n - k) for k in range(36, n + 1))
    assert (counts >= 36).mean() == pytest.approx(tail, abs=5 * math.sqrt(tail / len(seen)))


def test_shares_of_what_is_not_finite_are_not_finite() -> None:
    assert np.isnan(sample_accuracy(np.array([np.nan, 0.5]), 100, 0.5, np.random.default_rng(0))).tolist() == [
        True,
        False,
    ]


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize("n_validation", [200, 2000])
def test_the_reported_standard_error_is_that_of_the_noise(task: str, n_validation: int) -> None:
    measurement = Measurement(
        TrialConfig("test", task, budget_steps=100, report_every=50), n_validation=n_validation, noise=0.0
    )
    trajectory = draw_trajectory("converged", np.random.default_rng(0), task=task)
    name = measurement.facts["primary_metric"]
    rng = np.random.default_rng(2)
    found = [measure(trajectory, measurement, rng).report(-1) for _ in range(600)]
    errors = np.array([report[f"{name}_se"] for report in found])
    assert np.std([report[name] for report in found]) == pytest.approx(errors.mean(), rel=0.13)


@pytest.mark.parametrize("task", ALL_TASKS)
@pytest.mark.parametrize(("change", "earlier"), [("gain", 0), ("recent", 2)])
def test_the_reported_error_of_a_change_is_that_of_its_noise(task: str, change: str, earlier: int) -> None:
    measurement = Measurement(
        TrialConfig("test", task, budget_steps=100, report_every=25), n_validation=2000, noise=0.0, correlation=0.8
    )
    trajectory = draw_trajectory("still_improving", np.random.default_rng(0), task=task)
    name = measurement.facts["primary_metric"]
    rng = np.random.default_rng(2)
    found = [measure(trajectory, measurement, rng).metrics for _ in range(600)]
    changes = [metrics[name][-1] - metrics[name][earlier] for metrics in found]
    errors = [metrics[f"{name}_{change}_se"][-1] for metrics in found]
    assert np.std(changes) == pytest.approx(np.mean(errors), rel=0.13)


def test_the_mean_over_noise_is_the_expected_curve() -> None:
    measurement = Measurement(TrialConfig("test", "simclr", budget_steps=100, report_every=20), n_validation=1024)
    trajectory = draw_trajectory("overfit", np.random.default_rng(0), task="simclr")
    rng = np.random.default_rng(3)
    found = [measure(trajectory, measurement, rng).metrics for _ in range(800)]
    for name, expected in expected_curve(trajectory, measurement).metrics.items():
        if name.endswith(("_gain_se", "_recent_se")):  # not linear in the values
            continue
        seen = np.array([metrics[name] for metrics in found])
        error = seen.std(axis=0) / math.sqrt(len(seen))
        assert (np.abs(seen.mean(axis=0) - expected)[1:] <= 4.5 * error[1:] + 1e-4).all(), name


def test_the_network_itself_fluctuates_by_as_much_as_is_asked_for() -> None:
    def fluctuation(noise: float) -> float:
        found = draw_curve(
            "converged",
            rng=np.random.default_rng(4),
            n_validation=10**6,
            noise=noise,
            budget_steps=20_000,
            report_every=20,
            end=0.6,
        )
        return float(found.metrics["val/accuracy"][-500:].std())

    assert fluctuation(0.0) < 0.001
    assert fluctuation(0.03) == pytest.approx(0.03 * 0.6 * 0.75, rel=0.15)


def test_an_untrained_network_answers_alike_to_everything() -> None:
    for task in ("rotation", "context_prediction"):
        found = draw_curve("converged", rng=np.random.default_rng(0), task=task)
        assert found.metrics["val/accuracy"][0] == found.facts["chance"]["val/accuracy"]
    assert draw_curve("converged", rng=np.random.default_rng(0), task="simclr").metrics["val/accuracy"][0] > 0.05


# --- form --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_same_generator_gives_the_same_curve(outcome: str) -> None:
    first, second = (draw_curve(outcome, rng=np.random.default_rng(7)) for _ in range(2))
    assert first.steps.tolist() == second.steps.tolist()
    for name, values in first.metrics.items():
        np.testing.assert_array_equal(values, second.metrics[name])


def test_reports_come_at_the_start_every_few_steps_and_at_the_end() -> None:
    found = draw_curve("converged", rng=np.random.default_rng(0), budget_steps=110, report_every=50)
    assert found.steps.tolist() == [0, 50, 100, 110]
    assert "train/loss" not in found.report(0)
    assert math.isnan(found.metrics["train/loss"][0])
    assert all(math.isfinite(value) for index in range(4) for value in found.report(index).values())


def test_without_labels_there_are_no_probes_and_no_trap_to_fall_into() -> None:
    assert not any(
        name.startswith("probe/") for name in draw_curve("converged", rng=np.random.default_rng(0), n_queries=0).metrics
    )
    with pytest.raises(ConfigError, match="flat_loss"):
        draw_curve("still_improving", rng=np.random.default_rng(0), n_queries=0, flat_loss=True)


def test_an_unknown_outcome_is_named() -> None:
    with pytest.raises(ConfigError, match="'overfitted'; did you mean 'overfit'"):
        draw_curve("overfitted", rng=np.random.default_rng(0))
