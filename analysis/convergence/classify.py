"""Classification of trials: one verdict per trial."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from analysis.convergence import at_chance, failed
from analysis.convergence.curves import Trial
from analysis.convergence.reading import trials
from analysis.convergence.registry import CATALOG, RULES, UNDECIDED, Rules, rules_with
from analysis.convergence.verdict import OR, Finding, Verdict
from trainables.errors import UserError

DTYPES = {
    **dict.fromkeys(("trial_id", "verdict", "possible"), "str"),
    "left_chance": "boolean",
    **dict.fromkeys(("evidence", "cure"), "str"),
}
_NEEDED = {
    "runs": ("trial_id", "task", "status", "primary_metric", "primary_mode"),
    "curves": ("trial_id", "step", "metric", "value"),
}


def verdicts(runs: pd.DataFrame, curves: pd.DataFrame, plugins: Collection[str] = ()) -> pd.DataFrame:
    """Return the verdict on each trial that trained, in the order of `runs`.

    Baselines and trials that only probe another trial's encoder get no verdict. Neither does a trial without a report
    after step 0, unless it failed. A trial that was stopped, or is still running, is classified by its reports so far.

    Args:
        runs: One row per trial, as `analysis.load` returns it.
        curves: One row per reported value, as `analysis.load` returns it.
        plugins: Names of plug-ins whose rules are tried, too, as in `Study.plugins`.

    Returns:
        One row per trial, with the columns DTYPES. `verdict` is one of CATALOG, by the first rule that finds something.
        `possible` names the verdicts that the numbers leave possible, joined by OR: those of an undecided trial; the
        verdict alone; or the verdict and `at_chance`, where the trial is not shown to have left chance. `left_chance`
        says whether the trial left chance, see `left_chance`. `evidence` has the numbers that the verdict is based on.
        `cure` says what to change, and from what value.

    Raises:
        UserError: If a frame lacks a column that the verdicts need.
    """
    for name, frame in (("runs", runs), ("curves", curves)):
        if missing := [column for column in _NEEDED[name] if column not in frame]:
            raise UserError(f"{name} has no column {', '.join(missing)}; pass the frames of analysis.load")
    rows, rules = [], rules_with(plugins)
    for trial in trials(runs, curves):
        verdict, finding = classify(trial, rules)
        cure = "; or ".join(verdict.remedies(finding, trial))
        ends = (verdict.name, possible(verdict, finding), left_chance(verdict, trial))
        rows.append((str(trial.row["trial_id"]), *ends, finding.evidence, cure))
    return pd.DataFrame(rows, columns=list(DTYPES)).astype(DTYPES)


def classify(trial: Trial, rules: Rules = RULES) -> tuple[Verdict, Finding]:
    """Return the verdict of the first rule that finds something, with its finding."""
    return next((verdict, finding) for verdict, rule in rules if (finding := rule(trial)) is not None)


def possible(verdict: Verdict, finding: Finding) -> str:
    """Return the value of the column `possible`."""
    return OR.join(finding.possible or (verdict.name,))


def left_chance(verdict: Verdict, trial: Trial) -> bool | None:
    """Return whether a trial left chance by its curves, however training ended; None where they leave that open.

    A trial that failed did not leave chance within its budget, whatever it had learned before.
    """
    if verdict is failed.VERDICT:
        return False
    if at_chance.left_chance(trial):
        return True
    return None if at_chance.find(trial) is None else False


def ended(verdicts: pd.DataFrame, wanted: Collection[str]) -> pd.Series:
    """Return whether each trial ended with one of some verdicts, as boolean; NA where its numbers leave that open.

    A trial is known to have ended so if every verdict that its numbers leave possible is wanted, and known not to have
    if none is.

    Args:
        verdicts: Frame with the columns verdict and `possible`; without the latter, an undecided trial may be anything.
        wanted: Names of verdicts.

    Raises:
        UserError: If a wanted name is not one of CATALOG.
    """
    if unknown := sorted(set(wanted) - set(CATALOG)):
        raise UserError(f"unknown verdicts: {', '.join(unknown)}; verdicts are {', '.join(CATALOG)}")
    left_open = verdicts["possible"] if "possible" in verdicts else verdicts["verdict"]
    names = [[*CATALOG] if name == UNDECIDED else str(name).split(OR) for name in left_open]
    answers = [{name in wanted for name in each} for each in names]
    known = [each.pop() if len(each) == 1 else None for each in answers]
    return pd.Series(known, verdicts.index, dtype="boolean")
