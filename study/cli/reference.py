"""`python study/run.py reference`: recipes with published results, run in this process, without Ray."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import typer
from rich.table import Table
from rich.text import Text

from analysis.pages.reference import FAIL, HEAD, NOT_RUN, PASS, Verdict, answer, write_reference
from study.cli.console import INTERRUPTED, SOME_FAILED, err, out
from study.cli.signals import resume_command
from trainables import files
from trainables.devices import GPU_RESOURCE, device_of
from trainables.errors import ConfigError
from trainables.reference.recipes import RECIPES, chosen
from trainables.reference.running import load_images, obstacle, results, run_recipe

NAME = "reference"
COLORS = {PASS: "green", FAIL: "red", NOT_RUN: "yellow"}


def check_options(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for options that the recipes do not take.

    Args:
        given: Values of these options by name, as given on the command line.
    """
    for option, value in given.items():
        if value:
            raise ConfigError(
                f"{option}: the reference recipes are fixed; they take only --tasks (names of recipes), --data-root, "
                "--output, --dry-run and --json"
            )


def run_reference(names: str | None, data_root: Path | None, output: Path, *, dry_run: bool, as_json: bool) -> None:
    """Run the recipes that have no result yet, write the report and show it; exit with SOME_FAILED if one fails.

    Args:
        names: Names of recipes, with commas; None for all.
        data_root: Data root with CIFAR-10 as class folders in `cifar10`.
        output: Folder that studies are written to; results are in its folder `reference`.
        dry_run: Show what there is, and run nothing.
        as_json: Print the outcome as JSON on standard output.
    """
    torch.set_num_threads(1)  # networks this small are slower with several threads
    asked = chosen([name.strip() for name in names.split(",")] if names else None)
    folder = output / NAME
    if data_root is None:
        raise ConfigError("reference reads CIFAR-10 as class folders from DIR/cifar10; add --data-root DIR")
    splits = load_images(files.expanded(data_root) / "cifar10")
    device = device_of({GPU_RESOURCE: 1})
    obstacles, code = {recipe.name: obstacle(recipe, splits, device) for recipe in RECIPES}, 0
    try:
        for recipe in asked:
            if not dry_run and not obstacles[recipe.name]:
                run_recipe(recipe, splits, folder, device, err.print)
    except KeyboardInterrupt:
        err.print(f"interrupted; to resume, run: {resume_command()}")
        code = INTERRUPTED
    verdicts = [answer(recipe, results(recipe, folder), obstacles[recipe.name]) for recipe in RECIPES]
    _show(verdicts, None if dry_run else write_reference(folder, verdicts), as_json=as_json)
    if any(each.answer == FAIL for each in verdicts):
        code = code or SOME_FAILED
    raise typer.Exit(code)


def _show(verdicts: Sequence[Verdict], page: Path | None, *, as_json: bool) -> None:
    """Print the answers as a table, or as JSON on standard output."""
    if as_json:
        rows = [each.to_dict() for each in verdicts]
        sys.stdout.write(json.dumps({"report": page and str(page), "recipes": rows}) + "\n")
        return
    table = Table(*HEAD, title="reference recipes")
    for each in verdicts:
        name, given, *numbers = each.cells()
        table.add_row(name, Text(given, COLORS[given]), *map(Text, numbers))
    out.print(table)
    for each in verdicts:
        if each.reason:
            out.print(f"{each.recipe.name}: {each.answer}: {each.reason}", highlight=False, markup=False)
    if page is not None:
        out.print(f"report: {page.resolve()}", highlight=False)
