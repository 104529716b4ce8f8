"""Writer of the journal, the append-only record of everything that a study did."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

from analysis.records import JOURNAL_FILE, Event, Report, read, to_line
from trainables.files import storing

logger = logging.getLogger(__name__)


class Journal:
    """Writer of a study's journal; every event is in the file before `append` returns.

    A report of a step that the trial has already reported is dropped, so that a trial resumed from an earlier
    checkpoint records every step once.

    Attributes:
        path: The journal's file.
        listeners: Functions called with every event after it is written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_FILE
        self.listeners: list[Callable[[Event], None]] = []
        self._last_step = {report.trial_id: report.step for report in read(folder, Report)}
        with storing(self.path):
            self._file = _open_for_append(self.path)

    def append(self, event: Event) -> bool:
        """Write one event.

        Returns:
            Whether it was written: False for a report that the journal already has.

        Raises:
            StorageError: The event cannot be written, for example on a full disk. The journal is then unchanged.
        """
        if isinstance(event, Report):
            if event.step <= self._last_step.get(event.trial_id, -1):
                return False
            self._write(to_line(event))
            self._last_step[event.trial_id] = event.step
        else:
            self._write(to_line(event))
        for listener in self.listeners:
            listener(event)
        return True

    def close(self) -> None:
        """Force everything to disk and close the file."""
        with storing(self.path), self._file:
            os.fsync(self._file.fileno())

    def _write(self, line: bytes) -> None:
        """Write a whole line or nothing."""
        end = os.fstat(self._file.fileno()).st_size
        with storing(self.path):
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise


def _open_for_append(path: Path) -> io.FileIO:
    """Open the journal, unbuffered so that a failed write can be undone, after removing an incomplete last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole > 0:
            file.seek(whole - 1)
            if file.read(1) == b"\n":
                break
            whole -= 1
        if whole < end:
            logger.warning("%s: removed an incomplete last line (%d bytes)", path, end - whole)
            file.truncate(whole)
    return path.open("ab", buffering=0)
