"""Intervals over new seeds and new images: coverage, error rates and power by simulation, and edge cases."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from analysis.stats import paired
from analysis.stats.crossed import MAX_SEEDS_NEEDED, CrossedMean, crossed_mean, seeds_mean
from tests.benchmarks.crossed_coverage import (
    ACCURACIES,
    N_IMAGES,
    N_SEEDS,
    SMALL_SOURCES,
    SOURCES,
    answers,
    coverage,
    overlaps,
)

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("source", ["seeds", "images", "both"])
@pytest.mark.parametrize(("n_seeds", "n_images"), [(3, 200), (5, 40), (5, 200), (10, 40)])
def test_the_interval_covers_what_it_says(source: str, n_seeds: int, n_images: int):
    both, alone = coverage(answers(SOURCES[source], (0.8, 0.8)), n_seeds, n_images, 4_000)
    assert 0.93 <= both <= 0.97
    if source == "images":
        assert alone < 0.75, "an interval over seeds alone is not one over new images"


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("accuracies", ACCURACIES)
@pytest.mark.parametrize("source", SOURCES)
def test_the_interval_covers_what_it_says_in_every_cell(source: str, accuracies: tuple[float, float]):
    for n_seeds in N_SEEDS:
        for n_images in N_IMAGES:
            both, _ = coverage(
                answers(SOURCES[source], accuracies), n_seeds, n_images, 8_000 if n_images < 2000 else 2_000
            )
            most = 0.98 if (n_images, accuracies[0]) == (40, 0.92) else 0.975  # few images on which two arms differ
            assert 0.925 <= both <= most, (n_seeds, n_images)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("source", SMALL_SOURCES)
def test_the_interval_of_a_mean_iou_covers_what_it_says(source: str):
    for n_seeds in N_SEEDS:
        for n_images in (40, 200):
            both, _ = coverage(overlaps(SMALL_SOURCES[source]), n_seeds, n_images, 2_000)
            assert 0.92 <= both <= 0.98, (n_seeds, n_images)


@pytest.mark.parametrize("source", ["seeds", "images", "both"])
def test_a_family_of_ten_keeps_its_level(source: str):
    draw = answers(SOURCES[source], (0.8, 0.8))
    differences, images, _ = draw(np.random.default_rng(3), 4_000, 5, 100)
    estimate = crossed_mean(differences, images)
    assert (estimate.p_value() <= 0.005).mean() <= 0.01
    assert (estimate.p_value() <= 0.05).mean() <= 0.07
    margin = 0.05
    shifted = crossed_mean(differences + margin, images)
    assert (shifted.equivalence_p(margin) <= 0.05).mean() <= 0.07


def test_the_larger_p_value_of_few_seeds_keeps_its_level_far_below_5_percent():
    rng, n, level = np.random.default_rng(5), 100_000, 0.05 / 20
    seeds, images = 10.0, 3.0  # expected mean squares, in units of the interaction's, of 5 seeds x 2,000 images
    by_seed = seeds * rng.chisquare(4, n) / 4
    by_image = images * rng.chisquare(1999, n) / 1999
    mean = rng.normal(0, np.sqrt((seeds + images - 1) / 5), n)
    parts = np.maximum(by_seed - 1, 0), np.ones(n), np.maximum(by_image - 1, 0) / 5
    crossed = CrossedMean(mean, 5, *parts, np.full(n, 1999.0)).p_value()
    none = np.zeros(n)
    alone = CrossedMean(mean, 5, by_seed, none, none, none + 1).p_value()
    assert (crossed <= level).mean() > 1.5 * level
    assert (np.fmax(crossed, alone) <= level).mean() < 1.3 * level


def test_p_value_and_interval_agree():
    differences, images, _ = answers(SOURCES["both"], (0.8, 0.7))(np.random.default_rng(1), 500, 5, 40)
    estimate = crossed_mean(differences, images)
    low, high = estimate.interval(0.95)
    np.testing.assert_array_equal(estimate.p_value() < 0.05, (low > 0) | (high < 0))
    inner_low, inner_high = estimate.interval(0.9)
    np.testing.assert_array_equal(estimate.equivalence_p(0.1) < 0.05, (inner_low > -0.1) & (inner_high < 0.1))


def test_the_components_of_variance_are_found():
    seeds, images, rest = 0.02, 0.3, 0.4
    table = (
        RNG.normal(0, seeds, (2_000, 5, 1))
        + RNG.normal(0, images, (2_000, 1, 60))
        + RNG.normal(0, rest, (2_000, 5, 60))
    )
    found = crossed_mean(table.mean(axis=-1), table)
    assert found.rest.mean() == pytest.approx(rest**2 / 60, rel=0.03)
    assert found.images.mean() == pytest.approx(images**2 / 60, rel=0.03)
    assert found.error.mean() == pytest.approx(table.mean(axis=(-2, -1)).std(), rel=0.05)


def test_five_seeds_that_gained_the_same_three_of_41_images_have_shown_nothing():
    images = np.zeros((5, 41))
    for seed, gained in enumerate((3, 3, 1, 4, 3)):
        images[seed, :gained] = 1
    differences = images.mean(axis=-1)
    low, high = seeds_mean(differences).interval(0.95)
    assert (round(float(low), 3), round(float(high), 3)) == (0.035, 0.101)
    estimate = crossed_mean(differences, images)
    assert estimate.interval(0.95)[0] < 0
    assert estimate.p_value() > 0.1
    assert estimate.seeds_needed(0.02, 0.05) is None, "no number of seeds makes up for 41 images"
    least = estimate.least_images(0.02, 0.05, 41)
    assert 800 < least < 2_000
    more = dataclasses.replace(estimate, images=estimate.images * 41 / (2 * least), df_images=np.array(100.0))
    assert more.seeds_needed(0.02, 0.05) is not None


def test_images_are_blamed_only_where_they_leave_the_difference_open():
    noisy = CrossedMean(np.array(0.01), 5, *map(np.array, (0.04**2, 1e-5, 1e-9, 399.0)))  # seeds differ, images hardly
    assert noisy.seeds_needed(0.0005, 0.05) == MAX_SEEDS_NEEDED
    assert noisy.least_images(0.0005, 0.05, 400) < 400
    few = dataclasses.replace(noisy, images=np.array(1e-4))
    assert few.seeds_needed(0.0005, 0.05) is None
    assert few.least_images(0.0005, 0.05, 400) > 400


def test_seeds_alone_are_the_paired_t_test():
    differences = RNG.normal(0.01, 0.02, (20, 5))
    estimate = seeds_mean(differences)
    np.testing.assert_allclose(estimate.interval(0.95), paired.t_interval(differences, 0.95))
    np.testing.assert_allclose(estimate.p_value(), paired.p_value(differences, paired.PAIRED_T))
    np.testing.assert_allclose(estimate.equivalence_p(0.02), paired.equivalence_p(differences, 0.02, paired.PAIRED_T))
    one = seeds_mean(differences[0])
    assert one.smallest_detectable(0.01) == pytest.approx(paired.smallest_detectable(differences[0], 0.01))


def test_images_of_some_seeds_give_the_variance_of_images_to_all():
    table = RNG.normal(0, 0.1, (6, 1)) + RNG.normal(0, 0.3, (1, 400)) + RNG.normal(0, 0.3, (6, 400))
    differences = table.mean(axis=-1)
    every, some = crossed_mean(differences, table), crossed_mean(differences, table[:3])
    assert some.n_seeds == 6
    assert (some.mean, some.seeds + some.rest) == (every.mean, pytest.approx(every.seeds + every.rest))
    assert some.images == pytest.approx(every.images, rel=0.5)


def test_the_smallest_detectable_mean_is_found_four_times_in_five():
    truth, rng = 0.1, np.random.default_rng(2)

    def draw(n_seeds: int) -> CrossedMean:
        table = truth + rng.normal(0, 0.12, (4_000, n_seeds, 1)) + rng.normal(0, 0.1, (4_000, 1, 100))
        table = table + rng.normal(0, 0.3, (4_000, n_seeds, 100))
        return crossed_mean(table.mean(axis=-1), table)

    exact = CrossedMean(np.array(truth), 5, *map(np.array, (0.12**2, 0.3**2 / 100, 0.1**2 / 100, 99.0)))
    needed = exact.seeds_needed(truth, 0.05)
    assert needed is not None
    assert (draw(needed).p_value() < 0.05).mean() == pytest.approx(0.8, abs=0.06)
    assert (draw(needed - 2).p_value() < 0.05).mean() < 0.77


def test_without_any_variance_there_is_no_interval():
    estimate = crossed_mean(np.full(5, 0.25), np.full((5, 40), 0.25))
    assert np.isnan([*estimate.interval(0.95), estimate.p_value(), estimate.smallest_detectable(0.05)]).all()
    assert estimate.seeds_needed(0.01, 0.05) is None


def test_one_image_or_one_seed_is_an_error():
    with pytest.raises(ValueError, match=r"1 seeds x 40 images: a crossed mean needs at least 2 of each"):
        crossed_mean(np.zeros(5), np.zeros((1, 40)))
