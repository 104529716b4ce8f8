"""Convergence verdicts: whether each trial converged, and otherwise why not and what would cure it."""

from analysis.convergence.cells import cell_verdicts
from analysis.convergence.classify import ended, verdicts
from analysis.convergence.registry import AT_CHANCE, CATALOG, CONVERGED, STILL_IMPROVING, UNDECIDED, VERDICTS

__all__ = [
    "AT_CHANCE",
    "CATALOG",
    "CONVERGED",
    "STILL_IMPROVING",
    "UNDECIDED",
    "VERDICTS",
    "cell_verdicts",
    "ended",
    "verdicts",
]
