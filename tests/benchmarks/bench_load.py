"""Time to load a study of 1,000 trials x 50 reports x 20 metrics. The budget is 2 s.

python tests/benchmarks/bench_load.py [--trials 1000] [--reports 50] [--metrics 20]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import analysis
from analysis.data.frames import export
from analysis.records import Report, StudyStarted, TrialEnded, TrialStarted
from study.execution.journal import Journal
from trainables.trial import TrialConfig


def main() -> None:
    """Write a journal of the given size and time each way to load it."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("trials", 1000), ("reports", 50), ("metrics", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_journal(folder, arguments.trials, arguments.reports, arguments.metrics)
        journal_s = seconds(lambda: analysis.load(folder))
        export_s = seconds(lambda: export(folder))
        parquet_s = seconds(lambda: analysis.load(folder))
        again_s = seconds(lambda: analysis.load(folder))
        study = analysis.load(folder)
        megabytes = {path.name: round(path.stat().st_size / 1e6, 1) for path in folder.iterdir()}
    print(f"{len(study.runs):,} runs, {len(study.curves):,} points, pandas {pd.__version__}, MB {megabytes}")
    print(f"load from parquet {parquet_s:.2f} s, again {again_s:.2f} s (budget 2 s)")
    print(f"load from journal {journal_s:.2f} s; export {export_s:.2f} s")


def seconds(call: Callable[[], Any]) -> float:
    """Return the wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write_journal(folder: Path, n_trials: int, n_reports: int, n_metrics: int) -> None:
    """Write a journal of `n_trials` finished trials with random curves."""
    values = np.random.default_rng(0).random((n_trials, n_reports, n_metrics))
    names = [f"health/metric_{index:02d}" for index in range(n_metrics)]
    book = Journal(folder)
    book.append(StudyStarted(study="bench", config={}, datasets={}))
    for index in range(n_trials):
        trial = TrialConfig("search", "rotation", seed=index)
        key = trial.trial_id
        book.append(TrialStarted.of(trial))
        for report in range(n_reports):
            metrics = dict(zip(names, values[index, report].tolist(), strict=True))
            book.append(Report(trial_id=key, step=25 * report, metrics=metrics))
        results = {"probe/shapes/linear": 0.5}
        book.append(TrialEnded(trial_id=key, status="FINISHED", reason="", steps=500, wall_s=1.0, results=results))
    book.close()


if __name__ == "__main__":
    main()
