"""Simulated training and evaluation: the reports, states and results of a real trial, in milliseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from trainables.data.table import Splits
from trainables.errors import ConfigError, DataError
from trainables.per_image import Evaluation
from trainables.simulated.outcomes import fails, trial_curve
from trainables.simulated.probe_images import per_image_results
from trainables.simulated.probe_results import probe_results
from trainables.simulated.truth import TRUTH, Truth
from trainables.training.batches import batch_size_problem
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
    """Report a simulated training run as `trainables.training.loop.fit` reports a real one.

    Args:
        trial: The trial to simulate.
        splits: Data set; only its numbers of images are used.
        report: Called with each report.
        resume: State of an earlier report; the same curve continues after it.
        truth: Declared truth of the simulation.

    Raises:
        RuntimeError: The trial is drawn to fail midway.
        ConfigError: The batch size does not fit the number of training images.
        DataError: The data set has fewer images than `trial.n_images`.
    """
    _check(trial, splits)
    curve = trial_curve(trial, splits, truth)
    failing = len(curve.steps) // 2 if fails(trial, truth) else None
    first = int(resume["step"]) if resume else 0
    for index, step in enumerate(curve.steps.tolist()):
        if index == failing:
            raise RuntimeError(f"simulated failure before step {step}")
        if step > first or (step == first and (step == 0 or step >= trial.budget_steps)):
            report(Report(step, curve.report(index), curve.facts, functools.partial(_state, trial, step)))


def evaluate(trial: TrialConfig, datasets: Mapping[str, Splits], truth: Truth = TRUTH) -> Evaluation:
    """Return the results of all probes that the trial asks for, named as by `trainables.probes.evaluation.evaluate`.

    The encoder of another trial (`init_from`) is a function of configuration and seed, so it gives the same results.

    Raises:
        ConfigError: A data set has neither labels nor masks.
    """
    found = Evaluation()
    for name in trial.probe_datasets:
        if not datasets[name].annotated:
            raise ConfigError(f"evaluate.datasets: {datasets[name].name} has neither labels nor masks to probe with")
        results = probe_results(trial, name, datasets[name], truth)
        found |= Evaluation(results, per_image_results(trial, name, datasets[name], results))
    return found


def _state(trial: TrialConfig, step: int) -> dict[str, Any]:
    """Return a checkpoint's state; the curve is a function of the trial, so the step is enough to resume."""
    return {"trial_id": trial.trial_id, "step": step, "diverged": False, "task": {}, "optimizer": {}, "validation": {}}


def _check(trial: TrialConfig, splits: Splits) -> None:
    table = splits.pretext_train
    n_images = trial.n_images or len(table)
    if n_images > len(table):
        raise DataError(f"{table.name}: n_images = {n_images}, but only {len(table)} training images are available")
    if problem := batch_size_problem(trial.batch_size, n_images=n_images, workers=1):
        raise ConfigError(f"{table.name}: batch_size = {trial.batch_size} {problem}")
