"""Optimizer steps until a search has a good configuration: TPE with ASHA and the stop at chance, and random search.

Trials are simulated (`trainables.simulated`), with the declared response of each task to its hyperparameters, seeds and
measurement noise. With `--recorded`, they are real ones that `search_curves.py` has recorded: each proposed
configuration has the learning curve of the recorded one that is nearest to it. Searcher, scheduler and stopper are
those of a study, with two trials at a time. A search has a good configuration once the trial that it would choose is
within a margin of the best configuration that either of the two searches of a repeat ends with, by the declared or
recorded truth. Steps are those of all trials so far.

    python -m tests.benchmarks.bench_search [--recorded FILE] [--samples 24] [--repeats 20] [--margin 0.01]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import optuna
from ray.tune.schedulers import TrialScheduler

from study.config.validation import check_config
from study.driver import load_datasets
from study.execution.search import FIFOScheduler, PerTaskASHA, PerTaskSearcher, tpe
from study.execution.stopping import ChanceStopper
from study.plan.history import History
from study.plan.phases import Plan
from tests.benchmarks.search_curves import METRIC, Recorded
from tests.benchmarks.search_curves import config as recorded_study
from trainables import simulated
from trainables.objective import as_objective
from trainables.ray_adapter.messages import TrialReport, to_result
from trainables.ray_adapter.trainable import trial_of
from trainables.simulated.expected import expected_value
from trainables.tasks import TASKS
from trainables.training.loop import Report
from trainables.trial import TrialConfig

CONCURRENT = 2


class Curves(Protocol):
    """Where the learning curves of trials come from."""

    def reports(self, trial: TrialConfig) -> list[Report]:
        """Return the reports of a trial."""

    def truth(self, trial: TrialConfig) -> float:
        """Return the accuracy of the linear probe that the trial ends with."""


@dataclass(frozen=True)
class Simulated:
    """Curves of simulated trials.

    Attributes:
        datasets: Simulated splits by name.
    """

    datasets: Any

    def reports(self, trial: TrialConfig) -> list[Report]:
        """Return the reports of a simulated trial, up to its failure if it is drawn to fail."""
        reports: list[Report] = []
        with contextlib.suppress(RuntimeError):
            simulated.fit(trial, self.datasets[trial.dataset], reports.append)
        return reports

    def truth(self, trial: TrialConfig) -> float:
        """Return the declared accuracy."""
        value = expected_value(trial, METRIC)
        return value if math.isfinite(value) else 0.0


@dataclass
class Search:
    """Progress of one search.

    Attributes:
        steps: Optimizer steps of all trials so far.
        chosen: After each trial that has ended, the steps so far and the trial that would be chosen.
    """

    steps: int = 0
    chosen: list[tuple[int, TrialConfig]] = field(default_factory=list)
    best: float = -math.inf

    def end(self, trial: TrialConfig, value: float) -> None:
        """Note that a trial has ended, with its last value."""
        if value > self.best or not self.chosen:
            self.best = value
            self.chosen.append((self.steps, trial))


def random_search(plan: Plan, task: str, curves: Curves) -> Search:
    """Run all trials of a random search to their end."""
    waiting = iter(plan.enumerated(task))
    return run(curves, FIFOScheduler(), ChanceStopper(0), lambda name: next(waiting, None), lambda *ended: None)


def study_search(plan: Plan, task: str, curves: Curves) -> Search:
    """Run the search of a study: TPE, ASHA, and the stop at chance."""
    config = plan.config
    bases = {task: plan.search_base(task)}
    searcher = PerTaskSearcher({task: tpe(plan, History(), task)}, bases)

    def suggest(name: str) -> TrialConfig | None:
        found = searcher.suggest(name)
        return trial_of(found, bases) if isinstance(found, dict) else None

    asha = PerTaskASHA(config.budget_steps, config.grace_period, config.search.reduction_factor)
    return run(curves, asha, ChanceStopper(config.chance_patience), suggest, searcher.on_trial_complete)


def run(curves: Curves, scheduler: TrialScheduler, stopper: ChanceStopper, suggest: Any, complete: Any) -> Search:
    """Run the trials of a search, `CONCURRENT` at a time, report by report in turn."""
    search, number, running = Search(), 0, []
    while True:
        while len(running) < CONCURRENT and (trial := suggest(str(number))) is not None:
            tune = SimpleNamespace(trial_id=str(number), config={"trial": trial.to_dict()}, is_finished=lambda: False)
            scheduler.on_trial_add(None, tune)
            running.append((trial, tune, results(curves.reports(trial))))
            number += 1
        if not running:
            return search
        trial, tune, reports = running.pop(0)
        result = reports.pop(0)
        search.steps += min(trial.report_every, result["step"])
        stopped = stopper(tune.trial_id, result)
        stopped = scheduler.on_trial_result(None, tune, result) == TrialScheduler.STOP or stopped
        if stopped or not reports:
            scheduler.on_trial_complete(None, tune, result)
            complete(tune.trial_id, result)
            finished = not stopped and result["step"] >= trial.budget_steps
            search.end(trial, result["objective"] if finished else -math.inf)
        else:
            running.append((trial, tune, reports))


def results(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Return the result of each report, as Tune receives it."""
    found, objective = [], math.nan
    for report in reports:
        objective = report.metrics.get(METRIC, objective)
        message = TrialReport(
            step=report.step, objective=as_objective(objective, "max"), metrics=report.metrics, facts=report.facts
        )
        found.append(to_result(message))
    return found


def steps_until(search: Search, curves: Curves, good: float) -> float:
    """Return the steps after which the chosen trial is good; infinite if it never is."""
    return next((steps for steps, trial in search.chosen if curves.truth(trial) >= good), math.inf)


def plan_of(task: str, *, is_recorded: bool, search: dict[str, Any], seed: int = 0) -> Plan:
    """Return the plan of a study with this search, without images."""
    fields = {"search": search, "seed": seed, "simulate": True}
    if is_recorded:
        config = recorded_study(task, **fields)
    else:
        config = check_config({"name": "bench", "tasks": [task], "dataset": "shapes", **fields})
    return Plan(config, load_datasets(config))


def main() -> None:
    """Print one row per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recorded", type=Path, help="parquet file of recorded trials; otherwise they are simulated")
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--tasks", default=",".join(TASKS))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'task':<20}{'random: steps':>15}{'never':>7}{'study: steps':>15}{'never':>7}{'ratio':>8}{'all steps':>11}")
    for task in arguments.tasks.split(","):
        samples = {"num_samples": arguments.samples}
        path = arguments.recorded
        of_a_study = functools.partial(plan_of, task, is_recorded=path is not None)
        plan = of_a_study(search=samples)
        curves = Simulated(plan.datasets) if path is None else Recorded(path, task, plan.space(task))
        found, totals = [], []
        for seed in range(arguments.repeats):
            at_random = of_a_study(search={**samples, "algorithm": "random", "scheduler": "none"}, seed=seed)
            by_random = random_search(at_random, task, curves)
            by_study = study_search(of_a_study(search=samples, seed=seed), task, curves)
            good = max(curves.truth(each.chosen[-1][1]) for each in (by_random, by_study)) - arguments.margin
            found.append([steps_until(each, curves, good) for each in (by_random, by_study)])
            totals.append(by_study.steps / by_random.steps)
        columns = list(zip(*found, strict=True))
        medians = [statistics.median(column) for column in columns]
        never = [sum(map(math.isinf, column)) for column in columns]
        print(
            f"{task:<20}{medians[0]:>15,.0f}{never[0]:>7}{medians[1]:>15,.0f}{never[1]:>7}"
            f"{medians[0] / medians[1]:>8.2f}{statistics.median(totals):>11.0%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
