"""`study.run`: a whole study from Python."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from study.api.progress import shown_progress
from study.api.results import StudyResult, load
from study.api.sources import Source, config
from study.cli.words import unfinished_words
from study.driver import run_study
from study.execution import cluster
from study.execution.environment import check_environment
from trainables import files

logger = logging.getLogger(__name__)


def run(
    source: Source = "quick",
    *,
    set: Mapping[str, Any] | None = None,
    output: str | Path = "studies",
    simulate: bool = False,
    fresh: bool = False,
    download: bool = False,
    progress: bool = True,
    **fields: Any,
) -> StudyResult:
    """Run a study in `output/NAME` and return its results; the same call resumes a study that was interrupted.

    ```python
    result = study.run("quick", tasks=["rotation"], budget_steps=200)
    ```

    A study that has finished is not run again, and its results are returned. A Ray cluster that this process is
    connected to is used and left running; otherwise one is started for the study.

    Args:
        source: See `study.config`.
        set: See `study.config`.
        output: Parent of the study's folder.
        simulate: See `study.config`.
        fresh: Whether to move an earlier study of this name aside and begin again.
        download: Whether to download missing data sets.
        progress: Whether to show the progress: in one line of a notebook, or on standard error.
        fields: See `study.config`.

    Raises:
        ConfigError: The configuration is invalid, or the folder belongs to a study of another configuration.
        DataError: A data set cannot be used.
        UserError: Another problem that the message describes.
        KeyboardInterrupt: The study was interrupted. Everything reported so far is kept.
    """
    checked = config(source, set=set, simulate=simulate, **fields)
    check_environment()  # before the data are loaded, which may take minutes
    parent = files.expanded(output)
    shown = shown_progress(checked, parent, fresh=fresh, visible=progress)
    with _quiet_mlflow(), cluster.session(), shown as listeners:
        outcome = run_study(checked, parent, download=download, fresh=fresh, listeners=listeners)
    if outcome.unfinished:
        logger.warning("%s", unfinished_words(outcome.unfinished))
    return load(outcome.folder)


@contextlib.contextmanager
def _quiet_mlflow() -> Iterator[None]:
    """Show only warnings of MLflow inside this block."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
