"""Where a trial that learned was heading: past its best, still up, or nowhere."""

from __future__ import annotations

import math

import numpy as np

from analysis.convergence.curves import Curve, Head, Trial
from analysis.convergence.finding import (
    CONVERGED,
    OVERFIT,
    STILL_IMPROVING,
    Finding,
    count_told,
    value_told,
)
from analysis.convergence.noise import Fall, Slope, end_slope, fall, level, lost
from trainables.trial import ONLINE_PROBES

MATERIAL = 0.05  # of all that was gained: less is not worth a verdict, however surely it is there
CONTRASTIVE = ("simclr",)  # tasks whose flat loss alone is no convergence
PROBE_METRICS = ONLINE_PROBES
UNLABELED_WITNESSES = ("health/rankme",)
MOST_TIMES, LEAST_TIMES = 4.0, 0.5  # the steps so far: what may be advised to be bought


def overfit(trial: Trial) -> Finding | None:
    """Return `overfit` where validation has fallen from its best by more than noise while training has not.

    A head's accuracy (or whatever it is judged by) decides. Where that no longer gains, a validation loss that has
    risen from its best does too: the network grows surer of its errors.
    """
    for head in trial.heads:
        for curve in _judged(head):
            fallen = material_fall(curve)
            if fallen is None or (curve is not head.main and _gaining(head.main)):
                continue
            training = trial.training(curve)
            if training is None:
                return Finding(OVERFIT, f"{fall_told(curve, fallen)}; no training metric was reported")
            before, after = (level(training, step, fallen.window) for step in (fallen.best_step, trial.steps))
            if not lost(training, training.sign * (before - after), fallen.window):
                gained = f"while {training.metric} went from {before:.4g} to {after:.4g}"
                return Finding(OVERFIT, f"{fall_told(curve, fallen)}, {gained}", best_step=fallen.best_step)
    return None


def still_improving(trial: Trial) -> Finding | None:
    """Return `still_improving` where a validation metric was still gaining at the end, by more than noise.

    The online probes count too: a pretext loss saturates while the features still get better. A contrastive task
    without a probe is taken to improve still, since its flat loss alone says nothing.
    """
    for head in trial.heads:
        for curve in _judged(head):
            if found := _gaining(curve):
                return found
    flat = " and ".join(head.main.metric for head in trial.heads)
    for witness in (witnesses := _witnesses(trial)):
        if found := _gaining(witness):
            return Finding(STILL_IMPROVING, f"{flat} is flat, but {found.evidence}", more_steps=found.more_steps)
    if witnesses or trial.row["task"] not in CONTRASTIVE:
        return None
    words = f"{flat} is flat, which alone is no convergence of a contrastive task, and no probe was reported"
    return Finding(STILL_IMPROVING, words, more_steps=trial.steps)


def converged(trial: Trial) -> Finding:
    """Return `converged`: what is left where no other rule finds anything."""
    curves = [*(head.main for head in trial.heads), *_witnesses(trial)]
    return Finding(CONVERGED, "; ".join(_flat_told(curve.trained) for curve in curves if len(curve.trained)))


def material_fall(curve: Curve, share: float = MATERIAL) -> Fall | None:
    """Return the fall from the best where it clears the noise and is that share of all that was gained."""
    fallen = fall(curve.trained)
    if fallen is None or not fallen.change.clears:
        return None
    gained = curve.sign * (fallen.best - curve.start)
    return fallen if fallen.change.amount > share * gained else None


def fall_told(curve: Curve, fallen: Fall) -> str:
    """Return a fall in words."""
    change = fallen.change
    return (
        f"{curve.metric} fell from its best, {fallen.best:.4g} around step {fallen.best_step}, to {fallen.last:.4g} "
        f"at step {curve.steps[-1]}: by {change.amount:.3g}, noise explains {change.needed:.2g}{count_told(curve)}"
    )


def _judged(head: Head) -> list[Curve]:
    return [head.main] if head.loss is None else [head.main, head.loss]


def _witnesses(trial: Trial) -> list[Curve]:
    """Return the online probes; without labels, for a contrastive task, the rank of the features."""
    names: tuple[str, ...] = PROBE_METRICS if any(name in trial.curves for name in PROBE_METRICS) else ()
    if not names and trial.row["task"] in CONTRASTIVE:
        names = UNLABELED_WITNESSES
    return [trial.curves[name] for name in names if name in trial.curves]


def _gaining(curve: Curve) -> Finding | None:
    """Return the finding where the end slope clears noise and promises more than 5 % of what was gained so far.

    A trial with a single report after step 0 has shown no slope but its whole gain, and is taken to go on at that.
    """
    alone = len(curve.trained) == 1
    seen = curve.finite if alone else curve.trained
    end = end_slope(seen)
    if end is None or not end.gain.clears or end.promise <= MATERIAL * curve.sign * (seen.last - curve.start):
        return None
    caveat = "; with one report after the start its end cannot be told from its beginning" if alone else ""
    words = f"{value_told(curve)} {_gain_told(end)}{caveat}"
    return Finding(STILL_IMPROVING, words, more_steps=more_steps(seen))


def more_steps(curve: Curve) -> int:
    """Return how many further steps would leave less than 5 % to gain: between half and four times those so far.

    Three levels, the means of the thirds of the learning time, shrink their distances by a ratio r. If that goes on
    (Aitken's delta-squared process), r^j / (1 - r) of the last distance is left to gain j thirds later.
    curve: finite values only, of a metric that gains.
    """
    third = np.ceil(3 * curve.times / curve.times[-1])
    levels = [
        curve.sign * float(curve.values[third == i].mean()) if (third == i).any() else math.nan for i in (1, 2, 3)
    ]
    first, second = levels[1] - levels[0], levels[2] - levels[1]
    times = MOST_TIMES
    if 0 < second < first:
        ratio = second / first
        left = second * ratio / (1 - ratio)
        share = left / (levels[2] + left - levels[0])
        times = math.log(max(share / MATERIAL, 1.0)) / -math.log(ratio) / 3
    return round(int(curve.steps[-1]) * min(max(times, LEAST_TIMES), MOST_TIMES))


def _flat_told(curve: Curve) -> str:
    end = end_slope(curve)
    return f"{value_told(curve)} {_gain_told(end) if end else 'has too few reports to tell whether it still gained'}"


def _gain_told(end: Slope) -> str:
    return (
        f"gained {end.gain.amount:+.3g} since step {end.first_step} (Theil-Sen), noise explains {end.gain.needed:.2g}"
    )
