"""Consoles, exit codes and error reporting that both command lines share."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from rich.console import Console

from study.cli.signals import stop_on_signals
from study.tracking.state import TrackingError
from trainables.errors import UserError

if TYPE_CHECKING:
    import typer

SOME_FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

out = Console(soft_wrap=True, emoji=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False)


def run_app(app: typer.Typer) -> None:
    """Run a command line; report a UserError in one line and exit with BAD_INPUT, or SOME_FAILED if MLflow failed."""
    # `force`, because importing mlflow.pytorch mutes warnings on the root logger.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where it cannot write its cache
    stop_on_signals()
    try:
        app()
    except UserError as error:
        err.print(f"error: {error}", style="red")
        sys.exit(SOME_FAILED if isinstance(error, TrackingError) else BAD_INPUT)
