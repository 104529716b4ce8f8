"""What `study/run.py` does with its options: self tests, dry runs, and studies with their progress and outcome."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import typer
from rich.table import Table
from rich.text import Text

from study.cli.console import INTERRUPTED, err, out
from study.cli.outcome import show_outcome
from study.cli.progress import Progress
from study.cli.signals import resume_command
from study.cli.words import dataset_lines
from study.config.schema import StudyConfig
from study.driver import Outcome, load_datasets, run_study
from study.execution import cluster
from study.execution.environment import check_environment
from study.folder import as_begun, has_begun
from study.plan.feasibility import check_plan
from study.plan.phases import Plan
from study.plan.unsearched import unsearched, unsearched_lines
from study.provenance import describe
from study.series import Series
from study.timing.estimate import StudyEstimate, time_range
from study.timing.fit_to_budget import fit_to_budget, sizing_words
from study.timing.machine import Machine
from study.timing.rehearsal import this_machine
from study.tracking.sync import default_tracking_uri
from trainables.data import Splits, load_splits
from trainables.data.table import as_tensor
from trainables.tasks.self_test import self_tests

SELF_TEST_IMAGES = 512
NOT_COVERED = (
    "Steps, reports and probes of trials are timed on this machine as it is now, the rest as it was at its rehearsal. "
    "Not covered: other programs that come to use it, downloads and the reading of images, trials that crash and start "
    "again, nodes of a cluster, and what groups of workers (workers above 1) take to start and to exchange."
)


def self_test(config: StudyConfig, download: bool) -> bool:
    """Run and show the self tests of every task on the study's images; return whether all passed."""
    torch.set_num_threads(1)  # networks this small are slower with several threads
    splits = load_datasets(config, download=download)[config.dataset]
    images = as_tensor(splits.pretext_train.images[:SELF_TEST_IMAGES])
    table = Table("task", "self test", "metric", "value", "bound", "")
    passed = True
    for task in config.tasks:
        for test in self_tests(task, images, options=config.task_options.get(task)):
            passed &= test.passed
            row = (test.task, test.test, test.metric, f"{test.value:.3f}", f"{test.bound:.3f}")
            table.add_row(*row, Text("passed") if test.passed else Text("failed", style="red"))
    err.print(table)
    return passed


def run_parts(series: Series, output: Path, *, download: bool, fresh: bool, as_json: bool) -> dict[str, Outcome]:
    """Run every part of a series, show each outcome, and write the page that joins them."""
    check_environment()  # before the data are loaded, which may take minutes
    outcomes: dict[str, Outcome] = {}
    datasets: dict[str, Mapping[str, Splits]] = {}
    if series.name:  # check all parts first: an error in the last one must not surface after hours
        begun = _as_begun(series, output, fresh=fresh)
        datasets = {part: plan.datasets for part, plan in _plans(begun, download=download).items()}
        series.write_description(output)
    if series.name and any(config.workers > 1 for config in series.parts.values()):
        cluster.connect(dashboard=True)  # the first part would start Ray without it
    for part, config in series.parts.items():
        # Ray reports dead processes on standard output, which must contain nothing but the JSON.
        stdout = contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout)
        console, folder, began = err if as_json else out, series.folder(output) / config.name, time.monotonic()
        with _exit_when_interrupted(), stdout, Progress(config, console, None if fresh else folder) as progress:
            outcomes[part] = run_study(
                config,
                series.folder(output),
                download=download,
                fresh=fresh,
                listeners=[progress],
                datasets=datasets.pop(part, None),  # freed when the part ends
                say=functools.partial(console.print, highlight=False, markup=False),
            )
        if not as_json:
            tracking_uri = config.tracking_uri or default_tracking_uri()
            show_outcome(outcomes[part], config.name, tracking_uri, time.monotonic() - began)
    page = series.write_page(output)
    if as_json:
        values = {part: _outcome_values(outcome) for part, outcome in outcomes.items()}
        result = {"report": page and str(page), "parts": values} if series.name else next(iter(values.values()))
        sys.stdout.write(json.dumps(result) + "\n")
    elif page is not None:
        out.print(f"report of the whole series: {page.resolve()}", highlight=False)
    return outcomes


def _as_begun(series: Series, output: Path, *, fresh: bool) -> Mapping[str, StudyConfig]:
    """Return the configuration of every part with what a study in its folder fixed when it began."""
    if fresh:
        return series.parts
    return {part: as_begun(config, series.folder(output) / config.name) for part, config in series.parts.items()}


@contextlib.contextmanager
def _exit_when_interrupted() -> Iterator[None]:
    """Turn KeyboardInterrupt, which typer would swallow silently, into a message and exit code INTERRUPTED."""
    try:
        yield
    except KeyboardInterrupt:
        err.print(f"interrupted; to resume, run: {resume_command()}")
        if not cluster.shutdown(cluster.SHUTDOWN_PATIENCE_S):
            os._exit(INTERRUPTED)  # a normal exit would wait for Ray again
        raise typer.Exit(INTERRUPTED) from None


def show_plans(series: Series, output: Path, *, download: bool, fresh: bool, as_json: bool) -> None:
    """Show the phases of every part."""
    plans = _plans(_as_begun(series, output, fresh=fresh), download=download)
    machine, parent = this_machine(), series.folder(output)
    sized = {
        part: _sized(plan, machine, begun=not fresh and has_begun(parent / plan.config.name))
        for part, plan in plans.items()
    }
    estimates = {part: found for part, (_, found, _) in sized.items()}
    if as_json:
        values = {part: [vars(phase) for phase in own.phases] for part, own in estimates.items()}
        sys.stdout.write(json.dumps(values if series.name else next(iter(values.values()))) + "\n")
        return
    found = {name: describe(splits) for plan in plans.values() for name, splits in plan.datasets.items()}
    for line in dataset_lines(found):
        out.print(line, highlight=False, markup=False)
    for plan, found_time, lines in sized.values():
        _show_plan(plan.config, found_time)
        for line in lines:
            out.print(line, highlight=False, markup=False)
    if len(estimates) > 1:
        low, high = (math.fsum(getattr(each, end) for each in estimates.values()) for end in ("low", "high"))
        out.print(
            f"{series.name}: {time_range(low, high)} for all {len(estimates)} parts", highlight=False, markup=False
        )
    # Parts often search the same space, so the same line is printed once.
    for line in dict.fromkeys(line for plan in plans.values() for line in unsearched_lines(unsearched(plan))):
        out.print(line, highlight=False, markup=False)
    out.print(NOT_COVERED, highlight=False)


def _sized(plan: Plan, machine: Machine, *, begun: bool) -> tuple[Plan, StudyEstimate, list[str]]:
    """Return the plan that a driver would run, its estimate, and lines on its sizes, which a study that began keeps."""
    fitting, found = fit_to_budget(plan, machine, begun=begun)
    return fitting, found, [] if begun else sizing_words(fitting, found)


def _plans(configs: Mapping[str, StudyConfig], *, download: bool) -> dict[str, Plan]:
    """Return the checked plan of every part. Parts that load a data set with the same arguments share it."""
    load, plans = functools.cache(load_splits), {}
    for part, config in configs.items():
        plans[part] = Plan(config, load_datasets(config, download=download, load=load))
        check_plan(plans[part])
    return plans


def _show_plan(config: StudyConfig, found: StudyEstimate) -> None:
    table = Table("phase", "trials", "steps at most", "minutes", title=f"{config.name}: {config.dataset}")
    for phase in found.phases:
        trials, steps = (f"{count:,}" if phase.trials else "" for count in (phase.trials, phase.steps))
        ends = dict.fromkeys(f"{seconds / 60:.1f}" for seconds in (phase.low, phase.high))  # one if they look equal
        table.add_row(phase.phase, trials, steps, " to ".join(ends))
    out.print(table)
    out.print(f"{config.name}: {found.words()}", highlight=False, markup=False)


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return what `--json` prints for a study."""
    return {
        "folder": str(outcome.folder),
        "report": str(outcome.report),
        "failed": outcome.failed,
        "chosen": outcome.chosen,
        "unfinished": outcome.unfinished,
        "tracked": outcome.tracked,
    }
