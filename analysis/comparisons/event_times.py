"""Steps until a trial takes off or converges, with Kaplan-Meier curves and medians over seeds.

Times are steps of reports: an event at step t happened after the previous report, and at t at the latest. Curves are
therefore up to `report_every` steps late, by the same amount for all trials that report equally often.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.comparisons.selection import ended_runs, fixed_budget
from analysis.convergence import CONVERGED
from analysis.convergence.at_chance import measures, take_off
from analysis.convergence.curves import Curve, Trial
from analysis.convergence.reading import trials
from analysis.records import FAILED
from analysis.stats.survival import median_time, survival_curve
from trainables.errors import UserError

Event = Literal["left_chance", "converged"]
TOLERANCE = 2.0  # standard errors within which a value counts as the final one


def steps_to(
    runs: pd.DataFrame, curves: pd.DataFrame, event: Event = "left_chance", verdicts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return the step at which each fixed-budget trial had an event.

    Trials are censored only at the budget. A trial that failed or diverged before the event would not have had it
    within its budget, so it is censored there and not at its last report: that would assume that it could have
    continued like the others. Therefore 1 - survival at the budget equals the rate of `convergence_rates` for the same
    event, if of every trial it is known. `left_out` lists the excluded trials with reasons: a stop by a scheduler is
    informative.

    Args:
        runs: Runs of a study; those of `fixed_budget` count.
        curves: Reports of these trials.
        event: `left_chance` is the take-off: the first report by which every head is shown to have learned, as for the
            verdicts (`analysis.convergence.at_chance`): compared with chance or, if that is better, with the untrained
            network. `converged` is the first report from which the primary metric stays within TOLERANCE standard
            errors of its last value, for trials whose verdict is `converged`; trials that may have converged or not
            are left out, since nothing is known about their event.
        verdicts: As for `convergence_rates`; required for `converged` only.

    Returns:
        Columns trial_id, task, cell, seed, steps, observed. steps is int64. Without an event, observed is False and
        steps is the budget.

    Raises:
        UserError: If no trial trained to a fixed budget, or a curve, a level to compare it with, its noise or a verdict
            is missing.
    """
    kept = fixed_budget(runs)
    if event == "converged":
        if verdicts is None:
            raise UserError("event = 'converged' needs the verdicts: steps_to(runs, curves, 'converged', verdicts)")
        kept = kept.assign(converged=ended_runs(kept, verdicts, [CONVERGED])).dropna(subset="converged")
    elif event != "left_chance":
        raise UserError(f"event = {event!r}: it is 'left_chance' or 'converged'")
    event_step = _settled if event == "converged" else _take_off
    found = {trial.row["trial_id"]: trial for trial in trials(kept, curves)}
    steps = [_step(found.get(row.trial_id), row, event_step) for row in kept.itertuples()]
    observed = [step is not None for step in steps]
    censored_at = kept["budget_steps"].to_numpy(np.int64)
    times = kept[["trial_id", "task", "cell", "seed"]].reset_index(drop=True)
    times["steps"] = np.array([end if step is None else step for step, end in zip(steps, censored_at, strict=True)])
    return times.assign(steps=times["steps"].astype(np.int64), observed=np.array(observed, dtype=bool))


def kaplan_meier(times: pd.DataFrame) -> pd.DataFrame:
    """Return the `survival_curve` of each cell: the proportion of seeds without the event by step.

    Args:
        times: Frame that `steps_to` returns.

    Returns:
        Columns task, cell, step, survival, ci_low, ci_high, at_risk, events. The interval is NaN after a censoring,
        which happens if budgets differ within a cell.
    """
    rows = [
        {"task": task, "cell": cell, **row}
        for (task, cell), group in times.groupby(["task", "cell"], sort=False)
        for row in survival_curve(group["steps"].to_numpy(np.int64), group["observed"].to_numpy(bool)).to_dict(
            "records"
        )
    ]
    names = ["task", "cell", "step", "survival", "ci_low", "ci_high", "at_risk", "events"]
    return pd.DataFrame(rows, columns=names)


def median_steps(times: pd.DataFrame) -> pd.DataFrame:
    """Return the number of steps that half of the seeds need, with the interval of `median_time`.

    Args:
        times: Frame that `steps_to` returns.

    Returns:
        Columns task, cell, n_seeds, n_events, median, ci_low, ci_high; `inf` where a step is beyond the budget.
    """
    rows = []
    for (task, cell), curve in kaplan_meier(times).groupby(["task", "cell"], sort=False):
        rows.append((task, cell, curve["at_risk"].iloc[0], curve["events"].sum(), *median_time(curve)))
    names = ["task", "cell", "n_seeds", "n_events", "median", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=names)


def _step(trial: Trial | None, row: Any, event_step: Callable[[Trial, Curve], int | None]) -> int | None:
    """Return the step of a trial's event; None without it, as for a trial that failed before its first report."""
    curve = None if trial is None else trial.curves.get(row.primary_metric)
    if trial is None or curve is None or not len(curve.trained):
        if row.status == FAILED:
            return None
        raise UserError(f"trial {row.trial_id} has no curve of its primary metric {row.primary_metric!r}")
    return event_step(trial, curve)


def _take_off(trial: Trial, curve: Curve) -> int | None:
    known = [measure for head in trial.heads for measure in measures(head)]
    known = [measure for measure in known if not np.isnan([measure.chance, measure.untrained]).all()]
    if not known:
        raise UserError(f"trial {trial.row['trial_id']}: the chance level of {curve.metric} is missing")
    if all(np.isnan(measure.trained.errors).all() for measure in known):
        raise UserError(f"trial {trial.row['trial_id']}: {curve.metric}_se is not in the curves, so noise is unknown")
    return take_off(trial)


def _settled(trial: Trial, curve: Curve) -> int | None:
    if not trial.row["converged"]:
        return None
    seen = curve.trained
    error = float(seen.errors[-1])
    if math.isnan(error):
        raise UserError(f"trial {trial.row['trial_id']}: {curve.metric}_se is not in the curves, so noise is unknown")
    away = np.flatnonzero(~(np.abs(seen.values - seen.last) <= TOLERANCE * error))
    return int(seen.steps[away[-1] + 1 if len(away) else 0])
