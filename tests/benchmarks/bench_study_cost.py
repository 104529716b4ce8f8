"""Where the seconds of a study go: imports, data, Ray, trials, report, MLflow, by a whole run of a preset.

The preset runs in a process of its own, as a user would run it. Functions of the driver are timed there; what happens
inside trials follows from the times and rates in the journal. Seconds of trials are divided by the number of trials
that run at once, so that all rows add up to the elapsed time.

    python tests/benchmarks/bench_study_cost.py [--preset quick] [--set KEY=VALUE]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis import records
from analysis.records import PhaseEnded, PhaseStarted, Report, TrialEnded, TrialStarted

TIMES = "PRETEXT_STUDY_BENCH_TIMES"  # file for the durations of the driver's functions
ROOT = Path(__file__).parents[2]


def run_preset(preset: str, overrides: list[str], folder: Path) -> tuple[float, dict[str, float], float]:
    """Run a preset; return the elapsed seconds, those of the driver's functions, and when the process began."""
    times = folder / "times.json"
    command = [sys.executable, __file__, "--inside", preset, "--output", str(folder / "studies")]
    environment = {**os.environ, TIMES: str(times), "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": ""}
    arguments = [part for override in overrides for part in ("--set", override)]
    began = time.time()
    subprocess.run([*command, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.time() - began, json.loads(times.read_text()), began


def inside() -> None:
    """Run the command line with the driver's functions timed, and write the durations to a file at the end."""
    spent: dict[str, float] = {"began": time.time()}
    from study.cli import run

    main = run.main
    import study.cli.launch
    import study.driver
    from study.execution import cluster
    from study.execution.executor import Executor
    from study.tracking.sync import MlflowTracker

    spent["imports"] = time.time() - spent["began"]
    targets: list[tuple[str, Any, str]] = [
        ("data", study.cli.launch, "load_datasets"),
        ("start of Ray", cluster, "connect"),
        ("images to Ray", Executor, "__init__"),
        ("tables of results", study.driver, "export"),
        ("findings", study.driver, "compute_findings"),
        ("report", study.driver, "write_report"),
        ("encoders", study.driver, "_write_encoders"),
        ("rest of MLflow", MlflowTracker, "close"),
        ("stop of Ray", cluster, "shutdown"),
    ]
    for name, home, attribute in targets:
        setattr(home, attribute, _timed(name, getattr(home, attribute), spent))
    try:
        main()
    finally:
        Path(os.environ[TIMES]).write_text(json.dumps(spent))


def _timed(name: str, function: Callable[..., Any], spent: dict[str, float]) -> Callable[..., Any]:
    @functools.wraps(function)
    def timed(*arguments: Any, **named: Any) -> Any:
        began = time.time()
        try:
            return function(*arguments, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + time.time() - began

    return timed


def phase_rows(folder: Path) -> list[tuple[str, float]]:
    """Return the seconds of each part of each phase."""
    phases: dict[str, list[Any]] = defaultdict(list)
    phase, events = "", list(records.read(folder))
    for event in events:
        phase = event.phase if isinstance(event, PhaseStarted) else phase
        if phase:
            phases[phase].append(event)
        phase = "" if isinstance(event, PhaseEnded) else phase
    return [row for name, own in phases.items() for row in _rows(name, own)]


def _rows(phase: str, events: list[Any]) -> list[tuple[str, float]]:
    elapsed = events[-1].time - events[0].time
    started = {event.trial_id: event for event in events if isinstance(event, TrialStarted)}
    ended = {event.trial_id: event for event in events if isinstance(event, TrialEnded)}
    if not ended:
        return [(f"{phase}: no trials", elapsed)]
    training = sum(_training(started, event) for event in events if isinstance(event, Report))
    running = sum(event.wall_s or 0.0 for event in ended.values())
    slots = min(os.cpu_count() or 1, len(ended))
    waiting = min(event.time for event in started.values()) - events[0].time
    rows = {
        "until the first trial": waiting,
        "training": training / slots,
        "reports, probes": (running - training) / slots,
    }
    rows["between trials"] = elapsed - sum(rows.values())
    return [(f"{phase} ({len(ended)} trials): {name}", seconds) for name, seconds in rows.items()]


def _training(started: dict[str, TrialStarted], report: Report) -> float:
    """Return the seconds of the steps since the last report, from their rate."""
    trial, rate = started[report.trial_id].config, report.metrics.get("images_per_s")
    steps = report.step - (report.step - 1) // trial.report_every * trial.report_every
    return steps * trial.batch_size / rate if rate else 0.0


def seconds_of(*command: str) -> float:
    """Return the seconds of a command of Python, the fastest of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Print one row per part of the study, and the start of the command line and of the analysis."""
    if sys.argv[1:2] == ["--inside"]:
        sys.argv = ["study/run.py", *sys.argv[2:]]
        inside()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        elapsed, spent, began = run_preset(arguments.preset, arguments.set, Path(name))
        [folder] = [path for path in Path(name, "studies").iterdir() if (path / records.JOURNAL_FILE).exists()]
        phases = phase_rows(folder)
    start = spent.pop("began") - began
    rows = [("start of Python", start), ("imports", spent.pop("imports")), *spent.items(), *phases]
    rows.append(("everything else", elapsed - sum(seconds for _, seconds in rows)))
    for label, seconds in rows:
        print(f"{label:<48}{seconds:>8.1f} s{seconds / elapsed:>7.0%}")
    print(f"{'elapsed':<48}{elapsed:>8.1f} s")
    print(f"--help {seconds_of('study/run.py', '--help'):.2f} s")
    print(f"import analysis; analysis.load {seconds_of('-c', 'import analysis; analysis.load'):.2f} s")


if __name__ == "__main__":
    main()
