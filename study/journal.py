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

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FILE_NAME = "journal.jsonl"
FINISHED, STOPPED, FAILED, KILLED = "FINISHED", "STOPPED", "FAILED", "KILLED"


class Journal:
    """Appends events to a study's journal, each one flushed to the file before `append` returns.

    A report of a step that the trial has already reported is dropped, so that a trial resumed from an earlier
    checkpoint writes every curve point once. `listeners` are called with every event that was written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self.listeners: list[Callable[[dict[str, Any]], None]] = []
        self._last_step: dict[str, int] = {}
        for event in read(folder):
            self._remember(event)
        self._file = _open_for_append(self.path)

    def append(self, event: str, **values: Any) -> bool:
        """Write one event; return whether it was written (False for a report that is already there)."""
        record = {"event": event, "time": time.time(), **values}
        if event == "report" and values["step"] <= self._last_step.get(values["trial_id"], -1):
            return False
        self._file.write(json.dumps(encode(record), separators=(",", ":")) + "\n")
        self._file.flush()
        self._remember(record)
        for listener in self.listeners:
            listener(record)
        return True

    def close(self) -> None:
        """Force everything to disk and close the file."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _remember(self, event: dict[str, Any]) -> None:
        if event["event"] == "report":
            self._last_step[event["trial_id"]] = event["step"]


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the journal in `folder`, none where there is no journal.

    A last line that a dying driver left half written is passed over; non-finite numbers come back as floats.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):
                yield decode(line)


def encode(value: Any) -> Any:
    """Return `value` in strict JSON types; NaN and infinities become objects that `decode` turns back."""
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(float(value))}  # float(): numpy's own repr is no number
    return value


def decode(line: str) -> dict[str, Any]:
    """Return the event in one line of the journal."""
    return json.loads(line, object_hook=lambda found: float(found["$float"]) if "$float" in found else found)


def _open_for_append(path: Path) -> Any:
    """Open the journal, first cutting off a half-written last line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            file.seek(end - 1)
            if file.read(1) == b"\n":
                break
            end -= 1
        file.truncate(end)
    return path.open("a", encoding="utf-8")
