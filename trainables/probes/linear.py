"""Linear probes: multinomial logistic regression on frozen features, its weight decay chosen on validation.

All of it is deterministic: the same features and labels give the same result, with no seed to choose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.probes.accuracy import Accuracy, top_accuracy

WEIGHT_DECAYS = tuple(10.0**exponent for exponent in range(2, -7, -1))
MAX_ITERATIONS = 300  # of L-BFGS; a safeguard, reached by separable data at weak decay alone
PATIENCE = 2  # the weak decays that only overfit are the ones that take most iterations


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy of a linear probe on each split, and the weight decay chosen on the validation split."""

    weight_decay: float
    train: Accuracy
    validation: Accuracy
    test: Accuracy | None = None


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardized features: x [N, D] to scores [N, K]."""

    weight_decay: float
    scale: Standardizer
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Return scores [N, K] of features [N, D]."""
        return F.linear(self.scale(x), self.weight, self.bias)

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return weight [K, D] and bias [K] that give the same scores of features that are not standardized."""
        weight = self.weight * self.scale.inverse
        return weight, self.bias - weight @ self.scale.mean


def fit_linear_probe(
    train_x: Tensor, train_y: Tensor, validation_x: Tensor, validation_y: Tensor, n_classes: int
) -> LinearProbe | None:
    """Fit a linear probe as `linear_probe` says, which see for the arguments and errors.

    None for features that are not finite.
    """
    if not len(train_x) or not len(validation_x):
        raise ValueError(f"a probe needs samples: {len(train_x)} to train and {len(validation_x)} to validate on")
    if not (torch.isfinite(train_x).all() and torch.isfinite(validation_x).all()):
        return None
    scale = Standardizer(train_x)
    validation_z = scale(validation_x)

    def score(weight: Tensor, bias: Tensor) -> float:
        return top_accuracy(F.linear(validation_z, weight, bias), validation_y).top1

    weight_decay, weight, bias = best_of_path(scale(train_x), train_y, n_classes, score)
    return LinearProbe(weight_decay, scale, weight, bias)


def linear_probe(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    test_x: Tensor | None = None,
    test_y: Tensor | None = None,
    *,
    n_classes: int,
) -> ProbeResult:
    """Fit multinomial logistic regression on frozen features and report its accuracy.

    *_x: float [N, D]; *_y: int64 [N] in 0 .. n_classes - 1; all on one device. Features are standardized by the
    training split; the objective is mean cross entropy + weight_decay / 2 * |W|^2 with a free bias, convex, solved by
    L-BFGS from zeros. Weight decay is chosen by the top-1 on the validation split (`best_of_path`). The test split is
    read once, after that choice.

    Features that are not finite, as of a diverged encoder, give NaN accuracies. Raises ValueError for splits without
    samples or a test split without labels.
    """
    if (test_x is None) != (test_y is None):
        raise ValueError("the test split needs features and labels, or neither")
    probe = fit_linear_probe(train_x, train_y, validation_x, validation_y, n_classes)
    if probe is None:
        lost = Accuracy(math.nan, math.nan)
        return ProbeResult(math.nan, lost, lost, None if test_x is None else lost)
    test = None if test_x is None or test_y is None else top_accuracy(probe(test_x), test_y)
    return ProbeResult(
        weight_decay=probe.weight_decay,
        train=top_accuracy(probe(train_x), train_y),
        validation=top_accuracy(probe(validation_x), validation_y),
        test=test,
    )


def best_of_path(
    train_z: Tensor,
    train_y: Tensor,
    n_classes: int,
    score: Callable[[Tensor, Tensor], float],
    *,
    weight_decays: Sequence[float] = WEIGHT_DECAYS,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[float, Tensor, Tensor]:
    """Return the weight decay, weight [K, D] and bias [K] of the logistic regression that scores best on validation.

    train_z: float [N, D], standardized; train_y: int64 [N]; score: of a weight and a bias, in [0, 1], more is better.
    Weight decay runs down `weight_decays`, each solution the start of the next, until the score has been below its best
    PATIENCE times in a row; the best is kept, the strongest of equals.
    """
    weight, bias = train_z.new_zeros(n_classes, train_z.shape[1]), train_z.new_zeros(n_classes)
    covariance = train_z.t() @ train_z / len(train_z)
    chosen, best, n_worse = (0.0, weight, bias), -1.0, 0
    for weight_decay in weight_decays:
        start = (weight, bias)
        weight, bias = logistic_regression(
            train_z, train_y, weight_decay, start, covariance, max_iterations=max_iterations
        )
        value = score(weight, bias)
        n_worse = n_worse + 1 if value < best else 0
        if value > best:
            chosen, best = (weight_decay, weight, bias), value
        if n_worse == PATIENCE:
            break
    return chosen


def logistic_regression(
    x: Tensor,
    y: Tensor,
    weight_decay: float,
    start: tuple[Tensor, Tensor],
    covariance: Tensor,
    *,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[Tensor, Tensor]:
    """Return weight [K, D] and bias [K] that minimize mean cross entropy + weight_decay / 2 * |weight|^2.

    x: float [N, D], centerd, with covariance [D, D] = x^T x / N; y: int64 [N]; start: where to begin.

    L-BFGS in the coordinates A = L^T weight^T, where L L^T = covariance / K + weight_decay I is the Hessian of the
    objective at zero: the minimum is the same, and correlated features, such as pixels, cost no more iterations than
    others. In these coordinates half the squared gradient estimates the distance of the objective from its minimum.
    """
    n_classes, dim = start[0].shape
    curvature = covariance / n_classes
    ridge = weight_decay + 1e-6 * curvature.trace()  # keeps float32 positive definite; moves no minimum
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
    """Center and scale features by the statistics of a training split; constant features become zero."""

    def __init__(self, x: Tensor) -> None:
        x = x.float()
        self.mean = x.mean(dim=0)
        std = (x - self.mean).square().mean(dim=0).sqrt()
        varies = std > 1e-6 * x.abs().amax(dim=0)  # below, it is the rounding of float32 that varies
        self.inverse = torch.where(varies, 1 / std, torch.zeros_like(std))

    def __call__(self, x: Tensor) -> Tensor:
        """Return features [..., D], standardized."""
        return (x.float() - self.mean) * self.inverse
