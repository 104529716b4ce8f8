"""The journal: an append-only record of everything a study did. Frames and MLflow are rebuilt from it.

One JSON object a line in `journal.jsonl`, each with `event` and `time` (seconds since the epoch, UTC):

study_started   study, config, config_hash, git_commit, versions, datasets {name: {fingerprint, counts, class_names}},
                plan {phase: {trials, steps}, both at most}, objectives {task: [metric, max or min]}
phase_started   phase
trial_started   trial_id, phase, config (TrialConfig.to_dict)
facts           trial_id, primary_metric, primary_mode, chance {metric: value}, n_train, n_validation, parameters
report          trial_id, step, metrics {name: value}; at most one a trial and step
trial_ended     trial_id, status, reason, steps, wall_s, results {name: value}, checkpoint
phase_ended     phase, outcome (what the next phases need, for example the chosen configurations)
study_ended     status
"""

from __future__ import annotations

import io
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from trainables.errors import UserError
from trainables.files import storing

FILE_NAME = "journal.jsonl"
FINISHED, STOPPED, FAILED, KILLED = "FINISHED", "STOPPED", "FAILED", "KILLED"

logger = logging.getLogger(__name__)


class JournalError(UserError):
    """A journal that something else than its writer has changed."""


class Journal:
    """Appends events to a study's journal, each one in the file before `append` returns.

    A report of a step that the trial has already reported is dropped, so that a trial resumed from an earlier
    checkpoint writes every curve point once. `listeners` are called with every event that was written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
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


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the journal in `folder`, none where there is no journal.

    A last line that a dying driver left half written is passed over; non-finite numbers come back as floats.
    Raises JournalError for any other line that is no event.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                yield decode(line, where=f"{path}, line {number}")


def encode(value: Any) -> Any:
    """Return `value` in strict JSON types; NaN and infinities become objects that `decode` turns back."""
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(float(value))}  # float(): numpy's own repr is no number
    return value


def decode(line: str | bytes, *, where: str = FILE_NAME) -> dict[str, Any]:
    """Return the event in one line of the journal. Raises JournalError, naming `where`, for anything else."""
    try:
        event = json.loads(line, object_hook=lambda found: float(found["$float"]) if "$float" in found else found)
        if not isinstance(event, dict) or "event" not in event:
            raise ValueError("not an event")
    except ValueError as error:
        raise broken(f"{where}: broken line ({error})") from error
    return event


def broken(problem: str) -> JournalError:
    """Return what to tell of a journal that cannot be understood: it is the truth, so that nothing can rebuild it."""
    return JournalError(
        f"{problem}; restore the file from a copy, or begin again with --fresh, which keeps the folder aside"
    )


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
