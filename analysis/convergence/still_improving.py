"""Verdict `still_improving`: more steps would gain more."""

from __future__ import annotations

import math

import numpy as np

from analysis.convergence.at_chance import NOT_LEFT, unless_left
from analysis.convergence.changes import MATERIAL_SHARE
from analysis.convergence.curves import Curve, Trial, number
from analysis.convergence.evidence import format_value
from analysis.convergence.progress import IMPROVED, improving, recent_gain, recent_share
from analysis.convergence.remedies import Measured
from analysis.convergence.verdict import Finding, Verdict
from trainables.trial import ONLINE_PROBES

MIN_MORE, MAX_MORE = 0.5, 4.0  # further steps to advise, as multiples of the steps so far
TWICE_THE_STEPS = Measured("twice the steps", own=(237, 250), probe=(48, 233))  # in the library of trials


def find(trial: Trial) -> Finding | None:
    """Find a metric that improved in the second half of the steps, with a forecast of more than 5% of its gain.

    The online probes count like the validation metrics: features can get better after the pretext loss has saturated.
    That a trial improves does not show that it left chance: `at_chance` stays possible until it is excluded by itself.
    """
    flat = " and ".join(head.main.metric for head in trial.heads)
    main = [(curve, "") for head in trial.heads for curve in head.curves]
    probes = [(curve, f"no improvement shown in {flat}, but " if flat else "") for curve in probe_curves(trial)]
    possible = unless_left(trial, VERDICT.name)
    unknown = NOT_LEFT if possible else ""
    for curve, before in (*main, *probes):
        if evidence := _improvement(curve):
            return Finding(f"{before}{evidence}{unknown}", more_steps=more_steps(curve.progress), possible=possible)
    return None


def probe_curves(trial: Trial) -> list[Curve]:
    """Return the online probes that were reported."""
    return [trial.curves[name] for name in ONLINE_PROBES if name in trial.curves]


def open_probes(trial: Trial) -> list[Curve]:
    """Return the online probes that may still improve: too likely for convergence, too unsure for this verdict."""
    recents = ((curve, recent_gain(curve)) for curve in probe_curves(trial))
    return [curve for curve, recent in recents if recent is not None and recent.lower(IMPROVED) > 0]


def more_steps(curve: Curve) -> int:
    """Return how many further steps would leave less than 5% to gain.

    Each third of the learning time has a mean level, and the distances between the three levels shrink by a ratio r.
    If they keep shrinking at that ratio (Aitken's delta-squared process), a share r^j / (1 - r) of the last distance
    is left to gain j thirds later.

    Args:
        curve: Reports of an improving metric, finite values only.

    Returns:
        A number of steps between MIN_MORE and MAX_MORE times the steps so far.
    """
    third = np.ceil(3 * curve.times / curve.times[-1])
    levels = [
        curve.sign * float(curve.values[third == i].mean()) if (third == i).any() else math.nan for i in (1, 2, 3)
    ]
    first, second = levels[1] - levels[0], levels[2] - levels[1]
    multiple = MAX_MORE
    if 0 < second < first:
        ratio = second / first
        left = second * ratio / (1 - ratio)
        share = left / (levels[2] + left - levels[0])
        multiple = math.log(max(share / MATERIAL_SHARE, 1.0)) / -math.log(ratio) / 3
    return round(int(curve.steps[-1]) * min(max(multiple, MIN_MORE), MAX_MORE))


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return the changes to try, likeliest first."""
    budget, more = number(trial.row.get("budget_steps")), finding.more_steps
    if trial.steps < budget:
        return [f"let it run to its budget of {budget:,.0f} steps"]
    amount = "at least" if more >= MAX_MORE * trial.steps else "about"  # MAX_MORE is a limit, not an estimate
    return [f"train for more steps: {amount} {more:,} more, budget_steps={trial.steps + more:,} ({TWICE_THE_STEPS})"]


VERDICT = Verdict(
    "still_improving",
    meaning="it improved in the second half of its steps, and most trials that did gained more from twice the steps",
    verb="is still improving at the end",
    letter="↗",
    color="#56b4e9",
    remedies=remedies,
)


def _improvement(curve: Curve) -> str | None:
    """Return the evidence that a metric improves; None if it is not shown."""
    recent, share = recent_gain(curve), recent_share(curve)
    if recent is None or share is None or not improving(curve):
        return None
    gained = f"{format_value(curve)} gained {recent} since step {recent.since:,}"
    if curve.metric in ONLINE_PROBES:
        return gained  # the forecast was measured on validation metrics alone
    caveat = "; one report after the start cannot tell the end of a curve from its beginning"
    return (
        f"{gained}; twice the steps are expected to add {share.estimate:.0%} of its gain"
        f"{caveat if len(curve.trained) == 1 else ''}"
    )
