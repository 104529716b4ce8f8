"""Selection of runs by status: which trials a comparison counts, and which of their values are outcomes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import pandas as pd

from analysis.convergence import ended
from analysis.data.baselines import are_baselines
from analysis.data.frames import NOT_ENDED
from analysis.data.tables import LAST
from analysis.records import FAILED, FINISHED, STOPPED
from trainables.errors import UserError

_IDENTITY = ["trial_id", "phase", "task", "cell", "seed"]
_LEVELS = ("/chance", "/largest_class")
_STOPPED = "stopped early for its values: whether it would have converged is unknown"
_SURVIVOR = "trained with trials that were stopped for their values: those allowed to finish are a selection"


def outcomes(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the runs that have ended, with a new index and a column `value`.

    A trial counts as failed if its status is FAILED, whatever it reported before, or if it has no finite value.

    Args:
        runs: Runs of a study.
        metric: A numeric column of `runs`.

    Returns:
        `runs` without running and killed trials; `value` is float64, NaN for a trial that failed.

    Raises:
        UserError: If `metric` is not a numeric column of `runs`; the message names those that are.
    """
    if metric not in runs or not pd.api.types.is_numeric_dtype(runs[metric]):
        known = [name for name in runs if name.startswith((LAST, "probe/")) and not name.endswith(_LEVELS)]
        raise UserError(
            f"no metric {metric!r} in these runs; there are: {', '.join(known) or 'none'} "
            f"(analysis.data.tables.last_values adds the columns {LAST}METRIC)"
        )
    ended = runs.loc[~runs["status"].isin(NOT_ENDED)].reset_index(drop=True)
    value = ended[metric].to_numpy(np.float64, na_value=np.nan)
    usable = np.isfinite(value) & (ended["status"] != FAILED).to_numpy(bool)
    return ended.assign(value=np.where(usable, value, np.nan))


def finished_values(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """Return a metric of the finished trials, float64 [N]; NaN for all others, whatever they had reported.

    A frame without a column `status` has finished trials only.
    """
    value = runs[metric].to_numpy(np.float64, na_value=np.nan)
    finished = (runs["status"] == FINISHED).to_numpy(bool) if "status" in runs else np.ones(len(runs), dtype=bool)
    return np.where(np.isfinite(value) & finished, value, np.nan)


def fixed_budget(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that convergence rates count: trained, ended, and never at risk of an early stop.

    Baselines and probes of finished encoders do not train and are left out, as are the trials that `left_out` lists. A
    FAILED trial is kept: it did not converge within its budget.

    Raises:
        UserError: If a column is missing, or no run remains.
    """
    require_columns(runs, [*_IDENTITY, "status", "budget_steps", "init_from"], "runs")
    kept = pretext_runs(runs)
    missing = left_out(runs)
    kept = kept.loc[~kept["trial_id"].isin(missing["trial_id"])]
    if kept.empty:
        why = f": {len(missing)} left out, {missing['why'].iloc[0]}" if len(missing) else ""
        raise UserError(f"no trial that trained to a fixed budget in these runs{why}; pass those of the ablate phase")
    return kept


def left_out(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the trained trials that convergence rates do not count: trial_id, phase, task, cell, seed, status, why.

    A stop by a scheduler is informative censoring: the trial was stopped because of its values. The survival of the
    other trials is informative for the same reason, so all trials of a phase and task with a stop are left out
    together.
    """
    trained = pretext_runs(runs)
    stops = (trained["status"] == STOPPED).groupby([trained["phase"], trained["task"]]).transform("any")
    why = pd.Series("", trained.index, dtype="str")
    why[stops.to_numpy(bool)] = _SURVIVOR
    ended = trained["status"].isin([FINISHED, FAILED, STOPPED])
    why[~ended] = "has not ended: " + trained.loc[~ended, "status"]
    why[trained["status"] == STOPPED] = _STOPPED
    return trained.assign(why=why).loc[why != "", [*_IDENTITY, "status", "why"]].reset_index(drop=True)


def pretext_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that trained a pretext task: without baselines and probes of finished encoders."""
    trains = runs["init_from"].isna() | (runs["init_from"] == "")  # CSV has no empty text
    return runs.loc[~are_baselines(runs["task"]) & trains & (runs["budget_steps"] > 0)]


def ended_runs(runs: pd.DataFrame, verdicts: pd.DataFrame, wanted: Collection[str]) -> pd.Series:
    """Return whether each run ended with one of some verdicts, as boolean indexed like `runs`; NA where that is open.

    Args:
        runs: Runs of trials that trained.
        verdicts: Frame with the `trial_id` and `verdict` of each of them, and what undecided ones leave `possible`.
        wanted: Names of verdicts.

    Raises:
        UserError: If a column of `verdicts` is missing, a run has no verdict, or a wanted name is unknown.
    """
    return ended(_verdicts_of(runs, verdicts, "verdict"), wanted).set_axis(runs.index)


def runs_that_left_chance(runs: pd.DataFrame, verdicts: pd.DataFrame) -> pd.Series:
    """Return whether each run left chance, as boolean indexed like `runs`; NA where that is open.

    Args:
        runs: Runs of trials that trained.
        verdicts: Frame with the `trial_id` and `left_chance` of each of them.

    Raises:
        UserError: If a column of `verdicts` is missing, or a run has no verdict.
    """
    return _verdicts_of(runs, verdicts, "left_chance")["left_chance"].astype("boolean").set_axis(runs.index)


def _verdicts_of(runs: pd.DataFrame, verdicts: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the row of `verdicts`, which needs a column, of each run."""
    require_columns(verdicts, ["trial_id", column], "verdicts")
    found = verdicts.drop_duplicates("trial_id").set_index("trial_id")
    missing = ~runs["trial_id"].isin(found.index)
    if missing.any():
        first = runs.loc[missing, "trial_id"].iloc[0]
        raise UserError(
            f"{missing.sum()} of {len(runs)} trials have no verdict, the first is {first}; "
            "compute the verdicts from the same runs: verdicts(runs, curves)"
        )
    return found.loc[runs["trial_id"]]


def require_columns(frame: pd.DataFrame, names: Iterable[str], what: str) -> None:
    """Raise UserError if a frame, which the message calls `what`, lacks one of the columns."""
    if missing := [name for name in names if name not in frame]:
        raise UserError(f"{what} has no column {', '.join(missing)}; its columns are in analysis/data/frames.py")
