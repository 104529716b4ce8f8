"""Costs of studies of 100, 1,000 and 10,000 trials for their driver and for the analysis, as a table and a plot.

Trials are simulated, so all measured time is the harness's own: Ray Tune, Ray Train, journal, MLflow, frames, report.
Each study runs in a separate process, which is observed from outside. Times are CPU times, which are valid on a busy
machine, except for those called wall. Ten thousand trials take about twenty minutes on two otherwise idle cores.

    python tests/benchmarks/bench_scale.py [--trials 100 1000 10000] [--results scale.json] [--plot scale.png]
    python tests/benchmarks/bench_scale.py --decisions    # time per decision of TPE and ASHA, without Ray

--results keeps the measurements: sizes that are already in the file are not run again. Nothing here is a test.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import psutil

import analysis
from analysis.records import JOURNAL_FILE, PhaseEnded, PhaseStarted, Report, read
from analysis.records.phases import SEARCH
from study.cli.status import read_status
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.driver import load_datasets
from study.execution.search import PerTaskASHA, PerTaskSearcher, tpe
from study.plan.history import History
from study.plan.phases import Plan
from study.tracking.sync import sync

REPOSITORY = Path(__file__).resolve().parents[2]
STEPS, EVERY = 100, 50  # three reports per trial
LOOK_S = 0.5
MOST_DRAINED = 1000  # most trials whose delivery to an empty MLflow store is timed; it takes longer than all the rest
COLUMNS = {
    "trials": "trials",
    "wall_ms": "wall, ms per trial",
    "driver_ms": "driver, ms per report",
    "growth": "the same, last tenth relative to the first",
    "driver_mb": "driver MB at the end",
    "driver_kb": "driver kB per trial",
    "journal_kb": "journal kB per trial",
    "report_ms": "frames and report, ms per trial",
    "load_ms": "load, ms per trial",
    "status_ms": "status, ms per trial",
    "resume_ms": "reading the journal to resume, ms per trial",
    "mlflow_ms": "delivery to MLflow, wall, ms per trial",
}


def main() -> None:
    """Measure each size, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--algorithm", default="random", choices=("random", "optuna"))
    parser.add_argument("--scheduler", default="none", choices=("none", "asha"))
    parser.add_argument("--results", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--decisions", action="store_true")
    arguments = parser.parse_args()
    if arguments.decisions:
        decisions(max(arguments.trials))
        return
    kept = arguments.results and arguments.results.exists()
    rows: list[dict[str, float]] = json.loads(arguments.results.read_text()) if kept else []
    for trials in arguments.trials:
        if trials not in [row["trials"] for row in rows]:
            rows.append(measured(trials, arguments.algorithm, arguments.scheduler))
            if arguments.results:
                arguments.results.write_text(json.dumps(rows, indent=1))
    rows.sort(key=lambda row: row["trials"])
    print(table(rows))
    if arguments.plot:
        plot(rows, arguments.plot)


def configured(trials: int, algorithm: str = "random", scheduler: str = "none") -> StudyConfig:
    """Return a study whose search has the given number of simulated trials, with three reports each."""
    content: dict[str, Any] = {
        "name": f"scale-{trials}",
        "simulate": True,
        "tasks": ["rotation"],
        "budget_steps": STEPS,
        "report_every": EVERY,
        "search": {"num_samples": trials, "algorithm": algorithm, "scheduler": scheduler, "chance_patience": 0},
        "confirm": {"top_k": 1, "seeds": 2},
    }
    return check_config(content)


def measured(trials: int, algorithm: str, scheduler: str) -> dict[str, float]:
    """Run a study of the given size, then repeat and time each step that follows the trials."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        root = Path(name)
        looks = watched(configured(trials, algorithm, scheduler), root)
        folder = root / "out" / f"scale-{trials}"
        events = list(read(folder))
        began, ended = (
            next(event.time for event in events if isinstance(event, kind) and event.phase == SEARCH)
            for kind in (PhaseStarted, PhaseEnded)
        )
        last = max(event.time for event in events if isinstance(event, PhaseEnded))
        reports = [event.time for event in events if isinstance(event, Report) and began <= event.time <= ended]
        cuts = np.quantile(reports, [0, 0.1, 0.9, 1])
        cpu = np.interp(cuts, looks["time"], looks["cpu"])
        rss = np.interp([began, ended], looks["time"], looks["rss"])
        report_s = float(np.diff(np.interp([last, events[-1].time], looks["time"], looks["cpu"]))[0])
        row = {
            "trials": trials,
            "wall_ms": 1000 * (ended - began) / trials,
            "driver_ms": 1000 * (cpu[3] - cpu[0]) / len(reports),
            "growth": (cpu[3] - cpu[2]) / (cpu[1] - cpu[0]),
            "driver_mb": rss[1] / 1e6,
            "driver_kb": (rss[1] - np.interp(cuts[1], looks["time"], looks["rss"])) / 0.9 / trials / 1e3,
            "journal_kb": (folder / JOURNAL_FILE).stat().st_size / trials / 1e3,
            "report_ms": 1000 * report_s / trials,
            "load_ms": 1000 * seconds(lambda: analysis.load(folder)) / trials,
            "status_ms": 1000 * seconds(lambda: read_status(folder)) / trials,
            "resume_ms": 1000 * seconds(lambda: History.read(folder)) / trials,
            "mlflow_ms": float("nan"),
        }
        if trials <= MOST_DRAINED:
            began = time.perf_counter()
            sync(folder, f"sqlite:///{root / 'again.db'}")
            row["mlflow_ms"] = 1000 * (time.perf_counter() - began) / trials
    return {name: float(value) for name, value in row.items()}


def watched(config: StudyConfig, root: Path) -> dict[str, np.ndarray]:
    """Run a study; return samples of time (s since the epoch), CPU time of the main thread (s), and RSS (bytes)."""
    (root / "study.yaml").write_text(config.to_yaml(), encoding="utf-8")
    command = [sys.executable, str(REPOSITORY / "study" / "run.py"), "study.yaml", "--output", "out"]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'mlflow.db'}"}
    looks: list[tuple[float, float, float]] = []
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            own = next(thread for thread in driver.threads() if thread.id == process.pid)
            looks.append((time.time(), own.user_time + own.system_time, driver.memory_info().rss))
        except (psutil.Error, StopIteration):
            break  # the study has just ended
        time.sleep(LOOK_S)
    if process.wait():
        raise SystemExit((root / "log").read_text(encoding="utf-8"))
    return dict(zip(("time", "cpu", "rss"), np.array(looks).T, strict=True))


def decisions(most: int) -> None:
    """Print the CPU time of a TPE suggestion and of an ASHA decision, for up to `most` trials of one task."""
    config = configured(most, "optuna")
    plan = Plan(config, load_datasets(config))
    base = plan.search_base("rotation")
    searches = PerTaskSearcher({"rotation": tpe(plan, History(), "rotation")}, {"rotation": base})
    halving = PerTaskASHA(max_t=STEPS, grace_period=EVERY // 2, reduction_factor=3)
    rng = np.random.default_rng(0)
    print(f"{'trials':>8}{'TPE, ms per suggestion':>24}{'ASHA, ms per decision':>24}")
    spent, decided, first = 0.0, 0.0, 0
    marks = [n for n in (100, 300, 1000, 2000, 3000, 5000, 10_000) if n <= most]
    for index in range(most):
        began = time.process_time()
        searches.suggest(str(index))
        value = float(rng.random())
        searches.on_trial_complete(str(index), {"objective": value})
        spent += time.process_time() - began
        trial = _Trial(str(index))
        began = time.process_time()
        halving.on_trial_add(None, trial)
        halving.on_trial_result(None, trial, {"step": EVERY, "objective": value})
        decided += time.process_time() - began
        if index + 1 in marks:
            count = index + 1 - first
            print(f"{index + 1:>8}{1000 * spent / count:>24.1f}{1000 * decided / count:>24.2f}", flush=True)
            spent, decided, first = 0.0, 0.0, index + 1


class _Trial:
    """A trial with only what a scheduler reads."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id, self.config = trial_id, {"task": "rotation"}


def seconds(call: Callable[[], Any]) -> float:
    """Return the CPU time of one call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def table(rows: list[dict[str, float]]) -> str:
    """Return the rows as a Markdown table with one line per measure."""
    lines = [[COLUMNS[name], *(_number(row[name], _digits(name)) for row in rows)] for name in COLUMNS]
    lines.insert(1, ["---"] * (len(rows) + 1))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plot(rows: list[dict[str, float]], path: Path) -> None:
    """Plot every measure against the number of trials; a constant cost per trial is a flat line."""
    mpl.use("agg")
    import matplotlib.pyplot as plt

    names = [name for name in COLUMNS if name not in ("trials", "growth", "driver_mb")]
    figure, grid = plt.subplots(3, 3, figsize=(10, 7.5), layout="constrained", sharex=True)
    trials = [row["trials"] for row in rows]
    for name, ax in zip(names, grid.flat, strict=True):
        values = np.array([row[name] for row in rows])
        ax.plot(trials, values, marker="o")
        ax.set_title(COLUMNS[name], fontsize=10, loc="left")
        ax.set_xscale("log")
        ax.set_ylim(0, 1.25 * np.nanmax(values))
        ax.grid(axis="y", color="0.9")
    for ax in grid[-1]:
        ax.set_xlabel("number of trials")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:,.{digits}f}"


def _digits(name: str) -> int:
    return 0 if name in ("trials", "driver_mb", "wall_ms") else 2


if __name__ == "__main__":
    main()
