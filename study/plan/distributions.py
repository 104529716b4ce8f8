"""Domains of a search space as Optuna's distributions, for the search and for its export."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from search_spaces import Choice, Domain, LogUniform, Uniform


def distribution(domain: Domain) -> BaseDistribution:
    """Return the distribution that is equivalent to `domain`."""
    match domain:
        case Uniform():
            return FloatDistribution(domain.low, domain.high)
        case LogUniform():
            return FloatDistribution(domain.low, domain.high, log=True)
        case Choice():
            return CategoricalDistribution(domain.values)
    raise TypeError(f"{type(domain).__name__}: has no equivalent in Optuna")
