"""Bounds on the error rates that simulations measure."""

from __future__ import annotations

from scipy.stats import binom


def at_most(rate: float, n: int) -> float:
    """Return the share that a rate of at most `rate` stays below in n simulations, but once in 30,000 times."""
    return float(binom.ppf(1 - 1 / 30_000, n, rate) / n)
