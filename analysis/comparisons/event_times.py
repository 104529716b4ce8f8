"""Steps until a trial takes off or converges, with Kaplan-Meier curves and medians over seeds.

Times are steps of reports: an event at step t happened after the previous report, and at t at the latest. Curves are
therefore up to `report_every` steps late, by the same amount for all trials that report equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from analysis.comparisons.selection import ended_runs, fixed_budget
from analysis.convergence import CONVERGED
from analysis.data.tables import is_accuracy
from analysis.records import FAILED
from analysis.stats.survival import median_time, survival_curve
from trainables.chance import clears_chance
from trainables.errors import UserError

Event = Literal["clears_chance", "converged"]
TOLERANCE = 2.0  # standard errors within which a value counts as the final one


def steps_to(
    runs: pd.DataFrame, curves: pd.DataFrame, event: Event = "clears_chance", verdicts: pd.DataFrame | None = None
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
        event: `clears_chance` is the take-off: the first report after step 0 whose primary metric
            `trainables.chance.clears_chance` distinguishes from chance, with looks counted as a study's own stopping
            rule counts them. (At step 0, an untrained SimCLR network may already beat chance, because colors
            distinguish views.) `converged` is the first report from which the primary metric stays within TOLERANCE
            standard errors of its last value, for trials whose verdict is `converged`; trials that may have converged
            or not are left out, since nothing is known about their event.
        verdicts: As for `convergence_rates`; required for `converged` only.

    Returns:
        Columns trial_id, task, cell, seed, steps, observed. steps is int64. Without an event, observed is False and
        steps is the budget.

    Raises:
        UserError: If no trial trained to a fixed budget, or chance, the standard error of a loss, a curve or a verdict
            is missing.
    """
    kept = fixed_budget(runs)
    if event == "converged":
        if verdicts is None:
            raise UserError("event = 'converged' needs the verdicts: steps_to(runs, curves, 'converged', verdicts)")
        kept = kept.assign(converged=ended_runs(kept, verdicts, [CONVERGED])).dropna(subset="converged")
    elif event != "clears_chance":
        raise UserError(f"event = {event!r}: it is 'clears_chance' or 'converged'")
    event_step = _settled if event == "converged" else _take_off
    steps = [event_step(row, reports) for row, reports in _reports(kept, curves)]
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


def _reports(kept: pd.DataFrame, curves: pd.DataFrame) -> Iterator[tuple[Any, pd.DataFrame]]:
    """Yield each trial's row and its reports after step 0: step, value, error (standard error, NaN where unknown)."""
    points = curves.loc[curves["step"] > 0].merge(kept[["trial_id", "primary_metric"]], on="trial_id")
    errors = points.loc[points["metric"] == points["primary_metric"] + "_se", ["trial_id", "step", "value"]]
    points = points.loc[points["metric"] == points["primary_metric"], ["trial_id", "step", "value"]]
    points = points.merge(errors.rename(columns={"value": "error"}), on=["trial_id", "step"], how="left")
    by_trial = dict(iter(points.sort_values("step").groupby("trial_id")))
    for row in kept.itertuples():
        reports = by_trial.get(row.trial_id, points.iloc[:0])
        if reports.empty and row.status != FAILED:
            raise UserError(f"trial {row.trial_id} has no curve of its primary metric {row.primary_metric!r}")
        yield row, reports


def _take_off(row: Any, reports: pd.DataFrame) -> int | None:
    if reports.empty:
        return None
    by_share = row.primary_mode == "max"
    if pd.isna(row.chance) or (by_share and pd.isna(row.n_validation)):
        raise UserError(f"trial {row.trial_id}: the chance level of {row.primary_metric}, or n_validation, is missing")
    if not by_share and reports["error"].isna().all():
        raise UserError(f"trial {row.trial_id}: {row.primary_metric}_se is not in the curves, so noise is unknown")
    n = int(row.n_validation) if by_share else 0
    for look, report in enumerate(reports.itertuples(), start=1):
        error = report.error
        if clears_chance(report.value, row.chance, n, mode=row.primary_mode, standard_error=error, look=look):
            return int(report.step)
    return None


def _settled(row: Any, reports: pd.DataFrame) -> int | None:
    if not row.converged:
        return None
    values, final = reports["value"].to_numpy(), reports["value"].iloc[-1]
    error = reports["error"].iloc[-1]
    if math.isnan(error) and is_accuracy(row.primary_metric) and not pd.isna(row.n_validation):
        share = (final * row.n_validation + 2) / (row.n_validation + 4)  # not 0 for an accuracy of 1 (Agresti 1998)
        error = math.sqrt(share * (1 - share) / row.n_validation)
    if math.isnan(error):
        raise UserError(f"trial {row.trial_id}: {row.primary_metric}_se is not in the curves, so noise is unknown")
    away = np.flatnonzero(~(np.abs(values - final) <= TOLERANCE * error))
    return int(reports["step"].iloc[away[-1] + 1 if len(away) else 0])
