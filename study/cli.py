"""The command line that runs a study: `python study/run.py [PRESET or FILE.yaml] ...`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from study import cluster
from study.config import StudyConfig, load_config, simulated
from study.console import INTERRUPTED, SOME_FAILED, call, err, out
from study.driver import Outcome, load_datasets, run_study
from study.estimate import estimate
from study.interruption import resuming_command
from study.phases import Plan
from study.progress import Progress
from study.tracking import default_tracking_uri
from trainables.data.table import as_tensor
from trainables.errors import without_secrets
from trainables.self_test import self_tests

SELF_TEST_IMAGES = 512
RAY_PATIENCE_S = 5.0  # of who has interrupted a study


def run(
    study: Annotated[str, typer.Argument(help="a preset or a YAML file", metavar="PRESET|FILE.yaml")] = "quick",
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change one setting")] = None,
    tasks: Annotated[str | None, typer.Option(help="pretext tasks, separated by commas")] = None,
    data_root: Annotated[Path | None, typer.Option(help="folder with the data sets", metavar="DIR")] = None,
    download: Annotated[bool, typer.Option("--download", help="fetch missing data sets")] = False,
    output: Annotated[Path, typer.Option(help="where studies are written", metavar="DIR")] = Path("studies"),
    fresh: Annotated[bool, typer.Option("--fresh", help="move an earlier study of this name aside")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and stop")] = False,
    self_test: Annotated[bool, typer.Option("--self-test", help="first check that the tasks can learn")] = False,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="run the plan on simulated trials of known truth")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="print the outcome as JSON on standard output")] = False,
) -> None:
    """Run a study. The same command again goes on where it stopped."""
    changes = {
        "tasks": [task.strip() for task in tasks.split(",")] if tasks else None,
        "data_root": str(data_root.expanduser().resolve()) if data_root else None,
    }
    config = load_config(study, set_, changes)
    if simulate:
        config = simulated(config)
    if self_test and not _self_test(config, download):
        raise typer.Exit(SOME_FAILED)
    if dry_run:
        _show_plan(config, download=download, as_json=json_)
        return
    console = err if json_ else out
    try:
        # Ray tells of dead processes on standard output, where nothing but the JSON belongs.
        elsewhere = contextlib.redirect_stdout(sys.stderr if json_ else sys.stdout)
        with elsewhere, Progress(config, console) as progress:
            outcome = run_study(config, output, download=download, fresh=fresh, listeners=[progress])
    except KeyboardInterrupt:  # of which typer would say nothing
        err.print(f"interrupted; to go on from here, type: {resuming_command()}")
        if not cluster.leave(RAY_PATIENCE_S):
            os._exit(INTERRUPTED)  # the interpreter would wait for Ray once more
        raise typer.Exit(INTERRUPTED) from None
    _show_outcome(outcome, config.tracking_uri or default_tracking_uri(), as_json=json_)
    if outcome.failed:
        raise typer.Exit(SOME_FAILED)


def main() -> None:
    """Run a study from the command line; errors of the user end in one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    call(app)


def _self_test(config: StudyConfig, download: bool) -> bool:
    """Run the self tests of every task on the study's images and show them; return whether all passed."""
    torch.set_num_threads(1)  # these networks are so small that several threads only wait for one another
    splits = load_datasets(config, download=download)[config.dataset]
    images = as_tensor(splits.pretext_train.images[:SELF_TEST_IMAGES])
    table = Table("task", "self test", "metric", "value", "bound", "")
    passed = True
    for task in config.tasks:
        for test in self_tests(task, images, options=config.task_options.get(task)):
            passed &= test.passed
            row = (test.task, test.test, test.metric, f"{test.value:.3f}", f"{test.bound:.3f}")
            table.add_row(*row, "passed" if test.passed else "[red]failed[/red]")
    err.print(table)
    return passed


def _show_plan(config: StudyConfig, *, download: bool, as_json: bool) -> None:
    plan = Plan(config, load_datasets(config, download=download))
    plan.check()
    phases = estimate(plan)
    if as_json:
        sys.stdout.write(json.dumps([vars(phase) for phase in phases]) + "\n")
        return
    table = Table("phase", "trials", "steps at most", "minutes at most", title=f"{config.name}: {config.dataset}")
    for phase in phases:
        table.add_row(phase.phase, str(phase.trials), f"{phase.steps:,}", f"{phase.seconds / 60:.1f}")
    out.print(table)
    out.print("Time is of training steps alone, measured on this machine; reports and probes come on top.")


def _show_outcome(outcome: Outcome, tracking_uri: str, *, as_json: bool) -> None:
    if as_json:
        values: dict[str, Any] = {
            "folder": str(outcome.folder),
            "report": str(outcome.report),
            "failed": outcome.failed,
            "chosen": outcome.chosen,
        }
        sys.stdout.write(json.dumps(values) + "\n")
        return
    table = Table("task", "lr", "batch", "augment", "metric", "mean of seeds")
    for task, choice in outcome.chosen.items():
        config = choice["config"]
        table.add_row(
            task,
            f"{config['lr']:.2g}",
            str(config["batch_size"]),
            f"{config['augmentation_strength']:.2f}",
            choice["metric"],
            f"{choice['mean']:.3f} of {len(choice['seeds'])}",
        )
    out.print(table)
    if outcome.failed:
        err.print(f"{len(outcome.failed)} trials failed; the report says why", style="red")
    if not outcome.tracked:
        err.print(f"MLflow is behind; `python -m study sync {outcome.folder}` brings it up to date")
    # In full, since `ray submit` runs in the home folder of another machine.
    for name, place in (("report", outcome.report), ("runs and curves", outcome.folder)):
        out.print(f"{name}: {place.resolve()}", highlight=False)
    out.print(f"MLflow: {without_secrets(tracking_uri)}", highlight=False)
