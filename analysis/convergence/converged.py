"""Verdict `converged`: no other rule applies, and the curves are flat at the end."""

from __future__ import annotations

from analysis.convergence.changes import end_slope
from analysis.convergence.curves import Curve, Trial
from analysis.convergence.evidence import describe_slope, format_value
from analysis.convergence.still_improving import feature_curves
from analysis.convergence.verdict import Finding, Verdict


def find(trial: Trial) -> Finding:
    """Describe the flat end of every curve. This rule is tried last and always applies."""
    curves = [*(head.main for head in trial.heads), *feature_curves(trial)]
    return Finding("; ".join(_describe_end(curve.trained) for curve in curves if len(curve.trained)))


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the advice that takes the place of a cure."""
    return ["none: compare its probe with random_init's to see how good the features are"]


VERDICT = Verdict(
    "converged",
    meaning="none of the other verdicts applies, and the curves are flat at the end; how good the features are is "
    "another question",
    verb="converges",
    letter="✓",
    color="#029e73",
    remedies=remedies,
    learned=True,
)


def _describe_end(curve: Curve) -> str:
    slope = end_slope(curve)
    return f"{format_value(curve)} {describe_slope(slope) if slope else 'has too few reports to tell if it improved'}"
