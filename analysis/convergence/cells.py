"""Verdicts on cells: one from the curves of all seeds together, rather than a count of verdicts on single trials."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis import records
from analysis.convergence import collapsed, diverged, failed
from analysis.convergence.classify import classify, left_chance, possible
from analysis.convergence.curves import Curve, Head, Trial
from analysis.convergence.progress import SETTLED, seeds_scale
from analysis.convergence.reading import trials
from analysis.convergence.registry import CATALOG, Rules, rules_with
from analysis.data.frames import NOT_ENDED
from trainables.recent import quarters

CELL = ["phase", "task", "cell"]
COLUMNS = (*CELL, "n_seeds", "verdict", "possible", "left_chance", "n_verdict", "others", "evidence", "cure")
# Ends of training that a mean over seeds would hide; they are counted instead.
BROKEN = (failed.VERDICT.name, diverged.VERDICT.name, collapsed.VERDICT.name)


def cell_verdicts(runs: pd.DataFrame, curves: pd.DataFrame, plugins: Collection[str] = ()) -> pd.DataFrame:
    """Return the verdict on each cell that has several seeds.

    Where half of the seeds or more failed, diverged or collapsed, the most frequent of these verdicts is the cell's.
    Otherwise the curves of the other seeds are averaged and classified like one trial. The error of a mean counts the
    scatter between seeds and, once, the error that the validation images give each of them, since the seeds share them.

    Once two trials of a cell have ended, the verdict is on those that have: curves are averaged at the steps that all
    of them reported, so a trial that has just begun would hide the end of the others. The evidence counts the rest.

    Args:
        runs: One row per trial, as `analysis.load` returns it.
        curves: One row per reported value, as `analysis.load` returns it.
        plugins: See `verdicts`.

    Returns:
        One row per cell with phase, task, cell; n_seeds, the trials that the verdict is on; the verdict, the verdicts
        that are `possible`, left_chance (boolean), the evidence and the cure, see `verdicts`; n_verdict, how many of
        these trials have this verdict by themselves; and others, how many have each other verdict, as a dict. Where the
        seeds of a broken cell do not agree on left_chance, it is missing.
    """
    rows, rules = [], rules_with(plugins)
    of_cell: dict[tuple[str, ...], list[Trial]] = {}
    for trial in trials(runs, curves):
        of_cell.setdefault(tuple(str(trial.row.get(name, "")) for name in CELL), []).append(trial)
    for key, found in of_cell.items():
        if len(found) > 1:
            rows.append({**dict(zip(CELL, key, strict=True)), **_verdict(found, rules)})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"left_chance": "boolean"})


def _verdict(trained: Sequence[Trial], rules: Rules) -> dict[str, Any]:
    """Return the columns of one cell by name, without those that name the cell."""
    ended = [trial for trial in trained if trial.row["status"] not in NOT_ENDED]
    found = ended if len(ended) > 1 else trained
    single = [classify(trial, rules) for trial in found]
    names = [verdict.name for verdict, _ in single]
    order = list(CATALOG)
    counts = {
        name: names.count(name) for name in sorted(set(names), key=lambda name: (-names.count(name), order.index(name)))
    }
    broken = [name for name in counts if name in BROKEN]
    healthy = [trial for trial, name in zip(found, names, strict=True) if name not in BROKEN]
    if 2 * len(healthy) <= len(found):
        first = names.index(broken[0])
        (verdict, finding), trial = single[first], found[first]
        alike = [each for each, name in zip(found, names, strict=True) if name == verdict.name]
        evidence = finding.evidence if len(alike) == 1 else f"in one of them, {finding.evidence}"
        left = {left_chance(verdict, each) for each in alike}
    else:
        trial = pooled(healthy)
        verdict, finding = classify(trial, rules)
        left = {left_chance(verdict, trial)}
        evidence = f"{finding.evidence} (mean of {len(healthy)} seeds)"
    if len(ended) < len(trained):
        evidence += f"; {len(trained) - len(ended)} of {len(trained)} seeds not ended yet"
    cure = "; or ".join(verdict.remedies(finding, trial))
    return {
        "n_seeds": len(found),
        "verdict": verdict.name,
        "possible": possible(verdict, finding),
        "left_chance": left.pop() if len(left) == 1 else None,
        "n_verdict": counts.pop(verdict.name, 0),
        "others": counts,
        "evidence": evidence,
        "cure": cure,
    }


def pooled(found: Sequence[Trial]) -> Trial:
    """Return a trial whose curves are means over trials, at the steps that all of them reported."""
    names = [name for name in found[0].curves if all(name in trial.curves for trial in found)]
    curves = {name: _mean([trial.curves[name] for trial in found]) for name in names}
    heads = tuple(
        Head(curves[head.main.metric], curves.get(head.loss.metric) if head.loss is not None else None)
        for head in found[0].heads
        if head.main.metric in curves
    )
    statuses = (trial.row["status"] for trial in found)
    status = next((each for each in statuses if each != records.FINISHED), records.FINISHED)
    return Trial({**found[0].row, "status": status}, curves, heads)


def _mean(seeds: Sequence[Curve]) -> Curve:
    """Return the mean of one metric over seeds."""
    steps = seeds[0].steps
    for other in seeds[1:]:
        steps = np.intersect1d(steps, other.steps)
    aligned = [seed.where(np.isin(seed.steps, steps)) for seed in seeds]
    values = np.stack([seed.values for seed in aligned])
    gains = values - values[:, :1]
    recents = np.stack(
        [np.full(len(seeds), math.nan), *(_recent(values, steps, end) for end in range(1, len(steps)))], axis=1
    )
    return dataclasses.replace(
        aligned[0],
        values=values.mean(axis=0),
        errors=_error(values, [seed.errors for seed in aligned]),
        gain_errors=_error(gains, [seed.gain_errors for seed in aligned]),
        recent_errors=_error(recents, [seed.recent_errors for seed in aligned]),
        n=min(seed.n for seed in aligned),
        n_images=min(seed.n_images for seed in aligned),
        n_seeds=len(aligned),
    )


def _recent(values: np.ndarray, steps: np.ndarray, end: int) -> np.ndarray:
    """Return each seed's change from the second to the last quarter at report `end`, float64 [S]."""
    second, last = quarters(steps[: end + 1].tolist())
    return values[:, last].mean(axis=1) - values[:, second].mean(axis=1)


def _error(values: np.ndarray, errors: Sequence[np.ndarray]) -> np.ndarray:
    """Return the standard error of a mean over seeds at each report, float64 [k]; NaN where the images' is unknown.

    The seeds' part is scaled such that the quantile of the normal distribution, with which the rules multiply it,
    gives the bound of Student's t with S - 1 degrees of freedom at the level SETTLED. Bounds at higher levels are
    further apart, see `progress.Difference`.
    """
    count = len(values)
    seeds = values.var(axis=0, ddof=1) / count * seeds_scale(count, SETTLED) ** 2
    return np.sqrt(seeds + np.mean(np.square(errors), axis=0))
