"""Bounds on chance: guessing rarely clears them, however often one looks; learning does."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from trainables.chance import MARGIN, TIME_UNIFORM_ALPHA, Level, clears_chance, learned

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


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_nothing_is_shown_and_nothing_excluded_where_the_error_is_unknown(error: float) -> None:
    for value in (0.25, 0.9):
        found = learned(Level(value, error), 0.25, mode="max")
        assert not found.shown()
        assert not found.excluded()


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


# Learning: the share of the way to a perfect score


def test_learning_is_a_share_of_the_way_from_chance_to_a_perfect_score() -> None:
    found = learned(Level(0.4, 0.03), 0.25, mode="max")
    assert (found.share, found.error) == (pytest.approx(0.2), pytest.approx(0.04))
    assert (found.reference, found.level) == ("chance", 0.25)
    loss = learned(Level(1.8, 0.02), 2.0, mode="min")
    assert (loss.share, loss.error) == (pytest.approx(0.1), pytest.approx(0.01))


def test_the_untrained_network_takes_the_place_of_chance_where_it_is_better() -> None:
    found = learned(Level(0.4, 0.03), 0.25, mode="max", untrained=Level(0.35, 0.02), change_error=0.01)
    assert (found.reference, found.share) == ("untrained", pytest.approx(0.05 / 0.65))
    assert found.error == pytest.approx(0.01 / 0.65)
    unpaired = learned(Level(0.4, 0.03), 0.25, mode="max", untrained=Level(0.35, 0.02))
    assert unpaired.error == pytest.approx(math.hypot(0.03, 0.02) / 0.65)
    worse = learned(Level(0.4, 0.03), 0.25, mode="max", untrained=Level(0.1, 0.02))
    assert worse.reference == "chance"
    assert learned(Level(0.4, 0.03), 0.25, mode="max", untrained=Level(0.25, 0.0)).reference == "chance"


@pytest.mark.parametrize("n", [12, 40, 400])
@pytest.mark.parametrize("true", [MARGIN, 2 * MARGIN])
def test_what_learned_is_excluded_in_at_most_five_of_a_hundred_cases(n: int, true: float) -> None:
    runs, generator = 4000, np.random.default_rng(n)
    samples = 0.25 + true * 0.75 + 0.3 * generator.standard_normal((runs, n))
    errors = samples.std(axis=1, ddof=1) / math.sqrt(n)
    found = [
        learned(Level(float(mean), float(error)), 0.25, mode="max").excluded(n)
        for mean, error in zip(samples.mean(axis=1), errors, strict=True)
    ]
    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_nothing_learned_is_excluded_by_enough_images_and_never_shown() -> None:
    assert learned(Level(0.25, 0.005), 0.25, mode="max").excluded(400)
    assert not learned(Level(0.25, 0.02), 0.25, mode="max").excluded(400)
    assert not learned(Level(0.25), 0.25, mode="max").excluded(400)  # without an error nothing is known
    assert not learned(Level(0.26, 0.001), 0.25, mode="max").shown()  # certain, but below the margin
    assert learned(Level(0.35, 0.01), 0.25, mode="max").shown(look=20)
    assert not learned(Level(math.nan, 0.01), 0.25, mode="max").excluded(400)
    assert not learned(Level(math.nan, 0.01), 0.25, mode="max").shown()
