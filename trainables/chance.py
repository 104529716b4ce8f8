"""Time-uniform bounds: whether a metric is better than chance, valid however often it is looked at."""

from __future__ import annotations

import math

TIME_UNIFORM_ALPHA = 0.01  # error probability of one curve, over all its reports together


def clears_chance(
    value: float, chance: float, n: int, *, mode: str, standard_error: float | None = None, look: int = 1
) -> bool:
    """Return whether a metric is better than chance, beyond a time-uniform bound on the results of guessing.

    The bound on an accuracy is the Chernoff-Hoeffding bound on a binomial share, P(share >= q) <= exp(-n KL(q || p))
    (Hoeffding 1963, theorem 1). The bound on a loss is a one-sided Gaussian bound on its mean. Each look spends
    6 / (pi look)^2 of TIME_UNIFORM_ALPHA, so a network that guesses ever clears chance with at most that
    probability over all looks together, whatever their dependence.

    Args:
        value: The metric.
        chance: Chance level of the metric.
        n: Number of predictions behind an accuracy.
        mode: `max` for an accuracy, `min` for a loss.
        standard_error: Standard error of a loss. Without a finite one, a loss never clears chance.
        look: Number of reports examined so far, including this one.
    """
    if not math.isfinite(value):
        return False
    if mode == "max":
        return value > chance and n * _kl(value, chance) > _nats(look)
    if standard_error is None or not math.isfinite(standard_error):
        return False
    return value + math.sqrt(2 * _nats(look)) * standard_error < chance


def chance_bound(chance: float, n: int, *, mode: str, standard_error: float | None = None, look: int = 1) -> float:
    """Return the value beyond which `clears_chance` is true, for the same arguments; infinite if there is none."""
    if mode == "min":
        if standard_error is None or not math.isfinite(standard_error):
            return -math.inf
        return chance - math.sqrt(2 * _nats(look)) * standard_error
    low, high = chance, 1.0
    if not clears_chance(high, chance, n, mode=mode, look=look):
        return math.inf
    for _ in range(60):  # bisection; scipy is not available on every worker
        middle = (low + high) / 2
        low, high = (low, middle) if clears_chance(middle, chance, n, mode=mode, look=look) else (middle, high)
    return high


def _nats(look: int) -> float:
    """Return -ln of the error probability that one look spends."""
    return -math.log(TIME_UNIFORM_ALPHA * 6 / (math.pi * look) ** 2)


def _kl(q: float, p: float) -> float:
    """Return the Kullback-Leibler divergence of Bernoulli(q) from Bernoulli(p), in nats."""
    q = min(q, 1.0)
    low = 0.0 if q == 1 else (1 - q) * math.log((1 - q) / (1 - p))
    return q * math.log(q / p) + low
