"""Convergence verdicts: whether each trial converged, and otherwise why not and what would cure it."""

from analysis.convergence.classify import verdicts
from analysis.convergence.registry import CATALOG, VERDICTS

__all__ = ["CATALOG", "VERDICTS", "verdicts"]
