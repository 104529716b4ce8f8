"""Verdict `undecided`: the numbers leave more than one verdict possible."""

from __future__ import annotations

import math
from collections.abc import Iterator

from analysis.convergence import at_chance, converged, overfit, still_improving
from analysis.convergence.changes import MATERIAL_SHARE
from analysis.convergence.curves import Curve, Head, Trial
from analysis.convergence.evidence import format_value
from analysis.convergence.progress import IMPROVED, recent_gain, recent_share
from analysis.convergence.still_improving import open_probes
from analysis.convergence.verdict import OR, Finding, Verdict
from trainables.chance import MARGIN, UPPER_QUANTILE

# The share of training that validation may cost limits its images, see `trainables.training.validation.plan`.
PAID_BY = "which more steps or larger batches pay for if the data set has them"
MOST_IMAGES = 20  # times as many validation images: beyond that, the answer is not to be had by looking

# Verdicts that take a validation metric, and that are all possible without one.
NEED_VALIDATION = tuple(each.VERDICT.name for each in (at_chance, still_improving, converged, overfit))


def find(trial: Trial) -> Finding:
    """Name the verdicts that remain, and the numbers that leave them open; tried last, it always applies."""
    if not any(len(head.main.trained) for head in trial.heads):
        evidence = f"no validation metric in {trial.steps:,} steps: nothing shows what it learned"
        return Finding(evidence, possible=NEED_VALIDATION)
    open_curves = [*(head.main for head in trial.heads if len(head.main.trained)), *open_probes(trial)]
    numbers = "; ".join(map(_numbers, open_curves))
    names = tuple(remaining(trial))
    return Finding(f"{OR.join(names)} are possible: {numbers}", possible=names)


def remaining(trial: Trial) -> list[str]:
    """Return the names of the verdicts that the numbers do not exclude."""
    names = []
    if not at_chance.left_chance(trial):
        names.append(at_chance.VERDICT.name)
    shares = [recent_share(head.main) for head in trial.heads]
    if any(each is None or each.upper >= MATERIAL_SHARE for each in shares) or open_probes(trial):
        names.append(still_improving.VERDICT.name)
    if all(each is None or each.lower < MATERIAL_SHARE for each in shares):
        names.append(converged.VERDICT.name)
    if len(names) < 2:
        names.append(overfit.VERDICT.name)
    return names


def remedies(finding: Finding, trial: Trial) -> list[str]:
    """Return what would decide between the verdicts that remain, cheapest first."""
    if not trial.heads:
        return ["validation metrics, val/NAME, in its reports"]
    changes = [advice for head in trial.heads for advice in _more_images(head)]
    fewest = min((len(head.main.trained) for head in trial.heads), default=0)
    if fewest < converged.MIN_REPORTS:
        every = max(1, trial.steps // converged.MIN_REPORTS)
        changes.append(f"at least {converged.MIN_REPORTS} reports: report_every={every}")
    changes.append(f"twice the steps, budget_steps={2 * trial.steps:,}, and compare the two")
    return list(dict.fromkeys(changes))


VERDICT = Verdict(
    "undecided",
    meaning="its numbers leave more than one of the other verdicts possible; the advice is what would decide",
    verb="is undecided",
    letter="?",
    color="#ffffff",
    remedies=remedies,
    advice="What would decide it",
)


def _numbers(curve: Curve) -> str:
    recent = recent_gain(curve)
    if recent is None:
        return f"{format_value(curve)}, with no earlier report to compare with"
    return f"{format_value(curve)}, which gained {recent} since step {recent.since:,}"


def _more_images(head: Head) -> Iterator[str]:
    """Yield the number of validation images that would decide whether the head learned and whether it improves."""
    curve = head.main
    if not curve.n_images or not len(curve.trained):
        return
    seen = curve.finite
    needed = 0.0
    if not at_chance.learning_shown(head):
        now = at_chance.compared(seen, len(seen) - 1)
        distance = max(abs(now.share), MARGIN - now.share)
        needed = curve.n_images * (2 * UPPER_QUANTILE * now.error / distance) ** 2
    recent = recent_gain(curve)
    if recent is not None and recent.amount > 0 and not recent.lower(IMPROVED) > 0:
        needed = max(needed, curve.n_images * ((recent.amount - recent.lower(IMPROVED)) / recent.amount) ** 2)
    if needed <= curve.n_images or not math.isfinite(needed):
        return
    if needed > MOST_IMAGES * curve.n_images:
        amount = f"more than {MOST_IMAGES * curve.n_images:,}"
    else:
        amount = f"about {math.ceil(needed):,}"
    yield f"{amount} validation images ({curve.n_images:,} now), {PAID_BY}"
