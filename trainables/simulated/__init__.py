"""Simulated trials whose true effects are known: whole studies in seconds, and learning curves for every verdict.

`python study/run.py PRESET --simulate` runs a study on them. `truth` declares the size of every effect and `response`
turns a trial's settings into what it learns. `trajectories` gives the noise-free progress and `curves` measures it
with noise; the rules of `analysis.convergence` are tested on `curves.draw_curve`. `outcomes` draws what happens to a
trial, `probe_results` its final results, and `expected` their means. `trainable` makes the reports and `data` the data
sets.
"""

from trainables.simulated.data import load_splits
from trainables.simulated.expected import expected_value
from trainables.simulated.outcomes import true_outcome
from trainables.simulated.trainable import evaluate, fit
from trainables.simulated.truth import TRUTH, Truth

__all__ = ["TRUTH", "Truth", "evaluate", "expected_value", "fit", "load_splits", "true_outcome"]
