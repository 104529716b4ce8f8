"""Simulated studies that run in this process, without Ray, for the tests of pages over several studies."""

from __future__ import annotations

from pathlib import Path

from analysis import records
from analysis.records import FAILED, FINISHED
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.execution.journal import Journal
from study.execution.sequence import run_phases
from study.plan.feasibility import check_plan
from study.plan.history import History
from study.plan.phases import Plan
from study.provenance import study_started
from study.series import Series
from study.timing.budget import TimeBudget
from trainables import simulated
from trainables.training.loop import Report
from trainables.trial import TrialConfig


def simulate_series(series: Series, output: Path) -> Path:
    """Run every part of a series on simulated trials; return the folder around them, its page not yet written."""
    series.write_description(output)
    for config in series.parts.values():
        simulate(config, series.folder(output))
    return series.folder(output)


def simulate(config: StudyConfig, output: Path) -> Path:
    """Run one study on simulated trials, its search as a random one; return its folder."""
    plan = Plan(config, load_datasets(config))
    check_plan(plan)
    folder, history = output / config.name, History()
    journal = Journal(folder)
    journal.listeners.append(history.observe)
    journal.append(study_started(plan))
    run_phases(plan, SimulatedExecutor(plan, journal), history, TimeBudget())  # type: ignore[arg-type]
    journal.append(records.StudyEnded(status=FINISHED))
    journal.close()
    return folder


def simulated_config(output: Path) -> StudyConfig:
    """Return the study of the fixture `simulated_study`, with its ablations, and an MLflow store in `output`."""
    return check_config(
        {
            "name": "simulated",
            "simulate": True,
            "dataset": "cifar10",
            "tasks": ["rotation", "context_prediction"],
            "budget_steps": 400,
            "report_every": 50,
            "search": {"num_samples": 12, "space": {"lr": {"loguniform": [3e-4, 1e-2]}, "batch_size": [32, 64]}},
            "confirm": {"top_k": 1, "seeds": 3},
            "ablate": {
                "designs": ["size_by_strength", "pairs", "cures"],
                "seeds": 5,
                "sizes": [200, 1000, 4000, None],
                "cures": {"width": [8], "n_images": [200], "context_prediction": {"option/pairs_per_image": [1]}},
            },
            "tracking_uri": f"sqlite:///{output / 'mlflow.db'}",
        }
    )


class SimulatedExecutor:
    """Does what `study.execution.executor.Executor` does, a trial after the other, without a deadline."""

    out_of_time = False

    def end_stopped(self, phase: str) -> None: ...

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.plan, self.journal = plan, journal

    def search(self, *tasks: str) -> None:
        for task in tasks:
            self.run(self.plan.enumerated(task), "search")  # type: ignore[arg-type]

    def run(self, trials: list[TrialConfig], phase: str) -> bool:
        for trial in trials:
            self._run(trial)
        return True

    def _run(self, trial: TrialConfig) -> None:
        name, datasets = trial.trial_id, self.plan.datasets
        steps: list[int] = [0]

        def report(made: Report) -> None:
            if len(steps) == 1:
                self.journal.append(records.Facts(trial_id=name, **made.facts))
            steps.append(made.step)
            self.journal.append(records.Report(trial_id=name, step=made.step, metrics=made.metrics))

        self.journal.append(records.TrialStarted.of(trial))
        ended = {"status": FINISHED, "reason": "", "results": {}}
        try:
            if trial.trains:
                simulated.fit(trial, datasets[trial.dataset], report)
            ended |= vars(simulated.evaluate(trial, datasets))
        except RuntimeError as error:  # the simulated failure
            ended |= {"status": FAILED, "reason": f"RuntimeError: {error}"}
        self.journal.append(records.TrialEnded(trial_id=name, steps=steps[-1], wall_s=1.0, checkpoint="", **ended))
