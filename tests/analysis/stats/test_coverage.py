"""Coverage and error rates of every interval and test of `paired`, `factorial` and `split_plot`, on simulated truth.

Each rate is compared with its nominal one within simulation error. `pytest -s` prints the tables that the docstrings
quote. Draws are normal where the methods promise to be exact, and heavy-tailed, skewed, or rounded accuracies, as
differences between seeds of real runs are, where they promise less.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.stats import factorial, paired
from analysis.stats.paired import PAIRED_T, SIGN_FLIP
from analysis.stats.split_plot import interaction_p
from tests.analysis.error_rates import at_most
from tests.analysis.stats.textbook import textbook_f

N_SEEDS = (3, 5, 8, 10)
ALPHA = 0.05

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def accuracies(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw differences of shares of 200 right answers, 0.90 of a noisy cell minus 0.80 of a calm one: skewed, tied."""
    return right(rng, shape, 2.2, 0.6) - right(rng, shape, 1.4, 0.2)


def right(rng: np.random.Generator, shape: tuple[int, ...], logit: float, spread: float) -> np.ndarray:
    return rng.binomial(200, 1 / (1 + np.exp(-logit - spread * rng.standard_normal(shape)))) / 200


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails": lambda rng, shape: rng.standard_t(4, shape),
    "skewed": lambda rng, shape: rng.gamma(4, 1, shape) - 4,
    "accuracies": lambda rng, shape: accuracies(rng, shape) - ACCURACY_MEAN,
}
ACCURACY_MEAN = accuracies(np.random.default_rng(1), (10**6,)).mean()


def close_to(rate: float, nominal: float, n_simulations: int) -> bool:
    """Whether a rate is within four standard errors of the nominal one."""
    return abs(rate - nominal) <= 4 * np.sqrt(nominal * (1 - nominal) / n_simulations)


def covered(interval: tuple[np.ndarray, np.ndarray], truth: float) -> float:
    low, high = interval
    return float(((low <= truth) & (truth <= high)).mean())


def seeds_by_cells(rng: np.random.Generator, n_families: int, n_cells: int, n_seeds: int) -> np.ndarray:
    """Draw differences [families, cells, seeds] of cells that share seeds and one baseline: correlated by 1/2."""
    seeds = rng.normal(0, 3, (n_families, 1, n_seeds))  # pairing takes these out
    values = seeds + rng.standard_normal((n_families, n_cells + 1, n_seeds))
    return values[:, 1:] - values[:, :1]


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", N_SEEDS)
def test_the_t_interval_covers_what_it_says(n: int):
    n_simulations = 40_000
    rng = np.random.default_rng(n)
    rates = {name: covered(paired.t_interval(draw(rng, (n_simulations, n)), 0.95), 0.0) for name, draw in DRAWS.items()}
    print(f"\nt interval, nominal 0.95, {n} seeds: " + ", ".join(f"{k} {v:.3f}" for k, v in rates.items()))
    assert close_to(rates["normal"], 0.95, n_simulations)
    assert 0.95 < rates["heavy tails"] < 0.975
    assert 0.90 < rates["skewed"] < 0.945
    assert 0.92 < rates["accuracies"] < 0.96


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 6, 7])
def test_the_t_test_errs_as_often_as_it_says(n: int):
    n_simulations = 40_000
    rng = np.random.default_rng(n)
    rates = {
        name: float((paired.p_value(draw(rng, (n_simulations, n)), PAIRED_T) <= ALPHA).mean())
        for name, draw in DRAWS.items()
    }
    print(f"\npaired t, nominal 0.05, {n} seeds: " + ", ".join(f"{k} {v:.3f}" for k, v in rates.items()))
    assert close_to(rates["normal"], ALPHA, n_simulations)
    assert rates["heavy tails"] < ALPHA
    assert rates["skewed"] < 0.10
    assert rates["accuracies"] < 0.08


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 10])
def test_the_sign_flip_test_is_exact_for_every_symmetric_distribution(n: int):
    n_simulations = 2_000
    rng = np.random.default_rng(n)
    rates = {
        name: float((paired.p_value(draw(rng, (n_simulations, n)), SIGN_FLIP) <= ALPHA).mean())
        for name, draw in DRAWS.items()
    }
    print(f"\nsign-flip, nominal 0.05, {n} seeds: " + ", ".join(f"{k} {v:.3f}" for k, v in rates.items()))
    exact = np.floor(ALPHA * 2 ** (n - 1)) / 2 ** (n - 1)  # the largest of its p-values up to 0.05
    assert close_to(rates["normal"], exact, n_simulations)
    assert close_to(rates["heavy tails"], exact, n_simulations)
    assert rates["skewed"] < 0.10
    assert rates["accuracies"] < 0.08


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_cells"), [(5, 6), (7, 12), (8, 6), (8, 12), (10, 6)])
@pytest.mark.parametrize("n_different", [0, 2])
def test_holm_keeps_the_error_rate_of_a_whole_family(n: int, n_cells: int, n_different: int):
    n_simulations = 2_000 if n < 10 else 1_000
    differences = seeds_by_cells(np.random.default_rng([n, n_cells]), n_simulations, n_cells, n)
    differences[:, :n_different] += 4.0
    p = paired.p_value(differences, paired.choose_test(n, n_cells, ALPHA))
    same = slice(n_different, None)
    alone, family = ((q[:, same] <= ALPHA).any(axis=1).mean() for q in (p, paired.holm(p)))
    print(f"\n{n_cells} cells, {n_different} different, {n} seeds: any false, alone {alone:.3f}, Holm {family:.3f}")
    assert family <= at_most(ALPHA, n_simulations)
    assert alone > 2 * ALPHA  # what the adjustment is for


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
def test_the_family_interval_covers_all_cells_at_once(n: int):
    n_simulations, n_cells = 20_000, 6
    differences = seeds_by_cells(np.random.default_rng(n), n_simulations, n_cells, n)
    low, high = paired.t_interval(differences, 1 - ALPHA / n_cells)
    all_covered = ((low <= 0) & (high >= 0)).all(axis=1).mean()
    print(f"\nfamily interval, {n} seeds: {all_covered:.3f}")
    assert 0.95 - 4 * 0.0016 <= all_covered <= 0.975  # Bonferroni, of correlated comparisons


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("n", "test"), [(5, PAIRED_T), (7, PAIRED_T), (8, SIGN_FLIP), (10, SIGN_FLIP)])
def test_a_difference_as_large_as_the_margin_is_called_equivalent_at_most_as_often_as_stated(n: int, test: paired.Test):
    n_simulations = 4_000 if test == PAIRED_T else 2_000
    rng = np.random.default_rng(n)
    rates = []
    for sd in (0.05, 1.0):  # of a margin of 1: either side alone decides, or both do
        differences = 1.0 + sd * rng.standard_normal((n_simulations, n))
        rates.append((paired.equivalence_p(differences, 1.0, test) <= ALPHA).mean())
    print(f"\nequivalence at the margin, {n} seeds: {rates[0]:.3f} small noise, {rates[1]:.3f} large")
    exact = ALPHA if test == PAIRED_T else np.floor(ALPHA * 2**n) / 2**n
    assert close_to(rates[0], exact, n_simulations)
    assert rates[1] <= at_most(exact, n_simulations)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8])
def test_no_kind_of_claim_in_a_family_is_false_more_often_than_stated(n: int):
    n_simulations, n_cells = 2_000, 6
    differences = 0.2 * seeds_by_cells(np.random.default_rng(n), n_simulations, n_cells, n)
    differences[:, :3] += 1.0  # the margin: not equivalent; the others do not differ
    test = paired.choose_test(n, n_cells, ALPHA)
    false_difference = (paired.holm(paired.p_value(differences, test)) <= ALPHA)[:, 3:].any(axis=1).mean()
    p = paired.holm(paired.equivalence_p(differences, 1.0, test))
    false_equivalence = (p <= ALPHA)[:, :3].any(axis=1).mean()
    print(f"\nfamily of 6, {n} seeds: false difference {false_difference:.3f}, equivalence {false_equivalence:.3f}")
    assert false_difference <= at_most(ALPHA, n_simulations)
    assert false_equivalence <= at_most(ALPHA, n_simulations)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_hedges_g_is_on_average_the_true_standardized_difference(n: int, truth: float):
    n_simulations = 40_000
    g = paired.hedges_g(np.random.default_rng(n).normal(truth, 1.0, (n_simulations, n)))
    assert abs(g.mean() - truth) < 4 * g.std() / np.sqrt(n_simulations)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(("n", "n_comparisons"), [(5, 1), (5, 6), (5, 20), (5, 60), (8, 1), (8, 6), (10, 12)])
def test_the_smallest_detectable_difference_is_found_four_times_in_five(n: int, n_comparisons: int):
    n_simulations, alpha = 40_000, ALPHA / n_comparisons
    unit_spread = stats.zscore(np.arange(float(n)), ddof=1)
    truth = paired.smallest_detectable(unit_spread, alpha)
    differences = np.random.default_rng(n).normal(truth, 1.0, (n_simulations, n))
    power = (paired.p_value(differences, PAIRED_T) <= alpha).mean()
    assert close_to(power, 0.8, n_simulations)
    if paired.choose_test(n, n_comparisons, ALPHA) == SIGN_FLIP:
        power = (paired.p_value(differences[:2_000], SIGN_FLIP) <= alpha).mean()
        print(f"\npower of the sign-flip test where t has 0.8, {n} seeds, {n_comparisons} comparisons: {power:.2f}")
        assert 0.55 < power < 0.83


@pytest.mark.core
@pytest.mark.slow
def test_bca_covers_nearly_what_it_says_from_10_seeds_on():
    n, n_simulations = paired.BCA_SEEDS, 1_000
    differences = np.random.default_rng(n).standard_normal((n_simulations, n))
    rate = covered(paired.bca_interval(differences, 0.95), 0.0)
    plain = stats.bootstrap(
        (differences,), np.mean, axis=-1, method="BCa", n_resamples=999, vectorized=True, rng=np.random.default_rng(0)
    ).confidence_interval
    print(f"\nBCa, nominal 0.95, {n} seeds: expanded {rate:.3f}, plain {covered(tuple(plain), 0.0):.3f}")
    assert 0.915 < rate < 0.965
    assert covered(tuple(plain), 0.0) < 0.925


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 15, 20])
@pytest.mark.parametrize(
    ("name", "least"), [("normal", 0.935), ("heavy tails", 0.905), ("skewed", 0.925), ("accuracies", 0.93)]
)
def test_bca_coverage_in_full(n: int, name: str, least: float):
    rng = np.random.default_rng(n)
    parts = [covered(paired.bca_interval(DRAWS[name](rng, (500, n)), 0.95), 0.0) for _ in range(20)]
    print(f"\nBCa, nominal 0.95, {n} seeds: {name} {np.mean(parts):.3f}")
    assert least < np.mean(parts) < 0.96


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
@pytest.mark.parametrize("by_seed", [0.0, 1.0])
def test_factorial_effects_hold_their_rates_also_where_an_effect_differs_by_seed(n: int, by_seed: float):
    n_simulations = 8_000 if n < paired.SIGN_FLIP_SEEDS else 2_000
    rng = np.random.default_rng(n)
    design = two_level_design(3)
    terms = factorial.terms(design)
    first = (design["f0"] == "1").to_numpy(float)[:, None, None]
    values = rng.normal(0, 3, (1, n_simulations, n)) + rng.standard_normal((8, n_simulations, n))
    values += by_seed * first * rng.standard_normal((1, n_simulations, n))  # on average, no effect
    estimates = factorial.fit(terms, values.reshape(8, -1))[0].reshape(-1, n_simulations, n)
    test = paired.choose_test(n, len(terms), ALPHA)
    ours = (paired.p_value(estimates[0], test) <= ALPHA).mean()
    coverage = covered(paired.t_interval(estimates[0], 0.95), 0.0)
    pooled = pooled_error_rate(values, estimates[0])
    print(f"\nfactorial, {n} seeds, effect by seed {by_seed}: seedwise {ours:.3f} ({test}), pooled {pooled:.3f}")
    exact = ALPHA if test == PAIRED_T else np.floor(ALPHA * 2 ** (n - 1)) / 2 ** (n - 1)
    assert close_to(ours, exact, n_simulations)
    assert close_to(coverage, 0.95, n_simulations)
    assert pooled > 0.15 if by_seed else close_to(pooled, ALPHA, n_simulations)


def two_level_design(n_factors: int) -> pd.DataFrame:
    cells = np.array(np.meshgrid(*[["0", "1"]] * n_factors, indexing="ij")).reshape(n_factors, -1)
    factors = {f"f{index}": pd.Categorical(levels, ["0", "1"], ordered=True) for index, levels in enumerate(cells)}
    return pd.DataFrame(factors)


def pooled_error_rate(values: np.ndarray, estimates: np.ndarray) -> float:
    """Return how often a main effect is significant against the residuals of all seeds together."""
    n_cells, n = len(values), values.shape[-1]
    design = np.column_stack([np.ones(n_cells), *(term.column for term in factorial.terms(two_level_design(3)))])
    rest = np.eye(n_cells) - design @ np.linalg.pinv(design)
    residual = ((values - values.mean(axis=0) - (values - values.mean(axis=0)).mean(axis=-1, keepdims=True)) ** 2).sum(
        axis=(0, -1)
    ) + (np.tensordot(rest, values.mean(axis=-1), 1) ** 2).sum(axis=0) * n
    df = (n_cells - 1) * (n - 1) + n_cells - np.linalg.matrix_rank(design)
    t = estimates.mean(axis=-1) / np.sqrt(residual / df * 4 / n_cells / n)
    return float((2 * stats.t.sf(np.abs(t), df) <= ALPHA).mean())


def rates_of_interaction(values: np.ndarray) -> dict[str, float]:
    p = interaction_p(values, textbook_f(values))
    return {term: float((own <= ALPHA).mean()) for term, own in p.items()}


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 10])
@pytest.mark.parametrize(("n_tasks", "n_cells"), [(2, 2), (2, 4), (4, 6)])
def test_the_task_interaction_keeps_its_error_rate_under_random_seeds_and_any_noise(n: int, n_tasks: int, n_cells: int):
    n_simulations = 4_000
    rng = np.random.default_rng([n, n_cells])
    shape = (n_simulations, n_tasks, n_cells, n)
    seeds = rng.normal(0, 3, (n_simulations, n_tasks, 1, n))
    last_task, last_cell = np.arange(n_tasks)[:, None, None] == n_tasks - 1, np.arange(n_cells)[:, None] == n_cells - 1
    noises = {
        "alike": 1.0,
        "one task x 3": 1 + 2 * last_task,
        "one task x 10": 1 + 9 * last_task,
        "one cell x 3": 1 + 2 * last_cell,
        "one cell x 10": 1 + 9 * last_cell,
        "one of one x 5": 1 + 4 * last_task * last_cell,
    }
    for name, scale in noises.items():
        values = seeds + scale * rng.standard_normal(shape)
        rates = rates_of_interaction(values)
        f = textbook_f(values)["task:cell"]
        df = (n_tasks - 1) * (n_cells - 1)
        plain = (stats.f.sf(f, df, n_tasks * (n - 1) * (n_cells - 1)) <= ALPHA).mean()
        shown = ", ".join(f"{term} {rate:.3f}" for term, rate in rates.items())
        print(f"\n{n_tasks} tasks x {n_cells} cells, {n} seeds, noise of {name}: {shown}; uncorrected {plain:.3f}")
        assert rates["task:cell"] <= at_most(0.06, n_simulations)
        assert rates["cell"] <= at_most(0.06, n_simulations)
        assert rates["task"] <= at_most(0.06, n_simulations)
        assert name != "alike" or rates["task:cell"] > 0.008
