"""A simulated trial: the same reports, states and results as a real one, in milliseconds and without training."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from trainables.data.table import Splits
from trainables.errors import ConfigError, DataError
from trainables.simulated.outcomes import fails, results, simulated_curve
from trainables.simulated.truth import TRUTH, Truth
from trainables.training.loop import Report
from trainables.trial import TrialConfig


def fit(
    trial: TrialConfig,
    splits: Splits,
    report: Callable[[Report], None],
    *,
    resume: dict[str, Any] | None = None,
    truth: Truth = TRUTH,
) -> None:
    """Make the reports of the trial as `trainables.training.loop.fit` makes them; `splits` give numbers of images alone.

    resume: the state of an earlier report, after which the same curve goes on.
    Raises RuntimeError midway where the truth says that the trial fails, ConfigError and DataError as the loop does.
    """
    _check(trial, splits)
    curve = simulated_curve(trial, splits, truth)
    failing = len(curve.steps) // 2 if fails(trial, truth) else None
    first = int(resume["step"]) if resume else 0
    for index, step in enumerate(curve.steps.tolist()):
        if index == failing:
            raise RuntimeError(f"simulated failure before step {step}")
        if step > first or (step == first and (step == 0 or step >= trial.budget_steps)):
            report(Report(step, curve.report(index), curve.facts, functools.partial(_state, trial, step)))


def evaluate(trial: TrialConfig, datasets: Mapping[str, Splits], truth: Truth = TRUTH) -> dict[str, float]:
    """Return the results of all probes that the trial asks for, as `trainables.probes.evaluation.evaluate` names them.

    An encoder taken from another trial (`init_from`) is that of its configuration and seed, so it gives the same.
    Raises ConfigError for a data set with neither labels nor masks.
    """
    found: dict[str, float] = {}
    for name in trial.probe_datasets:
        if not datasets[name].annotated:
            raise ConfigError(f"evaluate.datasets: {datasets[name].name} has neither labels nor masks to probe with")
        found |= results(trial, name, datasets[name], truth)
    return found


def _state(trial: TrialConfig, step: int) -> dict[str, Any]:
    """Return a checkpoint's state: a curve is a function of its trial, so the step is all there is to know."""
    return {"trial_id": trial.trial_id, "step": step, "task": {}, "optimizer": {}}


def _check(trial: TrialConfig, splits: Splits) -> None:
    table = splits.pretext_train
    n_images = trial.n_images or len(table)
    if n_images > len(table):
        raise DataError(f"{table.name}: n_images = {n_images}, but only {len(table)} images are there to train on")
    if trial.batch_size > n_images:
        raise ConfigError(
            f"batch_size = {trial.batch_size}, but {table.name} gives only {n_images} training images; "
            f"use a batch_size of at most {n_images}"
        )
