"""Verdicts on cells: all seeds together decide what single seeds leave open, and broken seeds are counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.convergence import cell_verdicts, verdicts
from analysis.convergence.cells import _error as mean_error
from analysis.convergence.cells import pooled
from analysis.convergence.progress import GAINED, IMPROVED, PROBE_IMPROVED, Difference
from analysis.convergence.reading import trials
from analysis.data.frames import RUNNING
from analysis.records import FINISHED, KILLED, STOPPED
from trainables.chance import _nats

STEPS = np.arange(0, 501, 25)


def seeds(curves: Sequence[np.ndarray], *, images: float = 0.0, **row: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the frames of one cell whose seeds have these accuracies; `images`: the error that images give changes."""
    rows, points = [], []
    for seed, values in enumerate(curves):
        known = {"trial_id": f"t{seed}", "phase": "ablate", "task": "rotation", "cell": "base", "seed": seed}
        known |= {"status": FINISHED, "primary_metric": "val/accuracy", "primary_mode": "max", "chance": 0.25}
        rows.append({**known, "n_validation": 2000, "n_validation_images": 500, "chance/val/accuracy": 0.25, **row})
        for step, value in zip(STEPS, values, strict=False):
            points.append((f"t{seed}", step, "val/accuracy", value))
            points.append((f"t{seed}", step, "val/accuracy_se", 0.02))
            points += [(f"t{seed}", step, f"val/accuracy_{change}_se", images) for change in ("gain", "recent") if step]
    return pd.DataFrame(rows), pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])


def rising(count: int, noise: float) -> list[np.ndarray]:
    """Return curves that gain some 7% of their whole gain in the second half, with a fluctuation of their own."""
    generator = np.random.default_rng(0)
    mean = 0.25 + 0.36 * (1 - np.exp(-STEPS / 40)) + 0.0001 * STEPS
    return [np.append(0.25, (mean + noise * generator.standard_normal(len(STEPS)))[1:]) for _ in range(count)]


def test_seeds_together_show_what_single_ones_leave_open() -> None:
    runs, curves = seeds(rising(6, noise=0.035), images=0.004)
    single = verdicts(runs, curves)["verdict"].value_counts()
    (cell,) = cell_verdicts(runs, curves).itertuples()
    assert single["undecided"] >= 2
    assert cell.verdict == "still_improving"
    assert cell.evidence.endswith("(mean of 6 seeds)")
    assert (cell.n_seeds, cell.n_verdict, cell.others) == (
        6,
        single.get("still_improving", 0),
        {"undecided": single["undecided"]},
    )


def test_the_images_that_seeds_share_are_not_averaged_away() -> None:
    runs, curves = seeds(rising(6, noise=0.002), images=0.05)
    (cell,) = cell_verdicts(runs, curves).itertuples()
    assert cell.verdict == "undecided"


def test_the_error_of_a_mean_counts_seeds_by_students_t_and_images_once() -> None:
    runs, curves = seeds([np.full(len(STEPS), level) for level in (0.5, 0.52, 0.54)])
    mean = pooled(list(trials(runs, curves))).curves["val/accuracy"]
    assert mean.values == pytest.approx(0.52)
    scale = 2.92 / 1.645  # Student's t with two degrees of freedom over the normal distribution, one-sided 95%
    assert mean.errors == pytest.approx(math.hypot(0.02 / math.sqrt(3) * scale, 0.02), rel=1e-3)


@pytest.mark.parametrize("n_seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("level", [IMPROVED, GAINED, PROBE_IMPROVED])
def test_bounds_on_a_mean_over_seeds_are_as_seldom_wrong_as_they_claim(n_seeds: int, level: float) -> None:
    count = 100_000
    values = np.random.default_rng(0).normal(0, 1, (n_seeds, count))
    errors = mean_error(values, [np.zeros(count)] * n_seeds)
    reach = Difference(0.0, 1.0, since=0, n_images=0, n_seeds=n_seeds).upper(level)
    wrong = np.mean(values.mean(axis=0) > reach * errors)
    print(f"\n{n_seeds} seeds at {level:.1%}: {wrong:.2%}")
    assert wrong == pytest.approx(1 - level, abs=0.003)


@pytest.mark.parametrize(("n_seeds", "stated"), [(2, 0.026), (3, 0.015), (5, 0.007)])
def test_cells_that_learned_nothing_are_seldom_shown_to_have_learned(n_seeds: int, stated: float) -> None:
    count, bound = 100_000, math.sqrt(2 * _nats(1))
    values = np.random.default_rng(0).normal(0, 1, (n_seeds, count))
    seeds_alone = np.mean(values.mean(axis=0) > bound * mean_error(values, [np.zeros(count)] * n_seeds))
    guessing = np.mean(values.mean(axis=0) > bound * mean_error(values, [np.ones(count)] * n_seeds))
    print(f"\n{n_seeds} seeds: {seeds_alone:.2%} where seeds alone differ, {guessing:.2%} of guessing cells")
    assert seeds_alone == pytest.approx(stated, abs=0.001)  # stated by docs/statistics.md
    assert guessing < 0.001


def test_broken_seeds_are_counted_and_the_others_pooled() -> None:
    learning, exploded = rising(1, 0.0)[0], rising(1, 0.0)[0].copy()
    runs, curves = seeds([learning] * 3 + [exploded] * 2, images=0.002)
    broken = curves["trial_id"].isin(["t3", "t4"])
    loss = curves.loc[broken & (curves["metric"] == "val/accuracy")].assign(metric="train/loss", value=math.nan)
    curves = pd.concat([curves, loss])
    (cell,) = cell_verdicts(runs, curves).itertuples()
    assert (cell.verdict, cell.others) == ("still_improving", {"diverged": 2})
    most = runs.loc[runs["trial_id"] != "t0"].assign(cell="other")
    (cell,) = cell_verdicts(most, curves).itertuples()
    assert (cell.verdict, cell.n_verdict, cell.others) == ("diverged", 2, {"still_improving": 2})
    assert cell.left_chance
    assert cell.evidence == "in one of them, train/loss was nan from step 0 on", "the other one may differ"
    early = curves["trial_id"].eq("t3") & curves["metric"].eq("val/accuracy") & (curves["step"] > 0)
    (cell,) = cell_verdicts(most, curves.assign(value=curves["value"].mask(early, 0.25))).itertuples()
    assert (cell.verdict, cell.left_chance) == ("diverged", pd.NA), "one of its two diverged seeds had left chance"


@pytest.mark.parametrize("status", [RUNNING, KILLED])
def test_a_seed_that_has_just_begun_does_not_hide_how_the_others_ended(status: str) -> None:
    flat = np.where(STEPS < 100, 0.25 + 0.0035 * STEPS, 0.6)
    runs, curves = seeds([flat] * 4, images=0.002, budget_steps=500)
    (whole,) = cell_verdicts(runs, curves).itertuples()
    assert (whole.verdict, whole.n_seeds, whole.n_verdict) == ("converged", 4, 4)
    begun = curves.loc[(curves["trial_id"] != "t3") | (curves["step"] <= 75)]
    runs.loc[3, "status"] = status
    (cell,) = cell_verdicts(runs, begun).itertuples()
    assert (cell.verdict, cell.n_seeds, cell.n_verdict, cell.others) == ("converged", 3, 3, {})
    assert cell.evidence.endswith("(mean of 3 seeds); 1 of 4 seeds not ended yet")
    # With one that has ended, the cell is still in progress, and its verdict is on all of its seeds.
    runs.loc[1:, "status"] = status
    (cell,) = cell_verdicts(runs, begun).itertuples()
    assert (cell.verdict, cell.n_seeds) == ("still_improving", 4)
    assert cell.evidence.endswith("(mean of 4 seeds); 3 of 4 seeds not ended yet")


@pytest.mark.parametrize("order", [[FINISHED, STOPPED], [STOPPED, FINISHED]])
def test_pooled_seeds_have_spent_their_budget_only_if_all_have(order: list[str]) -> None:
    runs, curves = seeds(rising(2, noise=0.01))
    assert pooled(list(trials(runs.assign(status=order), curves))).row["status"] == STOPPED


def test_a_cell_of_one_seed_has_no_verdict_of_its_own() -> None:
    assert cell_verdicts(*seeds(rising(1, 0.0))).empty


def test_seeds_that_guess_are_hardly_ever_said_to_learn_together() -> None:
    generator, wrong = np.random.default_rng(1), 0
    for _ in range(100):
        images = generator.normal(0, 0.01)  # the same images for all seeds
        guesses = [np.append(0.25, 0.25 + images + generator.normal(0, 0.005, len(STEPS) - 1)) for _ in range(4)]
        (cell,) = cell_verdicts(*seeds(guesses, images=0.01)).itertuples()
        wrong += cell.verdict not in ("undecided", "at_chance")
    assert wrong <= 5
