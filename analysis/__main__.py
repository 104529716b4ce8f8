"""`python -m analysis report|export DIR`: a study's results without starting a notebook."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis import frames
from analysis.load import load
from analysis.report import write_report
from trainables.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A study's folder, OUTPUT/NAME.", show_default=False)]


class Format(enum.StrEnum):
    """File formats of the exported frames."""

    PARQUET = "parquet"
    CSV = "csv"


@app.command()
def report(folder: Folder) -> None:
    """Write report.html and figures/ into DIR."""
    typer.echo(write_report(folder))


@app.command()
def export(folder: Folder, format: Annotated[Format, typer.Option(help="File format.")] = Format.PARQUET) -> None:
    """Write the frames, runs and curves, into DIR."""
    if format is Format.PARQUET:
        frames.export(folder)
        names = [frames.RUNS_FILE, frames.CURVES_FILE]
    else:
        study = load(folder)
        names = ["runs.csv", "curves.csv"]
        for name, frame in zip(names, (study.runs, study.curves), strict=True):
            frame.to_csv(folder / name, index=False)
    for name in names:
        typer.echo(folder / name)


def main() -> None:
    """Run the command line; an error the user can mend is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
