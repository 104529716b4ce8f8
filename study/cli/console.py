"""What both command lines share: where they write, how they end, and that a mistake costs one line."""

from __future__ import annotations

import logging
import sys

import typer
from rich.console import Console

from study.cli.signals import stop_on_signals
from study.tracking.state import TrackingError
from trainables.errors import UserError

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def call(app: typer.Typer) -> None:
    """Run a command line; errors of the user end in one line and exit code 2."""
    # By force: mlflow.pytorch, when it is imported, makes the root logger deaf to warnings.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    stop_on_signals()
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(SOME_FAILED if isinstance(error, TrackingError) else BAD_INPUT)
