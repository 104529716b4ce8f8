"""Learning curves of real trials of each task's search space, which answer the configurations that a search proposes.

    python tests/benchmarks/search_curves.py unpack FILE --to DIR              # so that they are not made again
    python tests/benchmarks/search_curves.py make --data-root DIR --to DIR     # resumes; --share 0/2 for one of two
    python tests/benchmarks/search_curves.py assemble FILE --to DIR            # writes the trials of the folder to FILE

The configurations are those of a random search on CIFAR-10. `Recorded` answers any other configuration by the recorded
one that is nearest in the search space.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from search_spaces import Domain, LogUniform, Uniform
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.plan.phases import Plan
from trainables.tasks import TASKS
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

METRIC = "probe/linear"
SEED = 2026


def config(task: str, **fields: Any) -> StudyConfig:
    """Return the study whose search is recorded: the preset `cifar10` with a narrower network and fewer steps."""
    content = {
        "name": "search-curves",
        "tasks": [task],
        "dataset": "cifar10",
        "encoder": {"name": "conv4", "width": 8},
        "budget_steps": 200,
        "report_every": 25,
        "seed": SEED,
    }
    return check_config({**content, **fields})


class Recorded:
    """Trials of one task's search, each answered by the recorded trial that is nearest in the search space.

    Args:
        path: Parquet file of `assemble`.
        task: Name of the task.
        space: Search space of the task.
    """

    def __init__(self, path: Path, task: str, space: dict[str, Domain]) -> None:
        rows = pd.read_parquet(path)
        rows = rows[rows["task"] == task]
        self._space = space
        self._reports = [
            [Report(report["step"], report["metrics"], json.loads(facts), dict) for report in json.loads(reports)]
            for reports, facts in zip(rows["reports"], rows["facts"], strict=True)
        ]
        self._points = np.array([self._point(TrialConfig.from_dict(json.loads(trial))) for trial in rows["trial"]])

    def reports(self, trial: TrialConfig) -> list[Report]:
        """Return the reports of the nearest recorded trial."""
        return self._reports[self._nearest(trial)]

    def truth(self, trial: TrialConfig) -> float:
        """Return the accuracy of the linear probe at the end of the nearest recorded trial; 0 if it is not finite."""
        value = self.reports(trial)[-1].metrics.get(METRIC, math.nan)
        return value if math.isfinite(value) else 0.0

    def _nearest(self, trial: TrialConfig) -> int:
        return int(np.square(self._points - self._point(trial)).sum(axis=1).argmin())

    def _point(self, trial: TrialConfig) -> np.ndarray:
        columns = trial.to_columns()
        return np.array([position(domain, columns[name]) for name, domain in self._space.items()])


def position(domain: Domain, value: Any) -> float:
    """Return the position of a value in its domain, from 0 to 1; the values of a choice are evenly spaced."""
    match domain:
        case Uniform():
            return (value - domain.low) / (domain.high - domain.low)
        case LogUniform():
            return math.log(value / domain.low) / math.log(domain.high / domain.low)
    values = domain.grid(0)
    return values.index(value) / max(1, len(values) - 1)


def make(root: Path, to: Path, count: int, share: int, of: int) -> None:
    """Train the trials that are not in the folder yet, one thread each."""
    torch.set_num_threads(1)
    to.mkdir(parents=True, exist_ok=True)
    plans = {}
    for task in TASKS:
        found = config(task, data_root=str(root), search={"num_samples": count, "algorithm": "random"})
        plans[task] = Plan(found, load_datasets(found))
    by_task = [plan.enumerated(task) for task, plan in plans.items()]
    trials = [trial for trials in zip(*by_task, strict=True) for trial in trials]
    for index, trial in enumerate(trials):
        path = path_of(trial.to_json(), to)
        if index % of == share and not path.exists():
            row = recorded(trial, plans[trial.task])
            path.with_suffix(".part").write_text(json.dumps(row))
            path.with_suffix(".part").rename(path)
            print(index, trial.task, f"{row['seconds']:.0f} s", flush=True)


def path_of(trial: str, folder: Path) -> Path:
    """Return the file of a trial, given as JSON."""
    return folder / f"{hashlib.sha256(trial.encode()).hexdigest()[:16]}.json"


def recorded(trial: TrialConfig, plan: Plan) -> dict[str, Any]:
    """Train a trial and return its row."""
    started, reports, facts = time.perf_counter(), [], {}

    def record(report: Report) -> None:
        kept = {name: value for name, value in report.metrics.items() if name == METRIC or name.startswith("val/")}
        reports.append({"step": report.step, "metrics": kept})
        facts.update(report.facts)

    fit(trial, plan.datasets[trial.dataset], record)
    seconds = time.perf_counter() - started
    content = {"trial": trial.to_json(), "facts": json.dumps(facts), "reports": json.dumps(reports)}
    return {"task": trial.task, **content, "seconds": seconds}


def unpack(path: Path, to: Path) -> None:
    """Write each trial of a file that `assemble` has written to a file of the folder."""
    to.mkdir(parents=True, exist_ok=True)
    for row in pd.read_parquet(path).to_dict("records"):
        path_of(row["trial"], to).write_text(json.dumps(row))


def assemble(path: Path, to: Path) -> None:
    """Write the trials of the folder to one file."""
    rows = pd.DataFrame([json.loads(each.read_text()) for each in sorted(to.glob("*.json"))])
    rows.to_parquet(path, compression="zstd", index=False)
    print(f"{rows['task'].value_counts().to_dict()}, {path.stat().st_size / 1e3:.0f} kB")


def main() -> None:
    """Record or assemble."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "unpack", "assemble"])
    parser.add_argument("file", type=Path, nargs="?", help="Parquet file to unpack, or to assemble")
    parser.add_argument("--to", type=Path, required=True, help="folder of the trials made so far")
    parser.add_argument("--data-root", type=Path, help="root of cifar10")
    parser.add_argument("--count", type=int, default=96, help="trials per task")
    parser.add_argument("--share", default="0/1", help="I/N: this process makes every N-th trial, from I on")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.data_root, arguments.to, arguments.count, *map(int, arguments.share.split("/")))
    else:
        {"unpack": unpack, "assemble": assemble}[arguments.command](arguments.file, arguments.to)


if __name__ == "__main__":
    main()
