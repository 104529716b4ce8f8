"""Optimizer steps until a search has a good configuration: TPE with ASHA and the stop at chance, and random search.

Trials are simulated (`trainables.simulated`), with the declared response of each task to its hyperparameters, seeds and
measurement noise; searcher, scheduler and stopper are those of a study, with two trials at a time. A search has a good
configuration once the trial that it would choose is, by the declared truth, within a margin of the best configuration
that either of the two searches of a repeat ends with. Steps are those of all trials so far.

    python tests/benchmarks/bench_search.py [--samples 24] [--repeats 20] [--margin 0.01]
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import TrialScheduler

from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.execution.search import FIFOScheduler, PerTaskASHA, PerTaskSearcher, tpe
from study.execution.stopping import ChanceStopper
from study.plan.history import History
from study.plan.phases import Plan
from trainables import simulated
from trainables.objective import as_objective
from trainables.ray_adapter.messages import TrialReport, to_result
from trainables.ray_adapter.trainable import trial_of
from trainables.simulated.expected import expected_value
from trainables.tasks import TASKS
from trainables.trial import TrialConfig

CONCURRENT = 2
METRIC = "probe/linear"


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


def random_search(config: StudyConfig, task: str, datasets: Any) -> Search:
    """Run all trials of a random search to their end."""
    plan = Plan(config, datasets)
    waiting = iter(plan.enumerated(task))
    return run(plan, FIFOScheduler(), ChanceStopper(0), lambda name: next(waiting, None), lambda *ended: None)


def study_search(config: StudyConfig, task: str, datasets: Any) -> Search:
    """Run the search of a study: TPE, ASHA, and the stop at chance."""
    plan = Plan(config, datasets)
    bases = {task: plan.search_base(task)}
    searcher = PerTaskSearcher({task: tpe(plan, History(), task)}, bases)

    def suggest(name: str) -> TrialConfig | None:
        found = searcher.suggest(name)
        return trial_of(found, bases) if isinstance(found, dict) else None

    asha = PerTaskASHA(config.budget_steps, config.grace_period, config.search.reduction_factor)
    return run(plan, asha, ChanceStopper(config.chance_patience), suggest, searcher.on_trial_complete)


def run(plan: Plan, scheduler: TrialScheduler, stopper: ChanceStopper, suggest: Any, complete: Any) -> Search:
    """Run simulated trials, `CONCURRENT` at a time, report by report in turn."""
    search, number, running = Search(), 0, []
    while True:
        while len(running) < CONCURRENT and (trial := suggest(str(number))) is not None:
            tune = SimpleNamespace(trial_id=str(number), config={"trial": trial.to_dict()}, is_finished=lambda: False)
            scheduler.on_trial_add(None, tune)
            running.append((trial, tune, results(trial, plan)))
            number += 1
        if not running:
            return search
        trial, tune, reports = running.pop(0)
        result = next(reports)
        search.steps += min(trial.report_every, result["step"])
        stopped = stopper(tune.trial_id, result)
        stopped = scheduler.on_trial_result(None, tune, result) == TrialScheduler.STOP or stopped
        if stopped or result["step"] >= trial.budget_steps:
            scheduler.on_trial_complete(None, tune, result)
            complete(tune.trial_id, result)
            search.end(trial, -math.inf if stopped else result["objective"])
        else:
            running.append((trial, tune, reports))


def results(trial: TrialConfig, plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the result of each report, as Tune receives it."""
    reports: list[Any] = []
    try:
        simulated.fit(trial, plan.datasets[trial.dataset], reports.append)
    except RuntimeError:  # a simulated failure ends the trial at its last report
        reports[-1] = reports[-1].__class__(trial.budget_steps, reports[-1].metrics, reports[-1].facts, dict)
    objective = math.nan
    for report in reports:
        objective = report.metrics.get(METRIC, objective)
        message = TrialReport(
            step=report.step, objective=as_objective(objective, "max"), metrics=report.metrics, facts=report.facts
        )
        yield to_result(message)


def steps_until(search: Search, good: float) -> float:
    """Return the steps after which the chosen trial is good; infinite if it never is."""
    return next((steps for steps, trial in search.chosen if truth(trial) >= good), math.inf)


def truth(trial: TrialConfig) -> float:
    """Return the expected accuracy of the linear probe at the end of a trial."""
    value = expected_value(trial, METRIC)
    return value if math.isfinite(value) else 0.0


def main() -> None:
    """Print one row per task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--tasks", default=",".join(TASKS))
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"{'task':<20}{'random: steps':>15}{'never':>7}{'study: steps':>15}{'never':>7}{'ratio':>8}{'all steps':>11}")
    for task in arguments.tasks.split(","):
        content = {"name": "bench", "tasks": [task], "dataset": "shapes", "simulate": True}
        datasets = load_datasets(check_config(content))
        found, totals = [], []
        for seed in range(arguments.repeats):
            base = {**content, "seed": seed}
            samples = {"num_samples": arguments.samples}
            by_random = random_search(
                check_config({**base, "search": {**samples, "algorithm": "random", "scheduler": "none"}}),
                task,
                datasets,
            )
            by_study = study_search(check_config({**base, "search": samples}), task, datasets)
            good = max(truth(each.chosen[-1][1]) for each in (by_random, by_study)) - arguments.margin
            found.append([steps_until(each, good) for each in (by_random, by_study)])
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
