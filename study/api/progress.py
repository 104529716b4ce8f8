"""Progress of a study that runs from Python: in a notebook one line, elsewhere the display of the command line."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analysis.records import KILLED, Event, StudyEnded
from study.cli.console import err
from study.cli.progress import Progress
from study.cli.state import StudyState
from study.config.schema import StudyConfig
from study.driver import Listener

SECONDS_BETWEEN = 0.5  # updates of the line
ENDED = {KILLED: "stopped before its end; the same call resumes it"}


class NotebookLine:
    """Journal listener that shows how far a study is, in one line below a notebook's cell.

    Args:
        config: The study's configuration.
        folder: The study's folder, whose journal counts as done; None for a fresh study.
    """

    def __init__(self, config: StudyConfig, folder: Path | None) -> None:
        from IPython.display import DisplayHandle

        self.state = StudyState(config.name, folder)
        self._shown = 0.0
        self._line = DisplayHandle()
        self._line.display(_plain(f"{config.name}: starting"), raw=True)

    def __call__(self, event: Event) -> None:
        """Update the line with one event, unless it has just changed."""
        self.state.observe(event)
        ended = isinstance(event, StudyEnded)
        if ended or time.monotonic() - self._shown > SECONDS_BETWEEN:
            self._shown = time.monotonic()
            self._line.update(_plain(self._words(event.status if isinstance(event, StudyEnded) else "")), raw=True)

    def _words(self, status: str) -> str:
        name, n_ended, n_trials = self.state.bars()[-1]
        if status:
            return f"{name}: {ENDED.get(status, status.lower())}, {n_ended} trials"
        return f"{name}: {self.state.phase or 'starting'}, {n_ended} of {n_trials} trials; {self.state.left()}"


@contextlib.contextmanager
def shown_progress(config: StudyConfig, output: Path, *, fresh: bool, visible: bool) -> Iterator[list[Listener]]:
    """Yield the listeners that show a study's progress inside this block.

    Args:
        config: The study's configuration.
        output: Parent of the study's folder.
        fresh: Whether an earlier study of this name is moved aside.
        visible: Whether to show anything.
    """
    folder = None if fresh else output / config.name
    if not visible:
        yield []
    elif _in_notebook():
        yield [NotebookLine(config, folder)]
    else:
        with Progress(config, err, folder) as progress:
            yield [progress]


def _plain(text: str) -> dict[str, Any]:
    return {"text/plain": text}


def _in_notebook() -> bool:
    """Return whether this is a Jupyter kernel, whose front end can change what it has shown."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
