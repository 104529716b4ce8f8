"""Journal: the writer of a study's journal, an append-only record of everything that the study did."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from analysis.records import JOURNAL_FILE, encode, read
from trainables.files import storing

logger = logging.getLogger(__name__)


class Journal:
    """Appends events to a study's journal, each one in the file before `append` returns.

    A report of a step that the trial has already reported is dropped, so that a trial resumed from an earlier
    checkpoint writes every curve point once. `listeners` are called with every event that was written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL_FILE
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._last_step: dict[str, int] = {}
        for event in read(folder):
            self._remember(event)
        with storing(self.path):
            self._file = _open_for_append(self.path)

    def append(self, event: str, **values: Any) -> bool:
        """Write one event; return whether it was written (False for a report that is already there).

        Raises StorageError where the disk takes no more; the journal is then as it was before.
        """
        record = {"event": event, "time": time.time(), **values}
        if event == "report" and values["step"] <= self._last_step.get(values["trial_id"], -1):
            return False
        self._write((json.dumps(encode(record), separators=(",", ":")) + "\n").encode())
        self._remember(record)
        for listener in self.listeners:
            listener(record)
        return True

    def close(self) -> None:
        """Force everything to disk and close the file."""
        with storing(self.path), self._file:
            os.fsync(self._file.fileno())

    def _write(self, line: bytes) -> None:
        """Write a line, all of it or nothing."""
        end = os.fstat(self._file.fileno()).st_size
        with storing(self.path):
            try:
                while line:
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(end)
                raise

    def _remember(self, event: dict[str, Any]) -> None:
        if event["event"] == "report":
            self._last_step[event["trial_id"]] = event["step"]


def _open_for_append(path: Path) -> io.FileIO:
    """Open the journal, first cutting off a half-written last line. Unbuffered, so that a failed write stays undone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = whole = file.seek(0, os.SEEK_END)
        while whole > 0:
            file.seek(whole - 1)
            if file.read(1) == b"\n":
                break
            whole -= 1
        if whole < end:
            logger.warning("%s: cut off a last line that was half written (%d bytes)", path, end - whole)
            file.truncate(whole)
    return path.open("ab", buffering=0)
