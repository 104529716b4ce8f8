"""Learning beyond chance: guessing rarely shows it, however often one looks; learning does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainables.chance import MARGIN, TIME_UNIFORM_ALPHA, Level, learned

LOOKS = 50


def beats(value: float, chance: float, *, error: float, mode: str = "max", look: int = 1) -> bool:
    return learned(Level(value, error), chance, mode=mode).shown(look)


def error_of(share: float, n: int) -> float:
    """Return the error of an accuracy, as the verdicts take it where none was reported."""
    share = (share * n + 2) / (n + 4)
    return math.sqrt(share * (1 - share) / (n + 4))


def ever(run: np.ndarray, chance: float, n: int) -> bool:
    return any(beats(float(v), chance, error=error_of(float(v), n), look=i) for i, v in enumerate(run, start=1))


def allowed(runs: int) -> float:
    return TIME_UNIFORM_ALPHA + 3 * math.sqrt(TIME_UNIFORM_ALPHA * (1 - TIME_UNIFORM_ALPHA) / runs)


@pytest.mark.parametrize(("chance", "n"), [(1 / 4, 128), (1 / 8, 4096), (1 / 255, 512), (0.15, 40)])
def test_guessing_shows_learning_in_one_run_of_a_hundred_at_most(chance: float, n: int) -> None:
    guesses = np.random.default_rng(0).binomial(n, chance, size=(1000, LOOKS)) / n
    assert np.mean([ever(run, chance, n) for run in guesses]) <= allowed(1000)


def test_guessing_the_same_again_and_again_does_not_show_it_either() -> None:
    n, chance = 512, 1 / 8
    once = np.random.default_rng(1).binomial(n, chance, size=(1000, 1)) / n
    assert np.mean([ever(run, chance, n) for run in once.repeat(LOOKS, axis=1)]) <= allowed(1000)


def test_a_loss_that_only_fluctuates_does_not_show_it() -> None:
    error, chance = 0.2, math.log(8)  # a large error, so that the margin alone does not exclude it
    losses = chance + error * np.random.default_rng(2).standard_normal((1000, LOOKS))
    alarms = [
        any(beats(float(v), chance, error=error, mode="min", look=i) for i, v in enumerate(run, start=1))
        for run in losses
    ]
    assert np.mean(alarms) <= allowed(1000)


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_nothing_is_shown_and_nothing_excluded_where_the_error_is_unknown(error: float) -> None:
    for value in (0.25, 0.9):
        found = learned(Level(value, error), 0.25, mode="max")
        assert not found.shown()
        assert not found.excluded()


def test_looking_often_costs_evidence() -> None:
    # 4 standard errors above chance: enough at the first look, not at the fiftieth.
    assert beats(0.165, 1 / 8, error=0.01, look=1)
    assert not beats(0.165, 1 / 8, error=0.01, look=50)


@pytest.mark.parametrize(("accuracy", "chance", "n"), [(0.35, 1 / 4, 2048), (0.20, 1 / 8, 1024), (0.07, 1 / 255, 512)])
def test_a_true_effect_is_found_within_a_few_looks(accuracy: float, chance: float, n: int) -> None:
    runs = np.random.default_rng(3).binomial(n, accuracy, size=(200, 10)) / n
    assert np.mean([ever(run, chance, n) for run in runs]) > 0.95


def test_a_loss_well_below_chance_is_found() -> None:
    assert beats(0.9, 1.0, error=0.02, mode="min", look=10)
    assert not beats(0.95, 1.0, error=0.02, mode="min")
    assert not beats(1.1, 1.0, error=0.02, mode="min")


def test_the_wrong_side_of_chance_never_shows_it() -> None:
    assert not beats(0.0, 1 / 8, error=1e-6)
    assert not beats(1 / 8, 1 / 8, error=1e-6)
    assert not beats(5.0, 1.0, error=1e-6, mode="min")


def test_the_error_rate_is_spent_in_full_over_all_looks() -> None:
    def spent(look: int) -> float:
        """Return alpha of one look, found from where a loss begins to be shown below chance."""
        low, high = 0.0, 100.0
        for _ in range(60):
            middle = (low + high) / 2
            shown = beats(10 - middle, 10.0, error=1.0, mode="min", look=look)  # the margin is 0.3 standard errors
            low, high = (low, middle) if shown else (middle, high)
        return math.exp(-(low**2) / 2)

    total = sum(spent(look) for look in range(1, 400))
    assert 0.995 * TIME_UNIFORM_ALPHA < total < TIME_UNIFORM_ALPHA


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
    for value in (math.nan, -math.inf):
        assert not learned(Level(value, 0.01), 0.25, mode="max").shown()
