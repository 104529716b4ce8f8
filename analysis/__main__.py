"""A study's results on the command line.

SOURCE is a study's folder, or an MLflow tracking URI together with --study NAME.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from analysis.command_line import Version, command_with, examples, group_with, new_app
from analysis.printing import effect_table, plain_table, print_all_columns, verdict_table, warn_if_simulated
from trainables import files
from trainables.errors import UserError

if TYPE_CHECKING:
    from analysis.data.study import Study

PROGRAM = "python -m analysis"
EXAMPLES: dict[str, dict[str, str]] = {  # by command
    "report": {
        f"{PROGRAM} report studies/quick": "write the report of a study again",
        f"{PROGRAM} report sqlite:///mlflow.db --study quick --output results": "from MLflow",
    },
    "verdicts": {f"{PROGRAM} verdicts studies/quick --task rotation": "did rotation converge, and if not, why?"},
    "effects": {
        f"{PROGRAM} effects studies/small-data": "the effect of each change of the ablation",
        f"{PROGRAM} effects studies/small-data --metric val/accuracy --csv": "for the task's own metric, as CSV",
    },
    "compare": {
        f"{PROGRAM} compare studies/quick studies/quick-wide": "what differs between two studies, and which did better",
        f"{PROGRAM} compare studies/quick sqlite:///mlflow.db#wide --output wide": "with a study in MLflow",
    },
    "export": {f"{PROGRAM} export studies/quick --output results --format csv": "all trials and curves as CSV"},
}
ALL_EXAMPLES = {command: purpose for own in EXAMPLES.values() for command, purpose in own.items()}

app = new_app(__doc__, cls=group_with(examples(ALL_EXAMPLES)), add_completion=False, no_args_is_help=True)


@app.callback()
def _options(version: Version = False) -> None:
    pass


def _command(name: str) -> Callable[..., Any]:
    """Return a decorator that adds a command whose help ends with its examples."""
    return app.command(name, cls=command_with(examples(EXAMPLES[name])))


Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="A study's folder, or a tracking URI.", show_default=False)
]
StudyName = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="The study's name, for a tracking URI.", show_default=False),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", metavar="FOLDER", help="Where to write; by default the study's folder.", show_default=False
    ),
]
Task = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only this task.", show_default=False)]
AsCsv = Annotated[bool, typer.Option("--csv", metavar="", help="All columns as CSV.")]
AsJson = Annotated[bool, typer.Option("--json", metavar="", help="All columns as JSON, a list of rows.")]

URI = "://"


class Format(enum.StrEnum):
    """File formats of the exported frames."""

    PARQUET = "parquet"
    CSV = "csv"


@_command("report")
def report(source: Source, study: StudyName = None, output: Output = None) -> None:
    """Write report.html and figures/ of a study or of a series of studies."""
    from analysis.data.load import load  # these take seconds to import, which `--help` must not
    from analysis.findings import compute_findings
    from analysis.pages import series
    from analysis.report import write_report

    folder = _output(source, output)
    if study is None and output is None and series.is_series(folder):
        typer.echo(series.write_page(folder))
        return
    findings = compute_findings(load(source, study))
    folder.mkdir(parents=True, exist_ok=True)
    typer.echo(write_report(folder, findings, source=source))


@_command("verdicts")
def verdicts(
    source: Source, study: StudyName = None, task: Task = None, csv: AsCsv = False, as_json: AsJson = False
) -> None:
    """Print whether each trial converged, with the evidence and the remedy."""
    from analysis.data.load import load
    from analysis.findings import compute_findings

    loaded = load(source, study)
    found = compute_findings(loaded, task=task).verdicts
    if not print_all_columns(found, csv, as_json):
        warn_if_simulated(loaded)
        Console(highlight=False).print(verdict_table(found))


@_command("effects")
def effects(
    source: Source,
    study: StudyName = None,
    task: Task = None,
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="A column of `runs` or a curve; default: final linear probe."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="CELL", help="Compare every cell with this one; default: its design's baseline."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(metavar="X", help="The smallest difference that matters; default: the study's margin."),
    ] = None,
    csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Print the effect of each cell of the ablation, compared with its baseline and with untrained encoders."""
    from analysis.data.load import load
    from analysis.findings import compute_findings

    loaded = load(source, study)
    found = compute_findings(loaded, task=task, metric=metric, baseline=baseline, margin=margin).every_effect
    if found.empty:
        raise UserError(f"{loaded.name}: nothing was compared; name designs under `ablate` in the study's YAML")
    if not print_all_columns(found, csv, as_json):
        warn_if_simulated(loaded)
        for (name, design, reference, measured), rows in found.groupby(
            ["task", "design", "baseline", "metric"], sort=False
        ):
            title = f"{name}, {design}: {measured} against {reference}"
            Console(highlight=False).print(effect_table(rows, title))


@_command("compare")
def compare(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE SOURCE...", help="Folders of studies, or URI#NAME.", show_default=False),
    ],
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="A final result; default: those of the report.", show_default=False),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(metavar="X", help="The smallest difference that matters; default: the first study's margin."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="Where to write the page.")] = Path(
        "comparison"
    ),
    csv: AsCsv = False,
    as_json: AsJson = False,
) -> None:
    """Compare studies with the first one: settings and test results, as a page with figures.

    Results are paired by seed where the images are the same.
    """
    from analysis.comparisons.studies import compare_studies

    comparison = compare_studies(*sources, metric=metric, margin=margin)
    if print_all_columns(comparison.effects, csv, as_json):
        return
    from analysis.pages.comparison import comparison_sentences, write_comparison

    warn_if_simulated(*comparison.studies.values())
    console = Console(highlight=False)
    console.print(plain_table(comparison.settings))
    for sentence in comparison_sentences(comparison):
        console.print(escape(sentence.replace("**", "")))
    folder = files.expanded(output)
    folder.mkdir(parents=True, exist_ok=True)
    typer.echo(write_comparison(folder, comparison, sources))


@_command("export")
def export(
    source: Source,
    study: StudyName = None,
    output: Output = None,
    format: Annotated[Format, typer.Option(help="File format.")] = Format.PARQUET,
) -> None:
    """Write the frames `runs` and `curves` to files."""
    from analysis.data import frames
    from analysis.data.load import load
    from analysis.records.layout import CURVES_FILE, RUNS_FILE

    folder = _output(source, output)
    if format is Format.PARQUET and folder == files.expanded(source):
        frames.export(folder)
        names = [RUNS_FILE, CURVES_FILE]
    else:
        names = _write_frames(load(source, study), folder, format)
    for name in names:
        typer.echo(folder / name)


def _write_frames(study: Study, folder: Path, format: Format) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{name}.{format}" for name in ("runs", "curves")]
    for name, frame in zip(names, (study.runs, study.curves), strict=True):
        if format is Format.CSV:
            frame.to_csv(folder / name, index=False)
        else:
            frame.to_parquet(folder / name, index=False)
    return names


def _output(source: str, output: Path | None) -> Path:
    if output is None and URI in source:
        raise UserError(f"{source}: name the folder to write to, for example --output results")
    return files.expanded(output or source)


def main() -> None:
    """Run the command line; print a user error as one line and exit with code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
