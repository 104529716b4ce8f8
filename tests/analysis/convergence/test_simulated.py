"""Verdicts on thousands of simulated curves of known kind."""

from __future__ import annotations

import itertools

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
RIGHT = 0.95  # of the trials whose kind shows in any curve
# Shares of the cases in which a verdict is given that may be false, and of trials that may be undecided.
FALSE = {"at_chance": 0.05, "converged": 0.05, "still_improving": 0.10, "overfit": 0.05}
UNDECIDED = 0.40
POWER = 0.5  # share of converged trials at the largest size, at least, that have the verdict


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
    """Print the confusion matrix and check how often each verdict is false where it is given, and undecided trials."""
    print(f"\n{pd.crosstab(found['truth'], found['verdict']).to_string()}")
    for verdict, allowed in FALSE.items():
        given = found.loc[found["verdict"] == verdict]
        assert (given["truth"] != verdict).mean() <= allowed, verdict
    for kind in ("diverged", "collapsed", "overfit", "still_improving"):
        assert (found.loc[found["truth"] == kind, "verdict"] == kind).mean() >= RIGHT, kind
    undecided = found["verdict"] == "undecided"
    for condition in ("size", "noise", "task", "reports"):
        shares = undecided.groupby(found[condition]).mean()
        print(shares.round(3).to_dict())
        assert (shares <= UNDECIDED).all(), condition
    large = found.loc[found["size"] == max(SIZES)]
    assert (large["truth"] == "at_chance").sum() * RIGHT <= (large["verdict"] == "at_chance").sum()
    assert (large.loc[large["truth"] == "converged", "verdict"] == "converged").mean() >= POWER


@pytest.mark.core
@pytest.mark.slow
def test_verdicts_on_simulated_curves_are_seldom_false_at_every_validation_size() -> None:
    check(simulated(each=1, seed=0))


@pytest.mark.slow
def test_verdicts_on_many_simulated_curves_are_seldom_false() -> None:
    check(simulated(each=6, seed=1))


@pytest.mark.parametrize("correlation", [0.0, 1.0])
def test_noise_that_reports_share_or_do_not_share_does_not_mislead(correlation: float) -> None:
    generator = np.random.default_rng(2)
    runs, curves, truth = frames_of(
        OUTCOMES, rng=generator, tasks=TASKS, each=5, n_validation=512, correlation=correlation
    )
    found = verdicts(runs, curves).set_index("trial_id")
    decided = found["verdict"] != "undecided"
    assert (found["verdict"] == truth)[decided].mean() >= RIGHT
    assert (~decided).mean() <= UNDECIDED


@pytest.mark.parametrize(("size", "chance"), [(200, 1 / 8), (512, 1 / 4), (1449, 1 / 8), (10_000, 1 / 255)])
def test_guessing_is_hardly_ever_called_learning(size: int, chance: float) -> None:
    looks, count = 20, 1000
    generator = np.random.default_rng(size)
    # Half of the predictions are the same at every report, as on a fixed validation set.
    shared = generator.binomial(size // 2, chance, (count, 1))
    guesses = (shared + generator.binomial(size - size // 2, chance, (count, looks))) / size
    steps = np.tile(np.arange(1, looks + 1) * 25, count)
    names = np.repeat([f"t{i}" for i in range(count)], looks)
    curves = pd.DataFrame({"trial_id": names, "step": steps, "metric": "val/accuracy", "value": guesses.ravel()})
    row = {"task": "rotation", "status": FINISHED, "primary_metric": "val/accuracy", "primary_mode": "max"}
    runs = pd.DataFrame({"trial_id": [f"t{i}" for i in range(count)], **row, "n_validation": size})
    found = verdicts(runs.assign(**{"chance/val/accuracy": chance}), curves)["verdict"]
    wrong = (~found.isin(["at_chance", "undecided"])).sum()
    print(
        f"\n{wrong} of {count} guessing runs were said to have learned; {(found == 'at_chance').mean():.0%} at chance"
    )
    assert wrong <= binom.ppf(0.999, count, 0.01)
    if size == 10_000:
        assert (found == "at_chance").mean() >= RIGHT


def test_a_network_that_memorized_its_training_images_may_still_be_at_chance() -> None:
    runs, curves, _ = frames_of(["at_chance"], rng=np.random.default_rng(4), tasks=TASKS, each=5, memorized=True)
    found = verdicts(runs.assign(augmentation_strength=0.5), curves)
    assert set(found["verdict"]) <= {"at_chance", "undecided"}
    at_chance = found.loc[found["verdict"] == "at_chance"]
    assert len(at_chance) >= 0.8 * len(found)
    assert at_chance["cure"].str.contains("a higher augmentation_strength").all()
    assert not at_chance["cure"].str.contains("more optimizer steps").any()


@pytest.mark.parametrize("task", TASKS)
def test_a_flat_loss_is_not_convergence_while_the_probe_rises(task: str) -> None:
    runs, curves, _ = frames_of(
        ["still_improving"], rng=np.random.default_rng(5), tasks=(task,), each=20, flat_loss=True
    )
    found = verdicts(runs, curves)["verdict"]
    assert (found == "still_improving").mean() >= 0.8
    assert (found == "converged").mean() <= FALSE["converged"]
    without = verdicts(runs, curves.loc[~curves["metric"].str.startswith("probe/")])
    assert (without["verdict"].isin(["converged", "undecided"])).mean() >= RIGHT - 0.1


@pytest.mark.parametrize("stuck", ["position", "class"])
def test_a_head_at_chance_is_named_though_the_summed_loss_falls(stuck: str) -> None:
    generator = np.random.default_rng(6)
    runs, curves, _ = frames_of(
        ["converged", "overfit"], rng=generator, tasks=(TWO_HEADS,), each=5, stuck_head=stuck, n_validation=10_000
    )
    found = verdicts(runs, curves)
    assert set(found["verdict"]) == {"at_chance"}
    assert found["evidence"].str.contains(f"val/accuracy_{stuck}").all()
    other = {"position": "class", "class": "position"}[stuck]
    assert not found["evidence"].str.contains(f"val/accuracy_{other}").any()


def test_two_heads_that_learn_are_classified_separately() -> None:
    runs, curves, truth = frames_of(OUTCOMES, rng=np.random.default_rng(7), tasks=(TWO_HEADS,), each=5)
    found = verdicts(runs, curves).set_index("trial_id")
    assert (found["verdict"] == truth)[found["verdict"] != "undecided"].mean() >= 0.9
    assert not found.loc[found["verdict"].isin(["converged", "overfit"]), "evidence"].str.contains("val/loss ").any()
