"""After how many steps does a trial take off, or converge? Kaplan-Meier over seeds, with exact intervals.

Times are those of reports: an event at step t happened after the report before t, and at t at the latest. Curves are
so up to `report_every` steps late, all alike where trials report as often; nothing finer can be known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
from statsmodels.duration.survfunc import SurvfuncRight

from analysis.data.tables import is_accuracy
from analysis.records import FAILED
from analysis.stats.rates import exact_interval, fixed_budget
from trainables.chance import clears_chance
from trainables.errors import UserError

Event = Literal["clears_chance", "converged"]
TOLERANCE = 2.0  # standard errors of the metric that still count as its final value

_ROUNDING = 1e-9  # of a survival that is a product of shares


def steps_to(
    runs: pd.DataFrame, curves: pd.DataFrame, event: Event = "clears_chance", verdicts: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Return when each fixed-budget trial had its event: trial_id, task, cell, seed, steps, observed.

    event: `clears_chance`, take-off: the first report whose primary metric `trainables.chance.clears_chance` tells from
        chance, as a study's own patience counts its looks, the untrained network not among them (SimCLR's may stand
        beyond chance already: it tells views apart by their colors).
        `converged`: the first report from which on the primary metric stays within TOLERANCE standard errors of its
        last value, for trials whose verdict is `converged`.
    verdicts: trial_id and verdict of every trial; wanted for the event `converged` alone.
    steps: int64, steps of that report; where there was none, observed is False and steps is the budget.

    All censoring is at the budget. A trial that failed or diverged without the event would not have had it by the end
    of its budget: it is held as censored there, not at its last report, which would pretend that it might as well have
    gone on as the others did. So 1 - survival at the budget is the rate of `convergence_rates`, where the events agree.
    Which trials are left out, and why, is told by `analysis.stats.rates.left_out`: a stop by a scheduler is informative.

    Raises UserError where no trial trained to a fixed budget, and where chance, the standard error of a loss, a curve
    or a verdict is missing.
    """
    kept = fixed_budget(runs)
    if event == "converged":
        kept = kept.assign(converged=_converged(kept, verdicts))
    elif event != "clears_chance":
        raise UserError(f"event = {event!r}: it is 'clears_chance' or 'converged'")
    find = _settled if event == "converged" else _take_off
    steps = [find(row, reports) for row, reports in _reports(kept, curves)]
    observed = [step is not None for step in steps]
    censored_at = kept["budget_steps"].to_numpy(np.int64)
    times = kept[["trial_id", "task", "cell", "seed"]].reset_index(drop=True)
    times["steps"] = np.array([end if step is None else step for step, end in zip(steps, censored_at, strict=True)])
    return times.assign(steps=times["steps"].astype(np.int64), observed=np.array(observed, dtype=bool))


def kaplan_meier(times: pd.DataFrame) -> pd.DataFrame:
    """Return the share of seeds still without the event: task, cell, step, survival, ci_low, ci_high, at_risk, events.

    times: what `steps_to` gives. Rows: step 0, each step with an event, and the last step that anybody reached; the
    curve is flat in between. at_risk: trials just before the step; events: those that had theirs at it.
    survival: P(T > step) by Kaplan and Meier (1958).
    ci_low, ci_high: 95 % for each step by itself. As long as nobody was censored before, survival is a binomial share
        and the interval is the exact one of Clopper and Pearson (1934), which covers at least 95 % at any number of
        seeds. The usual log-log interval has no value at 0 and 1, that is, in 17 % of cases at 5 seeds and a survival
        of 0.7, and covers 80, 88 and 92 % with 5, 8 and 10 seeds there. NaN after a censoring: where budgets differ
        within a cell.
    """
    rows = [
        {"task": task, "cell": cell, **row}
        for (task, cell), group in times.groupby(["task", "cell"], sort=False)
        for row in _survival(group["steps"].to_numpy(np.int64), group["observed"].to_numpy(bool))
    ]
    names = ["task", "cell", "step", "survival", "ci_low", "ci_high", "at_risk", "events"]
    return pd.DataFrame(rows, columns=names)


def median_steps(times: pd.DataFrame) -> pd.DataFrame:
    """Return the steps that half of the seeds need: task, cell, n_seeds, n_events, median, ci_low, ci_high.

    median: first step at which at least half have had their event; inf where that lies beyond the budget.
    ci_low, ci_high: the steps at which the interval of `kaplan_meier` holds a half (Brookmeyer and Crowley 1982), at
        least 95 %. With fewer than 6 seeds that is 0 to inf: they cannot bound a median.
    """
    rows = []
    for (task, cell), curve in kaplan_meier(times).groupby(["task", "cell"], sort=False):
        median = _first(curve["step"], curve["survival"] <= 0.5 + _ROUNDING)
        low = _first(curve["step"], ~(curve["ci_low"] > 0.5))  # a missing bound excludes nothing
        high = _first(curve["step"], curve["ci_high"] < 0.5)
        rows.append((task, cell, curve["at_risk"].iloc[0], curve["events"].sum(), median, low, high))
    names = ["task", "cell", "n_seeds", "n_events", "median", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=names)


def _converged(kept: pd.DataFrame, verdicts: pd.DataFrame | None) -> pd.Series:
    if verdicts is None:
        raise UserError("event = 'converged' needs the verdicts: steps_to(runs, curves, 'converged', verdicts)")
    verdict = kept["trial_id"].map(verdicts.drop_duplicates("trial_id").set_index("trial_id")["verdict"])
    if verdict.isna().any():
        first = kept.loc[verdict.isna(), "trial_id"].iloc[0]
        raise UserError(f"{verdict.isna().sum()} trials have no verdict, the first is {first}; make them of these runs")
    return verdict == "converged"


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
        share = (final * row.n_validation + 2) / (row.n_validation + 4)  # a share of 1 has an error too (Agresti 1998)
        error = math.sqrt(share * (1 - share) / row.n_validation)
    if math.isnan(error):
        raise UserError(f"trial {row.trial_id}: {row.primary_metric}_se is not in the curves, so noise is unknown")
    away = np.flatnonzero(~(np.abs(values - final) <= TOLERANCE * error))
    return int(reports["step"].iloc[away[-1] + 1 if len(away) else 0])


def _survival(steps: np.ndarray, observed: np.ndarray) -> list[dict[str, float]]:
    n = len(steps)
    fit = SurvfuncRight(steps, observed)
    event_steps, survival = np.asarray(fit.surv_times, np.int64), np.asarray(fit.surv_prob, np.float64)
    at = np.unique(np.concatenate([[0], event_steps, [steps.max()]]))
    index = np.searchsorted(event_steps, at, side="right")
    had = np.array([(observed & (steps <= step)).sum() for step in at])
    low, high = exact_interval(pd.Series(n - had), pd.Series(np.full(len(at), n)))
    binomial = np.array([not (~observed & (steps < step)).any() for step in at])
    columns = {
        "step": at,
        "survival": np.concatenate([[1.0], survival])[index],
        "ci_low": np.where(binomial, low, np.nan),
        "ci_high": np.where(binomial, high, np.nan),
        "at_risk": np.array([(steps >= step).sum() for step in at]),
        "events": np.diff(np.concatenate([[0], had])),
    }
    return pd.DataFrame(columns).to_dict("records")


def _first(steps: pd.Series, found: pd.Series) -> float:
    return float(steps[found].min()) if found.any() else math.inf
