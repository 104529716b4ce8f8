"""The command line that runs a study: `python study/run.py [PRESET or FILE.yaml] ...`.

Torch, Ray and MLflow take seconds to import, so they are imported where a study runs: `--help` and completion are fast.
"""

from __future__ import annotations

import os
from glob import escape
from pathlib import Path
from typing import Annotated

import typer

from analysis.command_line import Version, command_with, examples, names, new_app, section
from study.cli.console import SOME_FAILED, run_app
from study.config.presets import preset_summaries
from trainables import files
from trainables.errors import ConfigError

PROGRAM = "python study/run.py"
REFERENCE = "reference"  # recipes with published results, which are not a study
EXAMPLES = {
    f"{PROGRAM}": "the smallest study, on generated images",
    f"{PROGRAM} small_data --dry-run": "what a study would run, and how long it takes",
    f"{PROGRAM} quick --set confirm.seeds=10 --set name=quick-10": (
        "the same study with more seeds, under a name of its own"
    ),
    f"{PROGRAM} cifar10 --hours 3 --data-root ~/data": "as many seeds, steps and trials as fit into three hours",
    f"{PROGRAM} my_study.yaml --data-root ~/data": "a study of your own",
    f"{PROGRAM} small_data --simulate": "try the report in a minute: no network is trained",
    f"{PROGRAM} {REFERENCE} --data-root ~/data": "compare the trainers with published results on CIFAR-10",
}


def _complete_study(incomplete: str) -> list[tuple[str, str]]:
    """Return the presets and YAML files that begin with what was typed, each with what it is for."""
    presets = [(name, text) for name, text in preset_summaries().items() if name.startswith(incomplete)]
    folder, begin = os.path.split(incomplete)
    files = [path for pattern in ("*.yaml", "*.yml", "*/") for path in Path(folder).glob(f"{escape(begin)}{pattern}")]
    return [*presets, *((f"{path}/" if path.is_dir() else str(path), "") for path in sorted(files))]


def _complete_tasks(incomplete: str) -> list[str]:
    """Return what was typed with its last task completed; tasks that are listed already are not offered again."""
    from trainables.tasks import TASKS

    *listed, last = incomplete.split(",")
    rest = [task for task in TASKS if task not in listed and task.startswith(last)]
    return [",".join([*listed, task]) for task in rest]


def _check_home() -> None:
    """Raise ConfigError if the user has no home folder, without which Ray cannot even be imported."""
    try:
        Path.home()
    except RuntimeError as error:  # the system's list of users lacks this one, as in many containers
        raise ConfigError(
            f"user {os.getuid()} has no home folder, which Ray needs; set HOME to a folder that you can write to, "
            "for example HOME=/tmp/home"
        ) from error


def run(
    study: Annotated[
        str,
        typer.Argument(help="A preset or a YAML file.", metavar="PRESET|FILE.yaml", autocompletion=_complete_study),
    ] = "quick",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the YAML; may be repeated."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(metavar="TASK,TASK", help="Pretext tasks to run.", autocompletion=_complete_tasks),
    ] = None,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE|FILE.py", help="Add tasks, encoders, data sets or ops; may be repeated."),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(metavar="HOURS", help="Size the study to this time, and stop with a report when it is over."),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder with the data sets.", metavar="DIR")] = None,
    download: Annotated[bool, typer.Option("--download", metavar="", help="Download missing data sets.")] = False,
    output: Annotated[Path, typer.Option(help="Folder to write studies to.", metavar="DIR")] = Path("studies"),
    fresh: Annotated[
        bool, typer.Option("--fresh", metavar="", help="Move an earlier study of this name aside.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Print the plan and stop.")] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", metavar="", help="Check first that the tasks can learn.")
    ] = False,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", metavar="", help="Run the plan on simulated trials whose true effects are known."),
    ] = False,
    json_: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the outcome as JSON on standard output.")
    ] = False,
    version: Version = False,
) -> None:
    """Run a study: find the pretext task that suits your images, with its settings, and the effect of each change.

    To resume a study where it stopped, run the same command again.
    """
    if study == REFERENCE:
        from study.cli.reference import check_options, run_reference

        refused = {"--set": set_, "--plugin": plugin, "--hours": hours, "--download": download, "--fresh": fresh}
        check_options(refused | {"--self-test": self_test, "--simulate": simulate})
        run_reference(tasks, data_root, output, dry_run=dry_run, as_json=json_)
        return
    _check_home()
    from study.cli import launch
    from study.series import load_series

    changes = {
        "tasks": [task.strip() for task in tasks.split(",")] if tasks else None,
        "plugins": plugin,
        "budget_hours": hours,
        "data_root": str(files.expanded(data_root).resolve()) if data_root else None,
    }
    series = load_series(study, set_, changes)
    if simulate:
        series = series.simulated()
    if self_test and not all(launch.self_test(config, download) for config in series.parts.values()):
        raise typer.Exit(SOME_FAILED)
    if dry_run:
        launch.show_plans(series, output, download=download, fresh=fresh, as_json=json_)
        return
    outcomes = launch.run_parts(series, output, download=download, fresh=fresh, as_json=json_)
    if any(outcome.failed for outcome in outcomes.values()):
        raise typer.Exit(SOME_FAILED)


def main() -> None:
    """Run the command line; a user error is reported in one line and exits with code 2."""
    app = new_app()
    parts = section("Presets", names(preset_summaries())), examples(EXAMPLES)
    app.command(cls=command_with(*parts))(run)
    run_app(app)
