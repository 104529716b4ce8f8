"""Outcomes: functions of configuration and seed alone, whose means, rates and correlations are the declared ones."""

from __future__ import annotations

import dataclasses
import functools
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests.trainables.simulated.configurations import LINEAR, trial
from trainables import simulated
from trainables.data.table import Splits
from trainables.errors import ConfigError
from trainables.per_image import unpack
from trainables.simulated.outcomes import identity
from trainables.simulated.response import outcome_rates
from trainables.simulated.trajectories import OUTCOMES
from trainables.training.loop import Report
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

SEEDS = 150
TRAP = trial("simclr", budget_steps=150, batch_size=256, augmentation_strength=1.0)
SMALL = {"n_images": 200, "batch_size": 32, "augmentation_strength": 0.0}


@functools.cache
def splits(name: str = "cifar10") -> Splits:
    return simulated.load_splits(name, max_train=5000)


def last_report(config: TrialConfig, truth: simulated.Truth = simulated.TRUTH) -> dict[str, float]:
    """Return the metrics of a trial's last report."""
    reports: list[Report] = []
    simulated.fit(config, splits(config.dataset), reports.append, truth=truth)
    return reports[-1].metrics


def final(
    config: TrialConfig, truth: simulated.Truth = simulated.TRUTH, names: tuple[str, ...] = ("cifar10",)
) -> dict[str, float]:
    """Return the final results of a trial on some data sets."""
    return simulated.evaluate(
        config.replace(probe_datasets=names), {name: splits(name) for name in names}, truth
    ).results


# --- means -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        trial("rotation"),
        trial("rotation", **SMALL),
        trial("rotation", n_images=200, batch_size=32, augmentation_strength=0.19, budget_steps=400),
        trial("context_encoder", budget_steps=85),
        TRAP,
        trial("context_prediction", budget_steps=90),
        trial("rotation", lr=0.025),
        trial("simclr", weight_decay=0.5, dataset="voc2012"),
    ],
    ids=[
        "converged",
        "overfit",
        "overfit or not",
        "still improving or not",
        "trap",
        "chance or not",
        "diverged",
        "voc",
    ],
)
def test_expected_is_the_mean_over_seeds_of_every_metric(config: TrialConfig) -> None:
    config = config.replace(report_every=config.budget_steps // 2)
    seeds = [config.replace(seed=seed) for seed in range(SEEDS)]
    found = [last_report(seed) | final(seed, names=("cifar10", "fashion_mnist")) for seed in seeds]
    for name in found[0]:
        values = np.array([metrics[name] for metrics in found])
        values = values[np.isfinite(values)]
        if name.endswith("_se"):  # depends on the number of validation images, of which there are fewer here
            continue
        error = values.std() / math.sqrt(len(values))
        expected = simulated.expected_value(config, name)
        assert abs(values.mean() - expected) <= 4.5 * error + 2e-4 * max(1, abs(expected)), name


@pytest.mark.parametrize("task", [RANDOM_INIT, RAW_PIXELS])
def test_expected_is_the_mean_over_seeds_of_the_baselines(task: str) -> None:
    config = TrialConfig("baselines", task, dataset="cifar10", width=8)
    found = [final(config.replace(seed=seed)) for seed in range(SEEDS)]
    for name in found[0]:
        values = np.array([metrics[name] for metrics in found])
        assert (
            abs(values.mean() - simulated.expected_value(config, name)) <= 4.5 * values.std() / math.sqrt(SEEDS) + 1e-9
        )


def test_a_set_may_be_a_folder() -> None:
    assert simulated.expected_value(trial(), "probe/folder:/a/b/linear") == pytest.approx(
        simulated.TRUTH.other_dataset.random_init + simulated.expected_value(trial(), LINEAR) - 0.39
    )


def test_expected_of_what_is_never_finite_is_not_either() -> None:
    assert math.isnan(simulated.expected_value(trial(lr=1.0), LINEAR))
    assert math.isnan(simulated.expected_value(trial(lr=1.0), "val/loss"))


def test_a_metric_that_is_not_reported_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"rotation on cifar10 reports no 'val/accurracy'; did you mean 'val/accura"):
        simulated.expected_value(trial(), "val/accurracy")
    with pytest.raises(ConfigError, match="no result 'probe/cifar10/miou'"):
        simulated.expected_value(trial(), "probe/cifar10/miou")
    with pytest.raises(ConfigError, match="reports no 'probe/linear'"):
        simulated.expected_value(trial(dataset="voc2012"), "probe/linear")
    with pytest.raises(ConfigError, match="only probed"):
        simulated.expected_value(TrialConfig("baselines", RANDOM_INIT), "val/accuracy")


# --- rates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [trial(lr=0.03), trial("context_prediction", budget_steps=75), trial("context_encoder", budget_steps=100)]
)
def test_outcomes_come_at_their_declared_rates(config: TrialConfig) -> None:
    n = 1000
    outcomes = [simulated.true_outcome(config.replace(seed=seed)) for seed in range(n)]
    rates = outcome_rates(config)
    assert max(rates.values()) < 0.95
    for outcome in OUTCOMES:
        assert abs(outcomes.count(outcome) / n - rates[outcome]) <= 4 * math.sqrt(
            rates[outcome] * (1 - rates[outcome]) / n
        )


def test_trials_fail_at_the_declared_rate() -> None:
    n, config, truth = 2000, trial(), simulated.Truth(failure_rate=0.1)
    outcomes = [simulated.true_outcome(config.replace(seed=seed), truth) for seed in range(n)]
    assert abs(outcomes.count("failed") / n - 0.1) <= 4 * math.sqrt(0.09 / n)
    assert set(outcomes) == {"failed", "converged"}


# --- pairing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed_share", [0.0, 0.6])
def test_cells_of_a_seed_correlate_as_declared(seed_share: float) -> None:
    truth = simulated.Truth(probe_sd=0.03, seed_share=seed_share)
    cells = [trial(), trial(augmentation_strength=1.0)]
    n = 400
    pairs = np.array([[final(cell.replace(seed=s), truth)[LINEAR] for cell in cells] for s in range(n)])
    sampling = 0.45 * 0.55 / len(splits().probe_validation.labels)  # type: ignore[union-attr, arg-type]
    correlation = seed_share * 0.03**2 / (0.03**2 + sampling)
    assert np.corrcoef(pairs.T)[0, 1] == pytest.approx(correlation, abs=4 * (1 - correlation**2) / math.sqrt(n))
    assert pairs.std(axis=0) == pytest.approx(math.sqrt(0.03**2 + sampling), rel=0.12)


def test_seeds_of_different_tasks_are_unrelated() -> None:
    truth, n = simulated.Truth(probe_sd=0.03, seed_share=1.0), 400
    cells = [trial("rotation"), trial("simclr")]
    pairs = np.array([[final(cell.replace(seed=s), truth)[LINEAR] for cell in cells] for s in range(n)])
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 4 / math.sqrt(n)


def test_the_online_probe_and_the_final_one_look_at_the_same_encoder() -> None:
    truth = simulated.Truth(probe_sd=0.05)
    pairs = []
    for seed in range(200):
        config = trial(seed=seed, report_every=600)
        pairs.append((last_report(config, truth)["probe/linear"], final(config, truth)[LINEAR]))
    online, of_all = np.array(pairs).T
    assert np.corrcoef(online, of_all)[0, 1] > 0.85
    assert (online - of_all).mean() == pytest.approx(
        truth.online_probe_effect, abs=0.006
    )  # it has fewer images to learn from


# --- curves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "outcome", "metric", "shows"),
    [
        (trial(), "converged", "val/accuracy", lambda y: np.ptp(y[-6:]) < 0.03 and y[-1] > 0.6),
        (trial(**SMALL), "overfit", "val/accuracy", lambda y: y.max() - y[-1] > 0.1),
        (trial(budget_steps=80), "still_improving", "val/accuracy", lambda y: y[-1] - y[-6] > 0.08),
        (TRAP, "still_improving", "val/accuracy", lambda y: abs(y[-3:].mean() - y[-6:-3].mean()) < 0.04),
        (TRAP, "still_improving", "probe/linear", lambda y: y[-1] - y[-7] > 0.01),
        (trial("context_prediction", budget_steps=40), "at_chance", "val/accuracy", lambda y: y.max() < 0.145),
        (trial("context_prediction", budget_steps=40), "at_chance", "probe/linear", lambda y: np.ptp(y) < 0.05),
        (trial(weight_decay=0.5), "collapsed", "health/feature_std", lambda y: y[-1] < 0.01 < 0.4 < y[0]),
        (trial(lr=0.031, seed=1), "diverged", "val/loss", lambda y: y[-1] > 1.5 * y[0]),
    ],
)
def test_a_trial_shows_the_curve_of_its_outcome(config: TrialConfig, outcome: str, metric: str, shows: Any) -> None:
    config = config.replace(report_every=config.budget_steps // 20)
    reports: list[Report] = []
    simulated.fit(config, splits(), reports.append)
    assert simulated.true_outcome(config) == outcome
    assert shows(np.array([report.metrics[metric] for report in reports]))


# --- determinism -------------------------------------------------------------------------------------------------

SAME = [
    {"phase": "evaluate", "cell": "x", "init_from": "abc"},
    {"augmentation": {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5, "blur": 0.0}},
    {"options": {"head_hidden": 0}},
]


@pytest.mark.parametrize("changes", SAME)
def test_what_trains_the_same_network_gives_the_same_numbers(changes: dict[str, Any]) -> None:
    config = trial()
    assert identity(config.replace(**changes)) == identity(config)
    assert final(config.replace(**changes)) == final(config)
    assert last_report(config.replace(**changes)) == last_report(config)


@pytest.mark.parametrize("changes", [{"seed": 1}, {"data_seed": 1}, {"lr": 1.9e-3}, {"option/head_hidden": 8}])
def test_another_seed_or_configuration_gives_other_numbers(changes: dict[str, Any]) -> None:
    config = trial()
    assert final(config.with_values(changes)) != final(config)
    assert last_report(config.with_values(changes)) != last_report(config)


def test_another_process_gives_the_same_numbers() -> None:
    config = trial(seed=3, probe_datasets=("cifar10",))
    code = f"""
from trainables import simulated
from trainables.trial import TrialConfig
config = TrialConfig.from_dict({config.to_dict()!r})
reports, splits = [], simulated.load_splits("cifar10", max_train=5000)
simulated.fit(config, splits, reports.append)
print(repr((reports[-1].metrics, simulated.evaluate(config, {{"cifar10": splits}}).results)))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == repr((last_report(config), final(config)))


def test_a_probe_on_the_test_split_counts_its_images_and_has_luck_of_its_own() -> None:
    config = trial()
    seeds = [config.replace(seed=seed) for seed in range(20)]
    of_validation = np.array([final(seed)[LINEAR] for seed in seeds]) * 1000
    of_test = np.array([final(seed.replace(probe_split="test"))[LINEAR] for seed in seeds]) * 2000
    assert of_validation == pytest.approx(np.round(of_validation))
    assert of_test == pytest.approx(np.round(of_test))
    assert (np.round(of_test) % 2).any()
    assert of_validation / 1000 == pytest.approx(of_test / 2000, abs=0.08)  # of one encoder each
    alike = {"cifar10": dataclasses.replace(splits(), test=splits().probe_validation)}
    probed = config.replace(probe_datasets=("cifar10",))
    assert simulated.evaluate(probed, alike) != simulated.evaluate(probed.replace(probe_split="test"), alike)


def test_the_results_of_one_encoder_are_in_order() -> None:
    for seed in range(20):
        found = final(trial(seed=seed))
        for name in ("linear", "knn", "linear_train"):
            assert found[f"probe/cifar10/{name}_top5"] >= found[f"probe/cifar10/{name}"]
        assert found["probe/cifar10/linear"] > found["probe/cifar10/knn"]


def test_images_agree_with_the_results_and_probes_of_one_encoder_share_them() -> None:
    config = trial(probe_datasets=("cifar10", "voc2012"), labels_per_class=(10, None))
    voc = simulated.load_splits("voc2012")
    found = simulated.evaluate(config, {"cifar10": splits(), "voc2012": voc})
    arrays = {name: unpack(text) for name, text in found.per_image.items()}
    for name in ("linear", "knn", "linear/10_labels", "fine_tuned/all_labels"):
        correct = arrays[f"probe/cifar10/{name}"]
        assert correct.mean() == pytest.approx(found.results[f"probe/cifar10/{name}"], abs=0.51 / len(correct))
    assert (arrays["probe/cifar10/knn"] <= arrays["probe/cifar10/linear"]).all(), "kNN is weaker on every image"
    overlaps = arrays["probe/voc2012/miou"].astype(float)
    ious = [value for name, value in found.results.items() if name.startswith("probe/voc2012/iou/")]
    assert overlaps[:, 0].sum(axis=0) / overlaps[:, 1].sum(axis=0) == pytest.approx(ious, abs=1e-4)
    other = simulated.evaluate(config.replace(seed=1), {"cifar10": splits(), "voc2012": voc})
    assert found.per_image["probe/cifar10/labels"] == other.per_image["probe/cifar10/labels"]
    assert found.per_image["probe/cifar10/linear"] != other.per_image["probe/cifar10/linear"]
