"""The command line for studies that exist: `python -m study sync|status|list DIR`, `embed MODEL FOLDER`.

What trains takes many seconds to import; nothing here does so at its top, since these commands are for a glance.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from analysis.records import CONFIG_FILE, ENCODERS, JOURNAL_FILE
from study.cli.console import call, out
from study.cli.status import read_status, render
from study.config import strict_yaml
from study.execution.lock import is_driven
from study.plan.history import History
from study.tracking.sync import sync
from trainables.errors import ConfigError

app = typer.Typer(help="Tools for studies that exist.", no_args_is_help=True, add_completion=False)

Folder = Annotated[Path, typer.Argument(help="a study's folder", metavar="DIR")]


@app.command("sync")
def sync_command(
    folder: Folder,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; default: the study's own")] = None,
) -> None:
    """Bring MLflow up to what the study's journal says."""
    _check_study(folder)
    store = tracking_uri or _own_store(folder)
    result = sync(folder, store, close_abandoned=not is_driven(folder))
    out.print(f"{result.events} events, {result.points} metric values, {result.artifacts} files delivered")
    if (folder / ENCODERS).is_dir():
        from study.export.mlflow_models import log_models

        out.print(f"models: {', '.join(log_models(folder, store))}")


@app.command("status")
def status_command(
    folder: Folder, json_: Annotated[bool, typer.Option("--json", help="print it as JSON")] = False
) -> None:
    """Show how a study stands: phases, trials by state, best so far, verdicts, time left; works while it runs."""
    _check_study(folder)
    status = read_status(folder)
    if json_:
        sys.stdout.write(json.dumps(status.to_dict()) + "\n")
    else:
        out.print(render(status))


@app.command("list")
def list_command(
    folder: Annotated[Path, typer.Argument(help="the folder that studies are written to", metavar="DIR")] = Path(
        "studies"
    ),
) -> None:
    """List the studies in a folder, and the built-in presets."""
    from study.config.loading import preset_names, series_names

    table = Table("study", "trials", "failed", "phases done")
    for path in sorted(
        [*folder.glob(f"*/{JOURNAL_FILE}"), *folder.glob(f"*/*/{JOURNAL_FILE}")]
    ):  # the latter of series
        history = History.read(path.parent)
        name = path.parent.relative_to(folder).as_posix()
        table.add_row(name, str(len(history.trials)), str(len(history.failed())), ", ".join(history.outcomes))
    out.print(table)
    out.print(f"presets: {', '.join([*preset_names(), *series_names()])}")


@app.command("embed")
def embed_command(
    model: Annotated[
        str, typer.Argument(help="models:/NAME/VERSION, runs:/ID/NAME, a study's folder, or an exported encoder.pt2")
    ],
    folder: Annotated[Path, typer.Argument(help="the folder of your images", metavar="FOLDER")],
    task: Annotated[str | None, typer.Option(help="which of a study's encoders")] = None,
    output: Annotated[Path, typer.Option(help="the parquet file to write")] = Path("features.parquet"),
    on_bad_image: Annotated[str, typer.Option(help="stop, or skip to leave broken images out")] = "stop",
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow store; default: MLFLOW_TRACKING_URI")] = None,
) -> None:
    """Write the features of your own images, one row an image: path, f0, f1, ...

    A model of MLflow or a .pt2 file can run code when it is opened: take your own tracking store's and your own files.
    An encoder of a study's folder is loaded from its weights alone.
    """
    from study.export.embed import embed
    from study.export.encoders import load_encoder
    from trainables.data.request import ON_BAD_IMAGE

    if on_bad_image not in ON_BAD_IMAGE:
        raise ConfigError(f"--on-bad-image {on_bad_image}: must be one of {', '.join(ON_BAD_IMAGE)}")
    loaded = load_encoder(model, task=task, tracking_uri=tracking_uri)
    n_images, dim = embed(loaded, folder, output, on_bad_image=on_bad_image)
    out.print(f"{n_images} images, {dim} features each: {output}")


def main() -> None:
    """Run `python -m study`."""
    call(app)


def _own_store(folder: Path) -> str | None:
    """Return the MLflow store that the study in `folder` was configured with, if it names one."""
    from study.config.validation import check_config

    file = folder / CONFIG_FILE
    return check_config(strict_yaml.load(file.read_text(encoding="utf-8"))).tracking_uri if file.exists() else None


def _check_study(folder: Path) -> None:
    if not (folder / JOURNAL_FILE).exists():
        raise ConfigError(f"{folder} is no study: it has no {JOURNAL_FILE}")
