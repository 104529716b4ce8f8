"""Health metrics of representations whose health is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from trainables.probes.health import MAX_SAMPLES, health_metrics, rankme

N, DIM = 512, 64


def gaussian(n: int = N, dim: int = DIM, seed: int = 0) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def test_isotropic_features_are_healthy() -> None:
    figures = health_metrics(gaussian())
    assert figures["health/feature_std"] == pytest.approx(1, abs=0.01)
    assert 0.9 * DIM < figures["health/rankme"] < DIM
    # On the sphere |a - b|^2 is about N(2, 4 / dim) for random pairs, so log E exp(-2 |a - b|^2) = -4 + 8 / dim.
    assert figures["health/uniformity"] == pytest.approx(-4 + 8 / DIM, abs=0.03)


def test_features_collapsed_to_a_point_read_zero_and_rank_one() -> None:
    figures = health_metrics(torch.ones(N, DIM) * gaussian(1))
    assert figures["health/feature_std"] == pytest.approx(0, abs=1e-4)
    assert figures["health/rankme"] == pytest.approx(1, abs=1e-3)
    assert figures["health/uniformity"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_rankme_is_the_rank_of_features_with_equal_singular_values(rank: int) -> None:
    left, right = torch.linalg.qr(gaussian(N, rank))[0], torch.linalg.qr(gaussian(DIM, rank, seed=1))[0]
    assert rankme(left @ right.T) == pytest.approx(rank, rel=1e-3)
    assert rankme(right @ left.T) == pytest.approx(rank, rel=1e-3)  # more dimensions than samples


def test_rankme_is_the_formula_of_the_paper_by_svd() -> None:
    features = gaussian() @ torch.diag(torch.logspace(0, -4, DIM))
    sigma = torch.linalg.svdvals(features.double())
    p = sigma / sigma.sum() + 1e-7
    assert rankme(features) == pytest.approx(math.exp(-(p * p.log()).sum()), rel=1e-6)


def test_rankme_does_not_depend_on_the_scale() -> None:
    assert rankme(gaussian() * 1e-20) == pytest.approx(rankme(gaussian()), rel=1e-5)
    assert rankme(gaussian() * 1e20) == pytest.approx(rankme(gaussian()), rel=1e-5)


def test_feature_std_sees_collapse_of_the_direction_whatever_the_length() -> None:
    lengths = torch.rand(N, 1, generator=torch.Generator().manual_seed(0)) + 0.5
    assert health_metrics(gaussian(1) * lengths)["health/feature_std"] == pytest.approx(0, abs=1e-4)
    assert health_metrics(1e-3 * gaussian())["health/feature_std"] == pytest.approx(1, abs=0.01)


def test_alignment_is_zero_for_equal_views_two_for_unrelated_and_four_for_opposite_ones() -> None:
    a, b = gaussian(), gaussian(seed=1)
    assert health_metrics(a, a, 5 * a)["health/alignment"] == pytest.approx(0, abs=1e-6)
    assert health_metrics(a, a, b)["health/alignment"] == pytest.approx(2, abs=0.05)
    assert health_metrics(a, a, -a)["health/alignment"] == pytest.approx(4, abs=1e-5)


def test_alignment_needs_two_views() -> None:
    assert set(health_metrics(gaussian())) == {"health/feature_std", "health/rankme", "health/uniformity"}
    assert "health/alignment" not in health_metrics(gaussian(), gaussian())


def test_dead_features_read_as_collapsed() -> None:
    zeros = torch.zeros(N, DIM)
    figures = health_metrics(zeros, zeros, zeros)
    assert figures["health/feature_std"] == 0
    assert figures["health/rankme"] == pytest.approx(1, abs=1e-3)
    assert figures["health/uniformity"] == 0
    assert figures["health/alignment"] == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_features_that_are_not_finite_give_nan_and_no_error(bad: float) -> None:
    broken = gaussian()
    broken[0, 0] = bad
    assert all(map(math.isnan, health_metrics(broken, broken, broken).values()))


def test_only_the_first_rows_count_and_figures_are_plain_floats() -> None:
    features = torch.cat([gaussian(MAX_SAMPLES), torch.full((1000, DIM), math.nan)])
    assert health_metrics(features) == health_metrics(features[:MAX_SAMPLES])
    assert all(type(value) is float for value in health_metrics(features).values())
