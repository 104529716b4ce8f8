"""Conversion of frames to trials: which trials trained, their curves and their heads."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.integrate import cumulative_trapezoid

from analysis import records
from analysis.convergence.curves import Curve, Head, Mode, Trial, number
from analysis.data.baselines import are_baselines

Points = Mapping[str, tuple[np.ndarray, np.ndarray]]  # metric -> (steps, values)

SE, GAIN_SE, RECENT_SE = "_se", "_gain_se", "_recent_se"
# Most images that an online probe classifies: PROBE_QUERIES of trainables.training.monitor, which imports torch.
MAX_PROBE_QUERIES = 1000
_LOSS = re.compile(r"(train|val)/loss")
_HEAD = re.compile(r"val/(?P<kind>accuracy|loss)(?P<head>.*)")
_USED_PREFIXES = ("train/", "val/", "health/", "probe/", "lr")


def trials(runs: pd.DataFrame, curves: pd.DataFrame) -> Iterator[Trial]:
    """Yield the trials of `runs` that trained: those that reported after step 0, and those that failed earlier.

    Baselines and trials that only probe another trial's encoder (`init_from`) do not train and are skipped.
    """
    points = _points(curves)
    candidates = runs.loc[~are_baselines(runs["task"])]
    if "init_from" in candidates:
        candidates = candidates.loc[candidates["init_from"].fillna("") == ""]
    for row in candidates.to_dict("records"):
        trial = _trial(row, points.get(row["trial_id"], {}))
        if trial.steps > 0 or row["status"] == records.FAILED:
            yield trial


def _points(curves: pd.DataFrame) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Return {trial_id: {metric: (steps, values)}} of the metrics that the rules use, sorted by step.

    One sort and one split: a pivot of a thousand runs takes seconds, and confuses reported NaN with gaps.
    """
    names = pd.Series(curves["metric"].unique())
    curves = curves.loc[curves["metric"].isin(names[names.str.startswith(_USED_PREFIXES)])]
    trial, trial_ids = pd.factorize(curves["trial_id"])
    metric, metrics = pd.factorize(curves["metric"])
    steps, values = curves["step"].to_numpy(np.int64), curves["value"].to_numpy(np.float64)
    order = np.lexsort((steps, metric, trial))
    key = trial.astype(np.int64)[order] * max(len(metrics), 1) + metric[order]
    cuts = [*np.flatnonzero(np.diff(key, prepend=-1)).tolist(), len(key)]
    found: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for first, end in itertools.pairwise(cuts):
        i, j = divmod(int(key[first]), len(metrics))
        rows = order[first:end]
        found.setdefault(trial_ids[i], {})[metrics[j]] = (steps[rows], values[rows])
    return found


def _trial(row: Mapping[str, Any], points: Points) -> Trial:
    learning_time = cumulative_lr(points)
    curves = {name: _curve(name, row, points, learning_time) for name in points if not name.endswith(SE)}
    return Trial(row, curves, _heads(row, curves))


def _curve(
    metric: str, row: Mapping[str, Any], points: Points, learning_time: tuple[np.ndarray, np.ndarray] | None
) -> Curve:
    steps, values = points[metric]
    is_primary = metric == row.get("primary_metric")
    chance = number(row.get(f"chance/{metric}"))
    if math.isnan(chance) and is_primary:
        chance = number(row.get("chance"))
    n = _predictions(metric, row)
    mode: Mode = "min" if _LOSS.match(metric) else "max"
    if is_primary and row.get("primary_mode") in ("min", "max"):
        mode = row["primary_mode"]
    times = steps.astype(np.float64) if learning_time is None else np.interp(steps, *learning_time)
    errors = _errors(metric, steps, values, n, points)
    gain_errors, recent_errors = (_reported(f"{metric}{end}", steps, points) for end in (GAIN_SE, RECENT_SE))
    n_images = _images(metric, row, n)
    return Curve(metric, mode, steps, times, values, errors, gain_errors, recent_errors, chance, n, n_images)


def _predictions(metric: str, row: Mapping[str, Any]) -> int:
    """Return the number of predictions behind a metric; 0 if it is unknown.

    Former versions did not record this number for an online probe; the number of predictions of the pretext task is
    then its upper bound.
    """
    if not metric.startswith(("val/", "probe/")):
        return 0
    predictions, queries = number(row.get("n_validation")), number(row.get("n_queries"))
    if metric.startswith("probe/") and not math.isnan(queries):
        return int(queries)
    if math.isnan(predictions):
        return 0
    return min(int(predictions), MAX_PROBE_QUERIES) if metric.startswith("probe/") else int(predictions)


def _images(metric: str, row: Mapping[str, Any], n: int) -> int:
    known = number(row.get("n_validation_images"))
    return int(known) if metric.startswith("val/") and not math.isnan(known) else n


def cumulative_lr(points: Points) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the steps and the cumulative learning rate at each: the time in which `more_steps` divides a curve.

    A schedule that anneals to zero flattens the end of any curve. Against the cumulative learning rate, which is the
    time of the gradient flow that training follows, a curve is flat only if further steps at the full rate would gain
    nothing.

    Returns:
        Steps, int64 [k], and the sum of learning rates over all steps before each, float64 [k]; None if no `lr` was
        reported.
    """
    steps, lr = points.get("lr", (np.empty(0), np.empty(0)))
    after = steps > 0
    if not after.any() or not np.isfinite(lr[after]).all() or not lr[after].max() > 0:
        return None
    steps, lr = np.append(0, steps[after]), np.append(0.0, lr[after])  # warm-up starts at zero
    return steps, cumulative_trapezoid(lr, steps, initial=0)


def _errors(metric: str, steps: np.ndarray, values: np.ndarray, n: int, points: Points) -> np.ndarray:
    """Return the reported standard errors; else binomial ones for an accuracy, or an upper estimate for a loss.

    An unreported error of a loss assumes that it varies between samples like an exponential variable, with a standard
    deviation equal to its mean; most losses vary less. An accuracy of 0 or 1 has an error too: two right and two wrong
    answers are added (Agresti and Coull 1998).
    """
    if metric + SE in points:
        return _reported(metric + SE, steps, points)
    if n and metric.startswith(("val/accuracy", "probe/")):
        share = (values * n + 2) / (n + 4)
        return np.sqrt(np.clip(share * (1 - share), 0, None) / (n + 4))
    if n and metric.startswith("val/loss"):
        return np.abs(values) / math.sqrt(n)
    return np.full(len(values), math.nan)


def _reported(name: str, steps: np.ndarray, points: Points) -> np.ndarray:
    """Return a reported metric at `steps`, float64 [k]; NaN where it was not reported."""
    if name not in points:
        return np.full(len(steps), math.nan)
    at, values = points[name]
    if len(at) == len(steps) and (at == steps).all():
        return values
    return pd.Series(values, at).reindex(steps).to_numpy(np.float64)


def _heads(row: Mapping[str, Any], curves: Mapping[str, Curve]) -> tuple[Head, ...]:
    """Return the heads of a trial: the `val/accuracy*` and `val/loss*` that have a chance level, grouped by suffix.

    The main metric of a head is the primary metric if that belongs to the head, else its accuracy. If heads have
    suffixes (`val/loss_position`), a bare `val/loss` is their sum and is left out: it hides which head learned nothing.
    """
    by_head: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        match = _HEAD.fullmatch(name)
        if match and not math.isnan(curve.chance):
            by_head.setdefault(match["head"], {})[match["kind"]] = curve
    if any(by_head) and "" in by_head:
        by_head[""].pop("loss", None)
    primary = str(row.get("primary_metric"))
    heads = [_head(found, primary) for _, found in sorted(by_head.items()) if found]
    if primary in curves and (not heads or not _HEAD.fullmatch(primary)):
        heads.append(Head(curves[primary]))  # a metric of another name, or of unknown chance
    return tuple(heads)


def _head(found: Mapping[str, Curve], primary: str) -> Head:
    main = next((curve for curve in found.values() if curve.metric == primary), None)
    main = main or found.get("accuracy") or found["loss"]
    loss = found.get("loss")
    return Head(main, None if loss is main else loss)
