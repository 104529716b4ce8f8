"""Linear probe: multinomial logistic regression on frozen features, with weight decay chosen on validation.

The probe is deterministic: it needs no seed, and equal features and labels give equal results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.probes.accuracy import Accuracy, selection_measure, top_accuracy

WEIGHT_DECAYS = tuple(10.0**exponent for exponent in range(2, -7, -1))
MAX_ITERATIONS = 300  # L-BFGS iterations; only separable data with weak decay reaches this limit
PATIENCE = 2  # worse scores in a row that end the search; weak decays that overfit take the most iterations

# Standardized features [N, D], labels [N] and number of classes K to weight decay, weight [K, D] and bias [K] of each
# solution, by decreasing weight decay.
Path = Callable[[Tensor, Tensor, int], Iterator[tuple[float, Tensor, Tensor]]]


@dataclass(frozen=True)
class LinearProbeResult:
    """Accuracy of a linear probe on each split, and the weight decay chosen on the validation split."""

    weight_decay: float
    train: Accuracy
    validation: Accuracy
    test: Accuracy | None = None


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardized features.

    Attributes:
        weight_decay: Chosen weight decay.
        standardize: Standardization by the training split.
        weight: Float [K, D].
        bias: Float [K].
    """

    weight_decay: float
    standardize: Standardizer
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return scores [N, K] of features [N, D]."""
        return F.linear(self.standardize(x), self.weight, self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight [K, D] and bias [K] that give the same scores on features that are not standardized."""
        weight = self.weight * self.standardize.inverse_std
        return weight, self.bias - weight @ self.standardize.mean


def linear_probe(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    test_x: Tensor | None = None,
    test_y: Tensor | None = None,
    *,
    n_classes: int,
    path: Path | None = None,
) -> LinearProbeResult:
    """Fit multinomial logistic regression on frozen features and report its accuracy.

    Features are standardized by the training split. The objective is mean cross entropy + weight_decay / 2 * |W|^2 with
    a free bias: convex, solved by L-BFGS from zeros. Weight decay is chosen on the validation split, by top-1 accuracy
    or, with imbalanced classes, by balanced accuracy (see `selection_measure` and `best_solution`). The test split is
    read once, after that choice.

    Args:
        train_x: Float [N, D]; all tensors are on one device.
        train_y: Labels in 0 .. n_classes - 1, int64 [N].
        validation_x: Float [M, D].
        validation_y: Int64 [M].
        test_x: Float [L, D], or None.
        test_y: Int64 [L], or None.
        n_classes: Number of classes.
        path: Solver of the regularization path; by default `lbfgs_path`.

    Returns:
        Accuracy on each split; NaN if training or validation features are not finite, as after divergence.

    Raises:
        ValueError: The training or validation split is empty, or the test split lacks features or labels.
    """
    if (test_x is None) != (test_y is None):
        raise ValueError("the test split needs features and labels, or neither")
    probe = fit_linear_probe(train_x, train_y, validation_x, validation_y, n_classes, path)
    if probe is None:
        lost = Accuracy()
        return LinearProbeResult(math.nan, lost, lost, None if test_x is None else lost)
    test = None if test_x is None or test_y is None else top_accuracy(probe(test_x), test_y)
    return LinearProbeResult(
        weight_decay=probe.weight_decay,
        train=top_accuracy(probe(train_x), train_y),
        validation=top_accuracy(probe(validation_x), validation_y),
        test=test,
    )


def fit_linear_probe(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    n_classes: int,
    path: Path | None = None,
) -> LinearProbe | None:
    """Fit a linear probe; see `linear_probe` for the arguments.

    Returns:
        The probe, or None if the features are not finite.

    Raises:
        ValueError: The training or validation split is empty.
    """
    if not len(train_x) or not len(validation_x):
        raise ValueError(f"a probe needs samples: {len(train_x)} to train and {len(validation_x)} to validate on")
    if not (torch.isfinite(train_x).all() and torch.isfinite(validation_x).all()):
        return None
    standardize = Standardizer(train_x)
    validation_z = standardize(validation_x)
    measure = selection_measure(validation_y, n_classes)

    def score(weight: Tensor, bias: Tensor) -> float:
        return getattr(top_accuracy(F.linear(validation_z, weight, bias), validation_y), measure)

    solutions = (path or lbfgs_path)(standardize(train_x), train_y, n_classes)
    weight_decay, weight, bias = best_solution(solutions, score)
    return LinearProbe(weight_decay, standardize, weight, bias)


def select_weight_decay(
    train_z: Tensor,
    train_y: Tensor,
    n_classes: int,
    score: Callable[[Tensor, Tensor], float],
    *,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[float, Tensor, Tensor]:
    """Follow the regularization path by L-BFGS and return the solution with the best validation score.

    Weight decay decreases along `weight_decays`; each solution is the start of the next fit. `best_solution` says when
    the search stops.

    Args:
        train_z: Standardized features, float [N, D].
        train_y: Labels, int64 [N].
        n_classes: Number of classes K.
        score: Validation score in [0, 1] of a weight and a bias; higher is better.
        weight_decays: Candidates in decreasing order.
        max_iterations: Maximum number of L-BFGS iterations per weight decay.

    Returns:
        Weight decay, weight [K, D] and bias [K].
    """
    path = lbfgs_path(train_z, train_y, n_classes, weight_decays, max_iterations=max_iterations)
    return best_solution(path, score)


def best_solution(
    path: Iterable[tuple[float, Tensor, Tensor]], score: Callable[[Tensor, Tensor], float]
) -> tuple[float, Tensor, Tensor]:
    """Return the solution of a regularization path with the best validation score.

    The search stops once the score has been below its best PATIENCE times in a row. Of equal scores, the strongest
    weight decay wins.

    Args:
        path: Weight decay, in decreasing order, weight [K, D] and bias [K] of each solution.
        score: Validation score in [0, 1] of a weight and a bias; higher is better.
    """
    best, n_worse, chosen = -1.0, 0, None
    for solution in path:
        value = score(*solution[1:])
        n_worse = n_worse + 1 if value < best else 0
        if value > best:
            chosen, best = solution, value
        if n_worse == PATIENCE:
            break
    assert chosen is not None
    return chosen


def lbfgs_path(
    x: Tensor,
    y: Tensor,
    n_classes: int,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Yield weight decay, weight [K, D] and bias [K] of each solution, found by L-BFGS from the last one.

    Args:
        x: Standardized features, float [N, D].
        y: Labels, int64 [N].
        n_classes: Number of classes K.
        weight_decays: Candidates in decreasing order.
        max_iterations: Maximum number of L-BFGS iterations per weight decay.
    """
    weight, bias = x.new_zeros(n_classes, x.shape[1]), x.new_zeros(n_classes)
    covariance = x.t() @ x / len(x)
    for weight_decay in weight_decays:
        weight, bias = logistic_regression(
            x, y, weight_decay, (weight, bias), covariance, max_iterations=max_iterations
        )
        yield weight_decay, weight, bias


def logistic_regression(
    x: Tensor,
    y: Tensor,
    weight_decay: float,
    start: tuple[Tensor, Tensor],
    covariance: Tensor,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[Tensor, Tensor]:
    """Minimize mean cross entropy + weight_decay / 2 * |weight|^2.

    L-BFGS runs in the coordinates A = L^T weight^T, where L L^T = covariance / K + weight_decay I is the Hessian of the
    objective at zero. The minimum is the same, and correlated features, such as pixels, take no more iterations than
    others. In these coordinates, half the squared gradient estimates the distance of the objective from its minimum.

    Args:
        x: Centered features, float [N, D].
        y: Labels, int64 [N].
        weight_decay: L2 penalty; the bias is free.
        start: Weight [K, D] and bias [K] to start from.
        covariance: x^T x / N, float [D, D].
        max_iterations: Maximum number of L-BFGS iterations.

    Returns:
        Weight [K, D] and bias [K].
    """
    n_classes, dim = start[0].shape
    curvature = covariance / n_classes
    ridge = weight_decay + 1e-6 * curvature.trace()  # keeps float32 positive definite; does not move the minimum
    factor = torch.linalg.cholesky(curvature + ridge * torch.eye(dim, device=x.device))
    weight_coordinates = (factor.mT @ start[0].mT).requires_grad_()
    bias_coordinates = (start[1] / math.sqrt(n_classes)).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight_coordinates, bias_coordinates],
        max_iter=max_iterations,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def parameters() -> tuple[Tensor, Tensor]:
        weight = torch.linalg.solve_triangular(factor.mT, weight_coordinates, upper=True).mT
        return weight, bias_coordinates * math.sqrt(n_classes)

    def objective() -> Tensor:
        optimizer.zero_grad()
        weight, bias = parameters()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + 0.5 * weight_decay * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(objective)
    with torch.no_grad():
        return parameters()


class Standardizer:
    """Standardization of features by the statistics of a training split, float [N, D]; constant features become 0."""

    def __init__(self, x: Tensor) -> None:
        x = x.float()
        self.mean = x.mean(dim=0)
        std = (x - self.mean).square().mean(dim=0).sqrt()
        varies = std > 1e-6 * x.abs().amax(dim=0)  # anything smaller is float32 rounding
        self.inverse_std = torch.where(varies, 1 / std, torch.zeros_like(std))

    def __call__(self, x: Tensor) -> Tensor:
        """Return standardized features [..., D]."""
        return (x.float() - self.mean) * self.inverse_std
