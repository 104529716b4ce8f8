"""VICReg: its terms are the equations of Bardes et al. 2022, and a constant network does not solve them."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from trainables.tasks import TASKS
from trainables.testing.tasks import new_task, sample_batch


def embeddings(n: int = 12, dim: int = 5) -> Tensor:
    return 0.3 * torch.randn(n, dim, generator=torch.Generator().manual_seed(0)) + torch.arange(dim)


def term(name: str, values: Tensor) -> float:
    return float(getattr(sys.modules[TASKS["vicreg"].__module__], name)(values))


def test_the_variance_term_is_equations_1_and_2() -> None:
    columns = embeddings().double().T.tolist()
    expected = []
    for column in columns:
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / (len(column) - 1)
        expected.append(max(0.0, 1 - (variance + 1e-4) ** 0.5))
    assert term("variance_term", embeddings()) == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert term("variance_term", 10 * embeddings()) == 0


def test_the_covariance_term_is_equations_3_and_4() -> None:
    rows = embeddings().double().tolist()
    n, dim = len(rows), len(rows[0])
    means = [sum(row[i] for row in rows) / n for i in range(dim)]
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            covariance = sum((row[i] - means[i]) * (row[j] - means[j]) for row in rows) / (n - 1)
            total += covariance**2 if i != j else 0
    assert term("covariance_term", embeddings()) == pytest.approx(total / dim, rel=1e-5)
    uncorrelated = torch.cat([torch.eye(4), -torch.eye(4)])
    assert term("covariance_term", uncorrelated) == pytest.approx(0, abs=1e-6)


def test_the_objective_is_the_weighted_sum_of_the_terms() -> None:
    batch = sample_batch(new_task("vicreg"))

    def objective(invariance: float = 0.0, variance: float = 0.0, covariance: float = 0.0) -> Tensor:
        task = new_task("vicreg", invariance=invariance, variance=variance, covariance=covariance)
        return task(batch).objective.detach()

    whole = new_task("vicreg")(batch).objective.detach()
    torch.testing.assert_close(whole, objective(25.0) + objective(0.0, 25.0) + objective(0.0, 0.0, 1.0))
    assert min(objective(25.0), objective(0.0, 25.0), objective(0.0, 0.0, 1.0)) > 0


def test_a_constant_network_does_not_solve_it() -> None:
    task = new_task("vicreg")
    torch.nn.init.zeros_(task.expander[-1].weight)
    output = task(sample_batch(task))
    assert output.objective.item() == pytest.approx(25 * (1 - 1e-2), rel=1e-3)
    assert output.metrics["accuracy"].mean() == pytest.approx(task.chance(8, training=True)["accuracy"])
