"""Overhead of a trial with one worker: Ray Tune, Ray Train, journal and MLflow together.

Empty trials (an untrained encoder without probes) run through the executor of a study. The steady state is the
difference in time between many and few trials, divided by the difference in their number, which excludes the start of
Ray and of the first actors.

    python tests/benchmarks/bench_trial_cost.py [--trials 100]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from study.config.validation import check_config
from study.driver import load_datasets
from study.execution import cluster
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.plan.history import History
from study.plan.phases import Plan
from study.provenance import study_started
from study.tracking.sync import MlflowTracker
from trainables.trial import RANDOM_INIT, TrialConfig


def main() -> None:
    """Print the seconds per trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    trials = parser.parse_args().trials
    cluster.connect(cpus=2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "bench")
        config = check_config({"name": "bench", "max_train": 200, "tracking_uri": f"sqlite:///{name}/mlflow.db"})
        plan = Plan(config, load_datasets(config))
        history, journal = History(), Journal(folder)
        journal.listeners.append(history.observe)
        tracker = MlflowTracker(folder, config.tracking_uri)
        tracker.start()
        journal.append(study_started(plan))
        executor = Executor(plan, folder, journal, history)
        few = max(2, trials // 5)
        seconds = {count: _run(executor, count, first=1000 * i) for i, count in enumerate((few, few, trials))}
        began = time.perf_counter()
        tracker.close(timeout_s=120)
        journal.close()
        behind = time.perf_counter() - began
    steady = (seconds[trials] - seconds[few]) / (trials - few)
    print(f"{trials} trials {seconds[trials]:.2f} s, {few} trials {seconds[few]:.2f} s: {steady:.3f} s per trial")
    print(f"MLflow was {behind:.1f} s behind at the end, {behind / (trials + 2 * few):.3f} s per trial")


def _run(executor: Executor, count: int, first: int) -> float:
    began = time.perf_counter()
    executor.run(
        [TrialConfig(phase="bench", task=RANDOM_INIT, budget_steps=0, seed=first + i) for i in range(count)], "bench"
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
