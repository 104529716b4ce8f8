"""Verdict `failed`: an error ended the trial."""

from __future__ import annotations

from analysis import records
from analysis.convergence.curves import Trial
from analysis.convergence.verdict import Finding, Verdict


def find(trial: Trial) -> Finding | None:
    """Find the error that ended a trial."""
    if trial.row["status"] != records.FAILED:
        return None
    reason = str(trial.row.get("reason") or "").strip().splitlines()
    return Finding(f"failed after {trial.steps:,} steps: {reason[-1] if reason else 'no reason recorded'}")


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, likeliest first."""
    return ["read the traceback in the journal or in MLflow, fix what it names, and run the same command again"]


VERDICT = Verdict(
    "failed",
    meaning="an error ended the trial",
    verb="fails",
    letter="F",
    color="#303030",
    remedies=remedies,
)
