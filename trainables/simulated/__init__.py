"""Simulated trials of known truth: whole studies in seconds, and curves for every verdict.

data.py stands in for data sets, truth.py declares what is true, courses.py says how far a trial of each kind has come
at every moment, curves.py what a Monitor sees of it, outcomes.py draws what becomes of a trial, and trainable.py makes
its reports. `python study/run.py PRESET --simulate` runs a study on it.
"""

from trainables.simulated.data import load_splits
from trainables.simulated.outcomes import expected, kind
from trainables.simulated.trainable import evaluate, fit
from trainables.simulated.truth import TRUTH, Truth

__all__ = ["TRUTH", "Truth", "evaluate", "expected", "fit", "kind", "load_splits"]
