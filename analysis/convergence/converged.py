"""Verdict `converged`: twice the steps would gain less than 5% of what was gained."""

from __future__ import annotations

from analysis.convergence.at_chance import compared
from analysis.convergence.changes import MATERIAL_SHARE
from analysis.convergence.curves import Curve, Trial
from analysis.convergence.evidence import format_value
from analysis.convergence.progress import recent_share
from analysis.convergence.still_improving import open_probes
from analysis.convergence.verdict import Finding, Verdict

MIN_REPORTS = 4  # after step 0; fewer do not show where a curve bends


def find(trial: Trial) -> Finding | None:
    """Find a trial all of whose heads learned and gain less than 5% from twice the steps, by an upper bound.

    A probe that may still improve leaves the trial undecided: features can get better after the loss is flat.
    """
    if not trial.heads or open_probes(trial):
        return None
    evidence = [_settled(head.main) for head in trial.heads]
    known = [each for each in evidence if each is not None]
    return Finding("; ".join(known)) if len(known) == len(evidence) else None


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the advice that takes the place of a cure."""
    return ["none: compare its probe with random_init's to see how good the features are"]


VERDICT = Verdict(
    "converged",
    meaning=f"twice the steps would gain less than {MATERIAL_SHARE:.0%} of what was gained; how good the features are "
    "is another question",
    verb="converges",
    letter="✓",
    color="#029e73",
    remedies=remedies,
)


def _settled(curve: Curve) -> str | None:
    """Return the evidence that a metric learned and has no more than 5% to gain; None if it is not shown."""
    seen, share = curve.finite, recent_share(curve)
    if share is None or len(seen.trained) < MIN_REPORTS or not share.upper < MATERIAL_SHARE:
        return None
    if not compared(seen, len(seen) - 1).shown(len(seen.trained)):
        return None
    return f"{format_value(curve)}: twice the steps would add at most {max(0.0, share.upper):.1%} of its gain"
