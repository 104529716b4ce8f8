"""Convergence verdicts: whether each trial converged, and otherwise why not and what would cure it."""

from analysis.convergence.cells import cell_verdicts
from analysis.convergence.classify import ended, verdicts
from analysis.convergence.curves import Trial
from analysis.convergence.registry import (
    AT_CHANCE,
    CATALOG,
    CONVERGED,
    STILL_IMPROVING,
    UNDECIDED,
    VERDICTS,
    register_verdict,
)
from analysis.convergence.verdict import Finding, Verdict

__all__ = [
    "AT_CHANCE",
    "CATALOG",
    "CONVERGED",
    "STILL_IMPROVING",
    "UNDECIDED",
    "VERDICTS",
    "Finding",
    "Trial",
    "Verdict",
    "cell_verdicts",
    "ended",
    "register_verdict",
    "verdicts",
]
