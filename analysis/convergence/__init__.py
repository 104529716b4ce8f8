"""Convergence verdicts: whether each trial converged, and otherwise why not and what would cure it."""

from analysis.convergence.classify import verdicts
from analysis.convergence.registry import AT_CHANCE, CATALOG, CONVERGED, VERDICTS

__all__ = ["AT_CHANCE", "CATALOG", "CONVERGED", "VERDICTS", "verdicts"]
