"""`verdicts`: one verdict a trial."""

from __future__ import annotations

import pandas as pd

from analysis.convergence.breakdowns import collapsed, diverged, failed, forgotten
from analysis.convergence.cures import cure
from analysis.convergence.curves import Trial
from analysis.convergence.finding import Finding
from analysis.convergence.guessing import at_chance
from analysis.convergence.reading import trials
from analysis.convergence.trends import converged, overfit, still_improving
from trainables.errors import UserError

RULES = (diverged, failed, collapsed, at_chance, forgotten, overfit, still_improving, converged)
COLUMNS = ("trial_id", "verdict", "evidence", "cure")
_NEEDED = {
    "runs": ("trial_id", "task", "status", "primary_metric", "primary_mode"),
    "curves": ("trial_id", "step", "metric", "value"),
}


def verdicts(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Return trial_id, verdict, evidence, cure (str), one row for each trial that trained, in the order of `runs`.

    verdict: one of VERDICTS, by the first rule that finds something. A trial that was stopped, or still runs, gets
        that of what it has.
    evidence: the numbers that the verdict rests on. cure: what to change, and from what.
    Baselines and trials that only probe another's encoder have none, nor has a trial without a report after step 0,
    unless it failed.

    Raises UserError where a frame lacks a column that the verdicts rest on.
    """
    for name, frame in (("runs", runs), ("curves", curves)):
        if missing := [column for column in _NEEDED[name] if column not in frame]:
            raise UserError(f"{name} has no column {', '.join(missing)}; pass the frames of analysis.load")
    rows = [
        (str(trial.row["trial_id"]), found.verdict, found.evidence, cure(found, trial))
        for trial in trials(runs, curves)
        for found in (judge(trial),)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype="str")


def judge(trial: Trial) -> Finding:
    """Return the finding of the first rule that finds something."""
    return next(found for rule in RULES if (found := rule(trial)) is not None)
