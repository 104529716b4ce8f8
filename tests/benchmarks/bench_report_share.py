"""Share of a trial's time that its reports take: with features measured at every report, and as new studies do.

Steps, reports of the losses and reports that also measure features alternate within one run. The share of a whole trial
follows from their medians, since all of its steps cost the same, and so do all of its reports of a kind.

    python tests/benchmarks/bench_report_share.py [--device cuda] [--budget-steps 500] [--report-every 25] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from study.config.schema import StudyConfig
from trainables.allocator import keep_freed_memory
from trainables.data import Splits, load_splits
from trainables.devices import CPU, synchronized_time
from trainables.tasks import TASKS
from trainables.training import checkpoint
from trainables.training.loop import TrialRun, Worker
from trainables.training.monitor import Monitor
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig

STEPS = 5  # steps timed together


class Seconds(NamedTuple):
    """Durations of a step, of a report and its checkpoint, and of the features if a report measures them."""

    step: float
    report: float
    features: float


def measured(trial: TrialConfig, splits: Splits, device: torch.device, rounds: int) -> Seconds:
    """Return the medians over `rounds`, after one round that does not count; on a CPU, of one thread's time."""
    run = TrialRun(trial, splits, lambda report: None, Worker(device), None)
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=run.replay)
    every_step = trial.replace(probe_every=None if trial.probe_every is None else 1)
    features = Monitor(every_step, run.task, splits.pretext_train, splits, device)
    losses = Monitor(trial.replace(probe_every=10**9), run.task, splits.pretext_train, splits, device)
    found = []
    for _ in range(rounds + 1):
        began = _now(device)
        for _ in range(STEPS):
            run.count(take_step(run.draw(), run.lr))
        stepped = _now(device)
        losses.validate(1)
        checkpoint.to_bytes(run._state())
        reported = _now(device)
        features.validate(1)
        probed = _now(device)
        report = reported - stepped
        without = _seconds(device, lambda: losses.validate(1))
        found.append(Seconds((stepped - began) / STEPS, report, probed - reported - without))
    return Seconds(*map(statistics.median, zip(*found[1:], strict=True)))


def share(trial: TrialConfig, cost: Seconds) -> float:
    """Return the share of the trial's time that its reports take."""
    steps = [*range(0, trial.budget_steps, trial.report_every), trial.budget_steps]
    reports = len(steps) * cost.report + sum(map(trial.measures_features, steps)) * cost.features
    return reports / (reports + trial.budget_steps * cost.step)


def _seconds(device: torch.device, work: Callable[[], Any]) -> float:
    began = _now(device)
    work()
    return _now(device) - began


def _now(device: torch.device) -> float:
    return time.process_time() if device.type == CPU else synchronized_time(device)


def main() -> None:
    """Print one row per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--budget-steps", type=int, default=500)
    parser.add_argument("--report-every", type=int, default=25)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    keep_freed_memory()  # as in a study
    splits = load_splits("shapes", root=None)
    study = StudyConfig(name="bench", budget_steps=arguments.budget_steps, report_every=arguments.report_every)
    print(f"{'task':<20}{'step ms':>9}{'losses ms':>11}{'features ms':>13}{'every report':>14}{'as studies do':>15}")
    for task in arguments.tasks.split(","):
        trial = study.base_trial(task, "bench")
        former = trial.replace(probe_every=None)
        costs = {each: measured(each, splits, device, arguments.rounds) for each in (former, trial)}
        shares = [share(each, cost) for each, cost in costs.items()]
        cost = costs[trial]
        print(
            f"{task:<20}{1000 * cost.step:>9.0f}{1000 * cost.report:>11.0f}{1000 * cost.features:>13.0f}"
            f"{shares[0]:>14.1%}{shares[1]:>15.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
