"""How many workers can have an amount of a resource at once."""

from __future__ import annotations

from trainables.devices import GPU_RESOURCE

_ROUNDING = 1e-6  # three workers of a third of a GPU each must fit despite rounding


def n_sharing(name: str, available: float, amount: float) -> int:
    """Return how many workers can have an amount of a resource at once; a fraction of a GPU is on one GPU.

    Args:
        name: Ray's name for the resource.
        available: Amount that there is.
        amount: Amount for each worker.
    """
    if name == GPU_RESOURCE and amount < 1:
        return int(available) * int(1 / amount + _ROUNDING)
    return int(available / amount + _ROUNDING)
