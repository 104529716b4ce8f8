"""What cures a trial, told from its verdict, its evidence and its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from analysis.convergence.curves import Trial, number
from analysis.convergence.finding import (
    AT_CHANCE,
    COLLAPSED,
    CONVERGED,
    DIVERGED,
    FAILED,
    OVERFIT,
    STILL_IMPROVING,
    Finding,
)

TAKE_OFF = (500, 2000)  # steps that context prediction may stay at chance in good health: as reported, and at most
ABOVE_CHANCE, BY_HEART = 1.1, 0.8  # of its chance level: a training loss that is thrown about, and one that fell
WEAK_VIEWS = 0.25  # augmentation strength below which SimCLR's two views are nearly the same image
ALL_PAIRS = 40  # of context prediction's 3x3 grid


def cure(finding: Finding, trial: Trial) -> str:
    """Return one sentence: what to change for a trial of this verdict, the likeliest first."""
    return "; or ".join(_CURES[finding.verdict](finding, trial))


def _of_failed(finding: Finding, trial: Trial) -> list[str]:
    return ["read the traceback in the journal or in MLflow, mend what it names, and start the same command again"]


def _of_diverged(finding: Finding, trial: Trial) -> list[str]:
    warmup = number(trial.row.get("warmup_fraction"))
    longer = "" if math.isnan(warmup) else f" than {warmup:.0%} of the steps"
    return [_lower_lr(trial), f"a longer warm-up{longer}"]


def _of_collapsed(finding: Finding, trial: Trial) -> list[str]:
    changes = [_lower_lr(trial)]
    if trial.row["task"] == "simclr":
        changes.append(f"a higher temperature{_instead(trial.row.get('option/temperature'))}")
        changes.append(f"a larger batch_size{_instead(trial.row.get('batch_size'))}, for more negatives")
    return changes


def _of_at_chance(finding: Finding, trial: Trial) -> list[str]:
    row, level = trial.row, _training_loss_of_chance(trial)
    strength, pairs = number(row.get("augmentation_strength")), number(row.get("option/pairs_per_image"))
    changes = []
    if row["task"] == "simclr" and strength < WEAK_VIEWS:
        changes.append(f"augmentation_strength 0.5 instead of {strength:g}, without which two views are one image")
    if level > ABOVE_CHANCE:
        changes.append(f"{_lower_lr(trial)}, as the training loss is {level:.3g} x that of chance")
    elif level < BY_HEART:
        changes += [*_stronger_augmentation(trial), f"more images{_than(trial)}"]
    elif trial.steps < TAKE_OFF[1]:
        patience = f"where {TAKE_OFF[0]:,} to {TAKE_OFF[1]:,} may pass before it takes off"
        changes.append(f"more optimizer steps: {trial.steps:,} {_seen(trial)}, {patience}")
    if row["task"] == "context_prediction" and not pairs >= ALL_PAIRS:
        changes.append(f"pairs_per_image {'8 or 40' if pairs == 1 else ALL_PAIRS}{_instead(pairs)}")
    if row.get("option/head_norm") in ("batch", "none"):
        changes.append(f"head_norm batch_no_affine instead of {row['option/head_norm']}")
    if level <= ABOVE_CHANCE:
        changes.append(f"another learning rate, a third or three times {_text(row.get('lr'))}")
    changes[-1] += "; if none helps, see by --self-test whether the task can be learned at all"
    return changes


def _of_overfit(finding: Finding, trial: Trial) -> list[str]:
    row = trial.row
    changes = [*_stronger_augmentation(trial), f"more images{_than(trial)}"]
    changes.append(f"a smaller encoder than {row.get('encoder', 'this')} of width {_text(row.get('width'))}")
    if finding.best_step:
        changes.append(f"fewer steps: about {finding.best_step:,} instead of {trial.steps:,}")
    return changes


def _of_still_improving(finding: Finding, trial: Trial) -> list[str]:
    budget = number(trial.row.get("budget_steps"))
    more = f"more steps: about {finding.more_steps:,} more, budget_steps={trial.steps + finding.more_steps:,}"
    return [f"let it run to its budget of {budget:,.0f} steps" if trial.steps < budget else f"buy {more}"]


def _of_converged(finding: Finding, trial: Trial) -> list[str]:
    return ["none: compare its probe with random_init's, to see what the features are worth"]


_CURES: dict[str, Callable[[Finding, Trial], list[str]]] = {
    FAILED: _of_failed,
    DIVERGED: _of_diverged,
    COLLAPSED: _of_collapsed,
    AT_CHANCE: _of_at_chance,
    OVERFIT: _of_overfit,
    STILL_IMPROVING: _of_still_improving,
    CONVERGED: _of_converged,
}


def _lower_lr(trial: Trial) -> str:
    lr = number(trial.row.get("lr"))
    return "a lower learning rate" + ("" if math.isnan(lr) else f", lr {lr / 3:.2g} instead of {lr:.2g}")


def _stronger_augmentation(trial: Trial) -> list[str]:
    strength = number(trial.row.get("augmentation_strength"))
    if strength >= 1:
        return []
    return ["stronger augmentation" + ("" if math.isnan(strength) else f" (augmentation_strength {strength:g} now)")]


def _training_loss_of_chance(trial: Trial) -> float:
    """Return the last training loss over its level at chance, 1 where either is unknown or it sums several heads'."""
    loss = trial.curves.get("train/loss") if len(trial.heads) == 1 else None
    share = loss.last / loss.chance if loss is not None and loss.chance else math.nan
    return 1.0 if math.isnan(share) else share


def _seen(trial: Trial) -> str:
    images, batch = _images(trial), number(trial.row.get("batch_size"))
    if not images or math.isnan(batch):
        return "were done"
    return f"showed each of {images:,} images {trial.steps * batch / images:.3g} times"


def _than(trial: Trial) -> str:
    return f" than {_images(trial):,}" if _images(trial) else ""


def _images(trial: Trial) -> int:
    """Return the number of training images, 0 where the frame does not tell."""
    known = (number(trial.row.get(name)) for name in ("n_train", "n_images"))
    return int(next((value for value in known if not math.isnan(value)), 0))


def _instead(value: Any) -> str:
    return "" if math.isnan(number(value)) else f" instead of {_text(value)}"


def _text(value: Any) -> str:
    return "unknown" if math.isnan(number(value)) else f"{number(value):g}"
