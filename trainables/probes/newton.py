"""Regularization path of the online linear probe by Newton's method, in few large operations.

Newton's method takes about three steps per pair of weight decays, which share their matrix products, and waits for the
device once a step, where L-BFGS waits several times in each of its tens of iterations. It stops earlier: on real
features, accuracies are within one prediction of those of L-BFGS. The final probe is fitted by L-BFGS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.augmentation.cuda_graphs import CudaGraphCache
from trainables.probes.linear import WEIGHT_DECAYS

BLOCK = 2  # weight decays solved together; the next block starts at the last solution of this one
MAX_STEPS = 12  # Newton steps per block; only separable data with weak decay reaches this limit
CG_STEPS = 6  # conjugate-gradient steps per Newton step
TOLERANCE = 3e-4  # Newton decrement -gradient . step: about twice the objective's distance from its minimum, in nats
N_LENGTHS = 8  # each Newton step has the best of the lengths 1, 1/2, 1/4, ...


class NewtonPath:
    """Solver of the regularization path; on a GPU, later calls replay the steps that earlier ones captured."""

    def __init__(self) -> None:
        self._graphs = CudaGraphCache()

    def __call__(
        self, x: Tensor, y: Tensor, n_classes: int, weight_decays: Sequence[float] = WEIGHT_DECAYS
    ) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yield the minimum of mean cross entropy + weight_decay / 2 * |weight|^2 for each weight decay.

        Blocks are solved only as they are asked for, so a search that stops early pays for no more.

        Args:
            x: Standardized features, float [N, D].
            y: Labels, int64 [N].
            n_classes: Number of classes K.
            weight_decays: Candidates in decreasing order; the bias is free.

        Yields:
            Weight decay, weight [K, D] and bias [K].
        """
        one = F.pad(x, (0, 1), value=1.0)  # the last feature is the bias
        target = F.one_hot(y, n_classes).to(x.dtype)
        curvature = one.mT @ one / len(one) / n_classes
        layer = one.new_zeros(one.shape[1], n_classes)
        for first in range(0, len(weight_decays), BLOCK):
            block = weight_decays[first : first + BLOCK]
            decay = torch.tensor([[wd] * x.shape[1] + [0.0] for wd in block], device=x.device)
            layers = self._minimize(one, target, decay, curvature, layer)
            for i, weight_decay in enumerate(block):
                layer = layers[:, i]
                yield weight_decay, layer[:-1].mT, layer[-1]

    def _minimize(self, x: Tensor, target: Tensor, decay: Tensor, curvature: Tensor, start: Tensor) -> Tensor:
        """Return the layers [D, B, K] that minimize the objectives of B weight decays.

        Args:
            x: Features with a last column of ones, float [N, D].
            target: One-hot labels, float [N, K].
            decay: Penalty of each row of each layer, float [B, D].
            curvature: x^T x / (N K), float [D, D]: with the penalty, the Hessian at zero and the preconditioner.
            start: Layer to start from, float [D, K].
        """
        ridge = decay + 1e-6 * curvature.trace()  # keeps float32 positive definite; does not move the minimum
        factor = torch.linalg.cholesky(curvature + torch.diag_embed(ridge))
        root = torch.linalg.solve_triangular(factor, torch.eye(len(curvature), device=x.device), upper=False)
        inverse = root.mT @ root
        layers = start[:, None].repeat(1, len(decay), 1)
        inputs = (x, target, decay.mT[:, :, None], inverse)
        for _ in range(MAX_STEPS):
            step = self._graphs(_newton_step, *inputs, layers) if x.is_cuda else _newton_step(*inputs, layers)
            layers, decrement = step[:-1], step[-1, 0, 0]
            if not decrement > TOLERANCE:
                break
        return layers


def _newton_step(x: Tensor, target: Tensor, penalty: Tensor, inverse: Tensor, layers: Tensor) -> Tensor:
    """Return the layers after one Newton step of the best of several lengths, [D + 1, B, K].

    The last row is the largest Newton decrement, since a CUDA graph has one output.
    """
    n, (dim, _, n_classes) = len(x), layers.shape

    def forward(values: Tensor) -> Tensor:
        return (x @ values.reshape(dim, -1)).view(n, -1, n_classes)

    def backward(values: Tensor) -> Tensor:
        return (x.mT @ values.reshape(n, -1)).view(dim, -1, n_classes) / n

    def hessian(direction: Tensor) -> Tensor:
        change = forward(direction)
        return backward(p * (change - (p * change).sum(dim=2, keepdim=True))) + penalty * direction

    logits = forward(layers)
    p = logits.softmax(dim=2)
    gradient = backward(p - target[:, None]) + penalty * layers
    step = _conjugate_gradient(hessian, inverse, -gradient)
    sizes = 0.5 ** torch.arange(N_LENGTHS, device=x.device)[:, None, None, None]
    candidates = layers + sizes * step
    fit = ((logits + sizes * forward(step)).log_softmax(dim=3) * target[:, None]).sum(dim=3).mean(dim=1)
    objectives = 0.5 * (penalty * candidates.square()).sum(dim=(1, 3)) - fit
    best = sizes.flatten()[objectives.argmin(dim=0)]
    decrement = (-gradient * step).sum(dim=(0, 2)).amax()
    return torch.cat([layers + best[:, None] * step, decrement.expand(1, *layers.shape[1:])])


def _conjugate_gradient(hessian: Callable[[Tensor], Tensor], inverse: Tensor, goal: Tensor) -> Tensor:
    """Solve hessian(step) = goal for each weight decay, approximately, by CG_STEPS preconditioned steps.

    Args:
        hessian: Product of the Hessians with directions [D, B, K].
        inverse: Preconditioner of each weight decay, float [B, D, D].
        goal: Right-hand sides, float [D, B, K].
    """

    def dot(one: Tensor, other: Tensor) -> Tensor:
        return (one * other).sum(dim=(0, 2), keepdim=True)

    def precondition(values: Tensor) -> Tensor:
        return torch.einsum("bde,ebk->dbk", inverse, values)

    step, residual = torch.zeros_like(goal), goal
    direction = scaled = precondition(residual)
    error = first_error = dot(residual, scaled)
    for _ in range(CG_STEPS):
        product = hessian(direction)
        # A solved system takes steps of zero: its residual is rounding, and quotients of it would be noise.
        length = torch.where(error > 1e-8 * first_error, error / dot(direction, product), 0.0)
        step, residual = step + length * direction, residual - length * product
        scaled = precondition(residual)
        previous, error = error, dot(residual, scaled)
        direction = scaled + torch.where(length > 0, error / previous, 0.0) * direction
    return step
