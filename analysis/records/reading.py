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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainables.errors import UserError

JOURNAL_FILE = "journal.jsonl"
CONFIG_FILE, ENCODERS = "study.yaml", "encoders"
FINISHED, STOPPED, FAILED, KILLED = "FINISHED", "STOPPED", "FAILED", "KILLED"


class JournalError(UserError):
    """A journal that something else than its writer has changed."""


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the journal in `folder`, none where there is no journal.

    A last line that a dying driver left half written is passed over; non-finite numbers come back as floats.
    Raises JournalError for any other line that is no event.
    """
    path = folder / JOURNAL_FILE
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


def decode(line: str | bytes, *, where: str = JOURNAL_FILE) -> dict[str, Any]:
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
