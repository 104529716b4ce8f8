"""Verdicts on thousands of simulated curves of known kind."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from analysis.convergence import verdicts
from analysis.records import FINISHED
from tests.analysis.simulated_frames import frames_of
from trainables.simulated.measurement import TWO_HEADS
from trainables.simulated.trajectories import OUTCOMES

TASKS = ("rotation", "context_encoder", "simclr", "context_prediction")
SIZES, NOISES, REPORTS = (200, 512, 1449, 10_000), (0.0, 0.01, 0.03), (5, 10, 20, 40)
STEPS = 400
RIGHT, FALSE_ALARMS = 0.95, 0.01


def simulated(each: int, seed: int) -> pd.DataFrame:
    """Return the verdicts on simulated trials of all kinds, tasks, sizes, noises and counts, with their true kind."""
    generator, parts = np.random.default_rng(seed), []
    for size, noise, reports in itertools.product(SIZES, NOISES, REPORTS):
        runs, curves, truth = frames_of(
            OUTCOMES,
            rng=generator,
            tasks=TASKS,
            each=each,
            n_validation=size,
            noise=noise,
            budget_steps=STEPS,
            report_every=STEPS // reports,
        )
        found = verdicts(runs, curves).merge(runs[["trial_id", "task"]], on="trial_id")
        found["truth"] = found["trial_id"].map(truth)
        parts.append(found.assign(size=size, noise=noise, reports=reports))
    return pd.concat(parts, ignore_index=True)


def check(found: pd.DataFrame) -> None:
    """Print the confusion matrix and check the shares of right verdicts in every cut of the conditions."""
    found["right"] = found["verdict"] == found["truth"]
    print(f"\n{pd.crosstab(found['truth'], found['verdict']).to_string()}")
    for condition in ("size", "noise", "task", "reports", "truth"):
        shares = found.groupby(condition)["right"].mean()
        print(shares.round(4).to_dict())
        assert (shares >= RIGHT).all(), condition
    assert (found.groupby(["size", "reports"])["right"].mean() >= RIGHT).all()
    at_chance = found["truth"] == "at_chance"
    called_at_chance = found["verdict"] == "at_chance"
    learns = found["truth"].isin(["overfit", "still_improving", "converged"])
    assert (~called_at_chance)[at_chance].mean() <= FALSE_ALARMS + 3 * math.sqrt(FALSE_ALARMS / at_chance.sum())
    assert called_at_chance[learns].mean() <= FALSE_ALARMS


@pytest.mark.core
@pytest.mark.slow
def test_95_of_100_simulated_curves_are_classified_right_at_every_validation_size() -> None:
    check(simulated(each=1, seed=0))


@pytest.mark.slow
def test_95_of_100_of_many_simulated_curves_are_classified_right() -> None:
    check(simulated(each=6, seed=1))


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_noise_that_reports_share_or_do_not_share_does_not_mislead(correlation: float) -> None:
    generator = np.random.default_rng(2)
    runs, curves, truth = frames_of(
        OUTCOMES, rng=generator, tasks=TASKS, each=5, n_validation=512, correlation=correlation
    )
    found = verdicts(runs, curves).set_index("trial_id")
    assert (found["verdict"] == truth).mean() >= RIGHT


@pytest.mark.parametrize(("size", "chance"), [(200, 1 / 8), (512, 1 / 4), (1449, 1 / 8), (10_000, 1 / 255)])
def test_guessing_is_called_better_than_guessing_in_at_most_one_of_a_hundred_runs(size: int, chance: float) -> None:
    looks, count = 20, 1500
    generator = np.random.default_rng(size)
    # Half of the predictions are the same at every report, as on a fixed validation set.
    shared = generator.binomial(size // 2, chance, (count, 1))
    guesses = (shared + generator.binomial(size - size // 2, chance, (count, looks))) / size
    steps = np.tile(np.arange(1, looks + 1) * 25, count)
    names = np.repeat([f"t{i}" for i in range(count)], looks)
    curves = pd.DataFrame({"trial_id": names, "step": steps, "metric": "val/accuracy", "value": guesses.ravel()})
    row = {"task": "rotation", "status": FINISHED, "primary_metric": "val/accuracy", "primary_mode": "max"}
    runs = pd.DataFrame({"trial_id": [f"t{i}" for i in range(count)], **row, "n_validation": size})
    found = verdicts(runs.assign(**{"chance/val/accuracy": chance}), curves)
    wrong = (found["verdict"] != "at_chance").sum()
    print(f"\n{wrong} of {count} guessing runs were called better than guessing")
    assert wrong <= binom.ppf(0.999, count, FALSE_ALARMS)


@pytest.mark.slow
def test_simulated_trials_at_chance_are_called_so_in_99_of_100_runs_of_every_task() -> None:
    generator, count = np.random.default_rng(3), 1250
    for task in TASKS:
        size = int(generator.choice(SIZES))
        runs, curves, _ = frames_of(["at_chance"], rng=generator, tasks=(task,), each=count, n_validation=size)
        wrong = (verdicts(runs, curves)["verdict"] != "at_chance").mean()
        print(f"\n{task}, {size} predictions: {wrong:.4f} of {count}")
        assert wrong <= FALSE_ALARMS


def test_a_network_that_memorized_its_training_images_may_still_be_at_chance() -> None:
    runs, curves, _ = frames_of(["at_chance"], rng=np.random.default_rng(4), tasks=TASKS, each=5, memorized=True)
    found = verdicts(runs.assign(augmentation_strength=0.5), curves)
    assert set(found["verdict"]) == {"at_chance"}
    assert found["cure"].str.contains("stronger augmentation").all()
    assert not found["cure"].str.contains("more optimizer steps").any()


@pytest.mark.parametrize("task", TASKS)
def test_a_flat_loss_is_not_convergence_while_the_probe_rises(task: str) -> None:
    runs, curves, _ = frames_of(
        ["still_improving"], rng=np.random.default_rng(5), tasks=(task,), each=20, flat_loss=True
    )
    assert (verdicts(runs, curves)["verdict"] == "still_improving").mean() >= RIGHT
    without = verdicts(runs, curves.loc[~curves["metric"].str.startswith("probe/")])
    if task != "simclr":
        assert (without["verdict"] == "converged").mean() >= RIGHT
    nothing = verdicts(runs, curves.loc[~curves["metric"].str.startswith(("probe/", "health/"))])
    if task == "simclr":
        assert (nothing["verdict"] == "still_improving").all()
        assert nothing["evidence"].str.contains("no probe").all()


@pytest.mark.parametrize("stuck", ["position", "class"])
def test_a_head_at_chance_is_named_though_the_summed_loss_falls(stuck: str) -> None:
    generator = np.random.default_rng(6)
    runs, curves, _ = frames_of(["converged", "overfit"], rng=generator, tasks=(TWO_HEADS,), each=5, stuck_head=stuck)
    found = verdicts(runs, curves)
    assert set(found["verdict"]) == {"at_chance"}
    assert found["evidence"].str.contains(f"val/accuracy_{stuck}").all()
    other = {"position": "class", "class": "position"}[stuck]
    assert not found["evidence"].str.contains(f"val/accuracy_{other}").any()


def test_two_heads_that_learn_are_classified_separately() -> None:
    runs, curves, truth = frames_of(OUTCOMES, rng=np.random.default_rng(7), tasks=(TWO_HEADS,), each=5)
    found = verdicts(runs, curves).set_index("trial_id")
    assert (found["verdict"] == truth).mean() >= RIGHT
    assert not found.loc[found["verdict"].isin(["converged", "overfit"]), "evidence"].str.contains("val/loss ").any()
