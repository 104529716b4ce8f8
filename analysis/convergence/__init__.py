"""Did a trial converge, and if not, why, and what cures it: one verdict a trial, with its evidence."""

from analysis.convergence.finding import VERDICTS
from analysis.convergence.judge import verdicts

__all__ = ["VERDICTS", "verdicts"]
