"""Bounds on chance: guessing rarely clears them, however often one looks; learning does."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from trainables.chance import TIME_UNIFORM_ALPHA, chance_bound, clears_chance

LOOKS = 50


def false_alarms(values: np.ndarray, chance: float, n: int, **arguments: object) -> float:
    """Return the share of runs (float [R, LOOKS]) that seem better than guessing at any look."""
    best = values.max(axis=1) if arguments["mode"] == "max" else values.min(axis=1)
    suspects = values[(best > chance) if arguments["mode"] == "max" else (best < chance)]
    alarms = sum(
        any(clears_chance(float(value), chance, n, look=look, **arguments) for look, value in enumerate(run, start=1))  # type: ignore[arg-type]
        for run in suspects
    )
    return alarms / len(values)


def allowed(runs: int) -> float:
    return TIME_UNIFORM_ALPHA + 3 * math.sqrt(TIME_UNIFORM_ALPHA * (1 - TIME_UNIFORM_ALPHA) / runs)


@pytest.mark.parametrize(("chance", "n"), [(1 / 4, 128), (1 / 8, 4096), (1 / 255, 512), (0.15, 40)])
def test_guessing_clears_chance_in_one_run_of_a_hundred_at_most(chance: float, n: int) -> None:
    runs = 1000
    guesses = np.random.default_rng(0).binomial(n, chance, size=(runs, LOOKS)) / n
    assert false_alarms(guesses, chance, n, mode="max") <= allowed(runs)


def test_guessing_the_same_again_and_again_does_not_clear_it_either() -> None:
    runs, n, chance = 1000, 512, 1 / 8
    once = np.random.default_rng(1).binomial(n, chance, size=(runs, 1)) / n
    assert false_alarms(once.repeat(LOOKS, axis=1), chance, n, mode="max") <= allowed(runs)


def test_a_loss_that_only_fluctuates_does_not_clear_chance() -> None:
    runs, error, chance = 1000, 0.02, math.log(8)
    losses = chance + error * np.random.default_rng(2).standard_normal((runs, LOOKS))
    assert false_alarms(losses, chance, 500, mode="min", standard_error=error) <= allowed(runs)


def test_looking_often_costs_evidence() -> None:
    # 164 of 1,024 is 3.2 standard deviations above 1/8: enough at the first look, not at the fiftieth.
    value = 164 / 1024
    assert clears_chance(value + 0.005, 1 / 8, 1024, mode="max", look=1)
    assert not clears_chance(value + 0.005, 1 / 8, 1024, mode="max", look=50)


@pytest.mark.parametrize(("accuracy", "chance", "n"), [(0.35, 1 / 4, 2048), (0.20, 1 / 8, 1024), (0.05, 1 / 255, 512)])
def test_a_true_effect_is_found_within_a_few_looks(accuracy: float, chance: float, n: int) -> None:
    runs = np.random.default_rng(3).binomial(n, accuracy, size=(200, 10)) / n
    found = [
        any(clears_chance(float(v), chance, n, mode="max", look=i) for i, v in enumerate(run, start=1)) for run in runs
    ]
    assert np.mean(found) > 0.95


def test_a_loss_well_below_chance_is_found() -> None:
    assert clears_chance(0.9, 1.0, 512, mode="min", standard_error=0.02, look=10)
    assert not clears_chance(0.99, 1.0, 512, mode="min", standard_error=0.02, look=1)
    assert not clears_chance(1.1, 1.0, 512, mode="min", standard_error=0.02)


def test_the_wrong_side_of_chance_never_clears_it() -> None:
    assert not clears_chance(0.0, 1 / 8, 10**6, mode="max")
    assert not clears_chance(1 / 8, 1 / 8, 10**6, mode="max")
    assert not clears_chance(5.0, 1.0, 10**6, mode="min", standard_error=1e-6)


def test_the_bound_is_hoeffdings() -> None:
    # n KL(q || p) against -ln(alpha), alpha = 0.01 * 6 / pi^2 at the first look.
    p, q = 0.25, 0.5
    kl = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
    enough = math.log(math.pi**2 / 6 / TIME_UNIFORM_ALPHA) / kl
    assert not clears_chance(q, p, math.floor(enough), mode="max")
    assert clears_chance(q, p, math.ceil(enough), mode="max")


def test_the_error_rate_is_spent_in_full_over_all_looks() -> None:
    def spent(look: int) -> float:
        """Return alpha of one look, found from where a loss begins to clear chance."""
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            cleared = clears_chance(-middle, 0.0, 1, mode="min", standard_error=1.0, look=look)
            low, high = (low, middle) if cleared else (middle, high)
        return math.exp(-(low**2) / 2)

    total = sum(spent(look) for look in range(1, 400))
    assert 0.995 * TIME_UNIFORM_ALPHA < total < TIME_UNIFORM_ALPHA


def test_perfect_and_impossible_values() -> None:
    assert clears_chance(1.0, 1 / 8, 16, mode="max")
    for value, mode in itertools.product((math.nan, math.inf, -math.inf), ("max", "min")):
        assert not clears_chance(value, 1 / 8, 10**6, mode=mode, standard_error=0.1)
    for error in (None, math.nan, math.inf):
        assert not clears_chance(0.1, 1.0, 10**6, mode="min", standard_error=error)


@pytest.mark.parametrize(("chance", "n", "look"), [(1 / 4, 128, 1), (1 / 8, 4096, 20), (1 / 255, 512, 3)])
def test_the_bound_of_an_accuracy_is_where_it_begins_to_clear_chance(chance: float, n: int, look: int) -> None:
    bound = chance_bound(chance, n, mode="max", look=look)
    assert chance < bound < 1
    assert clears_chance(bound + 1e-9, chance, n, mode="max", look=look)
    assert not clears_chance(bound - 1e-9, chance, n, mode="max", look=look)


def test_the_bound_of_a_loss_is_where_it_begins_to_clear_chance() -> None:
    bound = chance_bound(1.0, 512, mode="min", standard_error=0.02, look=5)
    assert clears_chance(bound - 1e-9, 1.0, 512, mode="min", standard_error=0.02, look=5)
    assert not clears_chance(bound + 1e-9, 1.0, 512, mode="min", standard_error=0.02, look=5)


def test_what_nothing_could_clear_has_an_infinite_bound() -> None:
    assert chance_bound(1 / 4, 2, mode="max") == math.inf
    assert not clears_chance(1.0, 1 / 4, 2, mode="max")
    for error in (None, math.nan):
        assert chance_bound(1.0, 512, mode="min", standard_error=error) == -math.inf
