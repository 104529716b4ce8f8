"""What is remembered about a journal's way to MLflow: how far it got, and which runs are its own.

Only a cache. Where it is lost, runs are found again by their tags and the journal is delivered from its beginning,
which stores nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.records import Event
from trainables import files
from trainables.errors import UserError

logger = logging.getLogger(__name__)

FILE_NAME = "mlflow.json"


class TrackingError(UserError):
    """MLflow cannot be reached, or will not take what a study wants to store there."""


@dataclass
class TrackingState:
    """How far the journal of one study folder has been delivered to one MLflow store.

    store: hash of the tracking URI, which itself may hold a password.
    journal: time of the journal's first event in ms since the epoch; tells a journal begun afresh from its predecessor.
    offset: bytes of the journal that were delivered; always at the end of a line.
    clean: False while events are being delivered. Found False, a run may exist that `runs` does not know.
    runs: MLflow run id of `study`, `phase/NAME` and `trial/ID`.
    open: time in ms of the last event of each run that has not ended.
    ended: whether the last delivered event was the study's end.
    artifacts: size and modification time of every file stored with the study run.
    """

    store: str
    journal: int
    offset: int = 0
    clean: bool = False
    experiment_id: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    artifacts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path, *, tracking_uri: str, journal: int) -> TrackingState:
        """Return the state kept in `folder`, or a new one where there is none for this store and journal."""
        fresh = cls(store=hashlib.sha256(tracking_uri.encode()).hexdigest()[:16], journal=journal)
        try:
            kept = cls(**_read_json(folder / FILE_NAME))
        except FileNotFoundError:
            return fresh
        except (ValueError, TypeError) as error:  # cut short, or of another version
            logger.warning("%s: not readable (%s), so what MLflow has is looked up there", folder / FILE_NAME, error)
            return fresh
        return kept if (kept.store, kept.journal) == (fresh.store, fresh.journal) else fresh

    def save(self, folder: Path) -> None:
        """Write the state, so that a reader finds the old or the new one and nothing between.

        Raises StorageError where it cannot be written.
        """
        files.write(folder / FILE_NAME, json.dumps(dataclasses.asdict(self)).encode())

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the state; the next delivery begins at the journal's first event."""
        (folder / FILE_NAME).unlink(missing_ok=True)


def milliseconds(event: Event) -> int:
    """Return an event's time as MLflow stores it: whole milliseconds since the epoch."""
    return round(event.time * 1000)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
