"""Is a metric still at chance? Bounds that hold however often one looks."""

from __future__ import annotations

import math

ALPHA = 0.01


def clears_chance(
    value: float, chance: float, n: int, *, mode: str, standard_error: float | None = None, look: int = 1
) -> bool:
    """Return whether `value` is better than `chance` beyond what guessing would ever show.

    An accuracy (mode `max`) of n predictions is held against the Chernoff-Hoeffding bound on a binomial share,
    P(share >= q) <= exp(-n KL(q || p)) (Hoeffding 1963, theorem 1); a loss (mode `min`) against a one-sided Gaussian
    bound on its mean with the given standard error.
    look: how many reports have been looked at. Each look spends 6 / (pi look)^2 of ALPHA, so the chance that guessing
        ever seems better than guessing is at most ALPHA over all looks together, whatever their dependence.
    """
    if not math.isfinite(value):
        return False
    if mode == "max":
        return value > chance and n * _kl(value, chance) > _nats(look)
    if standard_error is None or not math.isfinite(standard_error):
        return False
    return value + math.sqrt(2 * _nats(look)) * standard_error < chance


def chance_bound(chance: float, n: int, *, mode: str, standard_error: float | None = None, look: int = 1) -> float:
    """Return the value from which on `clears_chance` holds, arguments as there; infinite where no value would do."""
    if mode == "min":
        if standard_error is None or not math.isfinite(standard_error):
            return -math.inf
        return chance - math.sqrt(2 * _nats(look)) * standard_error
    low, high = chance, 1.0
    if not clears_chance(high, chance, n, mode=mode, look=look):
        return math.inf
    for _ in range(60):  # halvings; a GPU machine has no scipy to find the root
        middle = (low + high) / 2
        low, high = (low, middle) if clears_chance(middle, chance, n, mode=mode, look=look) else (middle, high)
    return high


def _nats(look: int) -> float:
    """Return -ln of the error probability that one look may spend."""
    return -math.log(ALPHA * 6 / (math.pi * look) ** 2)


def _kl(q: float, p: float) -> float:
    """Return the Kullback-Leibler divergence of Bernoulli(q) from Bernoulli(p), in nats."""
    q = min(q, 1.0)
    low = 0.0 if q == 1 else (1 - q) * math.log((1 - q) / (1 - p))
    return q * math.log(q / p) + low
