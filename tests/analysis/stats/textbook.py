"""Statistics by the formulas of textbooks, for balanced designs."""

from __future__ import annotations

import numpy as np


def textbook_f(values: np.ndarray) -> dict[str, np.ndarray]:
    """Return F [M] of a balanced split plot by the textbook. values: [M, tasks, cells, seeds]."""
    n_tasks, n_cells, n = values.shape[1:]
    grand = values.mean(axis=(1, 2, 3), keepdims=True)
    task, cell = values.mean(axis=(2, 3), keepdims=True), values.mean(axis=(1, 3), keepdims=True)
    both, seed = values.mean(axis=3, keepdims=True), values.mean(axis=2, keepdims=True)

    def mean_square(part: np.ndarray, df: int) -> np.ndarray:
        return (np.broadcast_to(part, values.shape) ** 2).sum(axis=(1, 2, 3)) / df

    residual = mean_square(values - both - seed + task, n_tasks * (n - 1) * (n_cells - 1))
    return {
        "task": mean_square(task - grand, n_tasks - 1) / mean_square(seed - task, n_tasks * (n - 1)),
        "cell": mean_square(cell - grand, n_cells - 1) / residual,
        "task:cell": mean_square(both - task - cell + grand, (n_tasks - 1) * (n_cells - 1)) / residual,
        "task over the residual": mean_square(task - grand, n_tasks - 1) / residual,
    }
