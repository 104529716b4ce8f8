"""The command line: `python study/run.py [PRESET or FILE.yaml] ...` and `python -m study sync|status|list DIR`."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

from study import plain_yaml
from study.config import StudyConfig, check_config, load_config, preset_names, simulated
from study.driver import CONFIG_FILE, Outcome, load_datasets, run_study
from study.estimate import estimate
from study.history import History
from study.interruption import resuming_command, stop_on_signals
from study.journal import FILE_NAME
from study.lock import is_driven
from study.phases import Plan
from study.progress import Progress
from study.tracking import TrackingError, sync
from trainables.data.table import as_tensor
from trainables.errors import ConfigError, UserError
from trainables.self_test import self_tests

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
SELF_TEST_IMAGES = 512

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


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
        with Progress(config, console) as progress:
            outcome = run_study(config, output, download=download, fresh=fresh, listeners=[progress])
    except KeyboardInterrupt:  # of which typer would say nothing
        err.print(f"interrupted; to go on from here, type: {resuming_command()}")
        raise typer.Exit(INTERRUPTED) from None
    _show_outcome(outcome, as_json=json_)
    if outcome.failed:
        raise typer.Exit(SOME_FAILED)


tools = typer.Typer(help="Tools for studies that exist.", no_args_is_help=True, add_completion=False)


@tools.command("sync")
def sync_command(
    folder: Annotated[Path, typer.Argument(help="a study's folder", metavar="DIR")],
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; default: the study's own")] = None,
) -> None:
    """Bring MLflow up to what the study's journal says."""
    _check_study(folder)
    result = sync(folder, tracking_uri or _own_store(folder), close_abandoned=not is_driven(folder))
    out.print(f"{result.events} events, {result.points} metric values, {result.artifacts} files delivered")


@tools.command("status")
def status_command(folder: Annotated[Path, typer.Argument(help="a study's folder", metavar="DIR")]) -> None:
    """Show a study's phases and trials by state; works while it runs."""
    _check_study(folder)
    history = History.read(folder)
    counts: dict[str, Counter[str]] = {}
    for record in history.trials.values():
        counts.setdefault(record.trial.phase, Counter())[record.status or "RUNNING"] += 1
    table = Table("phase", "state", "trials", title=folder.name)
    for phase, states in counts.items():
        state = "done" if phase in history.outcomes else "running"
        table.add_row(phase, state, ", ".join(f"{count} {name.lower()}" for name, count in sorted(states.items())))
    out.print(table)


@tools.command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(help="the folder that studies are written to", metavar="DIR")] = Path(
        "studies"
    ),
) -> None:
    """List the studies in a folder, and the built-in presets."""
    table = Table("study", "trials", "failed", "phases done")
    for path in sorted(folder.glob(f"*/{FILE_NAME}")):
        history = History.read(path.parent)
        table.add_row(
            path.parent.name, str(len(history.trials)), str(len(history.failed())), ", ".join(history.outcomes)
        )
    out.print(table)
    out.print(f"presets: {', '.join(preset_names())}")


def main() -> None:
    """Run a study from the command line; errors of the user end in one line and exit code 2."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(run)
    _call(app)


def tools_main() -> None:
    """Run `python -m study`."""
    _call(tools)


def _call(app: typer.Typer) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    stop_on_signals()
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(SOME_FAILED if isinstance(error, TrackingError) else BAD_INPUT)


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


def _show_outcome(outcome: Outcome, *, as_json: bool) -> None:
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
    out.print(f"report: {outcome.report}\nruns and curves: {outcome.folder}/runs.parquet, curves.parquet")


def _own_store(folder: Path) -> str | None:
    """Return the MLflow store that the study in `folder` was configured with, if it names one."""
    file = folder / CONFIG_FILE
    return check_config(plain_yaml.load(file.read_text(encoding="utf-8"))).tracking_uri if file.exists() else None


def _check_study(folder: Path) -> None:
    if not (folder / FILE_NAME).exists():
        raise ConfigError(f"{folder} is no study: it has no {FILE_NAME}")
