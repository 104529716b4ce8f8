"""The command line for existing studies: `python -m study status|list|sync|rerun|export-optuna DIR`, `embed`, `schema`.

Modules that take seconds to import (torch, MLflow models) are imported only in the commands that need them, so that
the others start at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from analysis.command_line import Version, command_with, examples, group_with, names, new_app, section
from study.cli.console import SOME_FAILED, err, out, run_app
from study.config.presets import preset_summaries
from trainables.errors import ConfigError, UserError, without_secrets

PROGRAM = "python -m study"
EXAMPLES: dict[str, dict[str, str]] = {  # by command
    "sync": {f"{PROGRAM} sync studies/quick": "what MLflow missed while it could not be reached"},
    "status": {
        f"{PROGRAM} status studies/quick": "how far a study is, from another terminal",
        f"watch -n 10 {PROGRAM} status studies/quick": "the same, every ten seconds",
    },
    "list": {f"{PROGRAM} list": "the studies in the folder studies", f"{PROGRAM} list /data/studies": "in another one"},
    "embed": {
        f"{PROGRAM} embed studies/quick photos --task rotation": "features of your images, by a study's encoder",
        f"{PROGRAM} embed models:/quick-rotation/1 photos --output rotation.parquet": "by a model in MLflow",
    },
    "rerun": {
        f"{PROGRAM} rerun studies/quick 3f2a": "train the trial again whose id begins with 3f2a, and compare its curve",
        f"{PROGRAM} rerun studies/quick 3f2a --seed 7": "the same configuration with another seed",
    },
    "schema": {f"{PROGRAM} schema --output study.schema.json": "for completion and checks of YAML in an editor"},
    "export-optuna": {
        f"{PROGRAM} export-optuna studies/quick --output quick.db": "then: optuna-dashboard sqlite:///quick.db"
    },
}

ALL_EXAMPLES = {command: purpose for own in EXAMPLES.values() for command, purpose in own.items()}

app = new_app(
    "Tools for existing studies. `python study/run.py` runs one.",
    cls=group_with(examples(ALL_EXAMPLES)),
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _options(version: Version = False) -> None:
    pass


def _command(name: str) -> Callable[..., Any]:
    """Return a decorator that adds a command whose help ends with its examples."""
    return app.command(name, cls=command_with(examples(EXAMPLES[name])))


Folder = Annotated[Path, typer.Argument(help="Folder of a study.", metavar="DIR")]


@_command("sync")
def sync_command(
    folder: Folder,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; by default the store in the study's configuration.")
    ] = None,
) -> None:
    """Send MLflow the part of a study's journal that it lacks."""
    from analysis.records import ENCODERS
    from study.execution.lock import is_driven
    from study.tracking.deleted import check_not_deleted
    from study.tracking.sync import configured_store, default_tracking_uri, sync

    _check_study(folder)
    store = tracking_uri or configured_store(folder)
    result = sync(folder, store, close_abandoned=not is_driven(folder))
    to = without_secrets(store or default_tracking_uri())
    out.print(f"{result.events} events, {result.points} metric values, {result.artifacts} files delivered to {to}")
    check_not_deleted(folder, store)
    if (folder / ENCODERS).is_dir():
        from study.export.mlflow_models import log_models

        out.print(f"models: {', '.join(log_models(folder, store))}")
    if result.refused:
        err.print(f"calls that MLflow refused, see the warnings: {result.refused}", style="red")
        raise typer.Exit(SOME_FAILED)


@_command("status")
def status_command(
    folder: Folder, json_: Annotated[bool, typer.Option("--json", metavar="", help="Print the status as JSON.")] = False
) -> None:
    """Show a study's progress, even while it runs: phases, trials by state, best results, verdicts, time left."""
    from study.cli.status import read_status, render

    _check_study(folder)
    status = read_status(folder)
    if json_:
        sys.stdout.write(json.dumps(status.to_dict()) + "\n")
    else:
        out.print(render(status))


@_command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(help="Folder that studies are written to.", metavar="DIR")] = Path(
        "studies"
    ),
) -> None:
    """List the studies in a folder, and the built-in presets."""
    from analysis.records import JOURNAL_FILE
    from study.plan.history import History

    table = Table("study", "trials", "failed", "phases done", box=box.SIMPLE_HEAD)
    in_series = folder.glob(f"*/*/{JOURNAL_FILE}")
    for path in sorted([*folder.glob(f"*/{JOURNAL_FILE}"), *in_series]):
        name = path.parent.relative_to(folder).as_posix()
        try:
            history = History.read(path.parent)
        except UserError as error:  # the others can still be listed
            table.add_row(name, "", "", f"cannot be read: {error}")
            continue
        table.add_row(name, str(len(history.trials)), str(len(history.failed())), ", ".join(history.outcomes))
    out.print(table if table.row_count else f"No studies in {folder}; `python study/run.py` runs one.")
    out.print(section("Presets", names(preset_summaries())))


@_command("embed")
def embed_command(
    model: Annotated[
        str, typer.Argument(help="models:/NAME/VERSION, runs:/ID/NAME, folder of a study, or an exported encoder.pt2")
    ],
    folder: Annotated[Path, typer.Argument(help="Folder of your images.", metavar="FOLDER")],
    task: Annotated[str | None, typer.Option(help="Task whose encoder to take from a study's folder.")] = None,
    output: Annotated[Path, typer.Option(help="File to write: NAME.parquet or NAME.csv.")] = Path("features.parquet"),
    on_bad_image: Annotated[str, typer.Option(help="`stop` at broken images, or `skip` them.")] = "stop",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; by default MLFLOW_TRACKING_URI.")] = None,
) -> None:
    """Write the features of your own images, one row per image: path, f0, f1, ...

    An MLflow model or a .pt2 file can run code when it is opened: use only tracking stores and files that you trust.
    An encoder in a study's folder is loaded from its weights alone and cannot run code. If a plug-in registered its
    architecture, the plug-in's source in the study's folder is run first.
    """
    from study.export.embed import embed, writer_of
    from study.export.encoders import load_encoder
    from trainables.data.request import ON_BAD_IMAGE

    if on_bad_image not in ON_BAD_IMAGE:
        raise ConfigError(f"--on-bad-image {on_bad_image}: must be one of {', '.join(ON_BAD_IMAGE)}")
    writer_of(output)  # before the encoder is loaded
    encoder = load_encoder(model, task=task, tracking_uri=tracking_uri)
    n_images, dim = embed(encoder, folder, output, on_bad_image=on_bad_image)
    out.print(f"{n_images} images, {dim} features each: {output}")


@_command("rerun")
def rerun_command(
    folder: Folder,
    trial: Annotated[str, typer.Argument(help="Id of a trial, or its first digits.", metavar="TRIAL")],
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Seed of the run; by default the trial's own.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder to write the run's own study to.", metavar="DIR")] = Path(
        "studies"
    ),
    download: Annotated[bool, typer.Option("--download", metavar="", help="Download missing data sets.")] = False,
) -> None:
    """Train one trial of a study again, in a study of its own; the study itself is only read.

    With the trial's own seed, it says whether all values are equal to the bit, and exits with code 1 if not.
    """
    from study.cli.reruns import show_rerun
    from study.execution.environment import check_environment
    from study.rerun import rerun

    _check_study(folder)
    check_environment()
    done = rerun(folder, trial, output, seed=seed, download=download)
    show_rerun(done)
    if done.differs:
        raise typer.Exit(SOME_FAILED)


@_command("schema")
def schema_command(
    output: Annotated[Path | None, typer.Option(help="File to write; by default standard output.")] = None,
) -> None:
    """Print the JSON schema of a study's YAML.

    An editor uses it if the first line of the YAML is `# yaml-language-server: $schema=study.schema.json`.
    """
    from study.config.json_schema import schema_text
    from trainables import files

    if output is None:
        sys.stdout.write(schema_text())
    else:
        files.write(output, schema_text().encode())
        out.print(output)


@_command("export-optuna")
def export_optuna_command(
    folder: Folder,
    output: Annotated[Path, typer.Option(help="SQLite file to write; it must not exist.")] = Path("optuna.db"),
) -> None:
    """Write the search of each task as an Optuna study to a SQLite file, for optuna-dashboard."""
    from study.export.optuna_storage import export_optuna

    _check_study(folder)
    for name, n_trials in export_optuna(folder, output).items():
        out.print(f"{name}: {n_trials} trials", highlight=False)
    out.print(f"sqlite:///{output}", highlight=False)


def main() -> None:
    """Run `python -m study`."""
    run_app(app)


def _check_study(folder: Path) -> None:
    from analysis.records import JOURNAL_FILE

    if not (folder / JOURNAL_FILE).exists():
        raise ConfigError(f"{folder} is not a study: it has no {JOURNAL_FILE}")
