"""State of a journal's delivery to MLflow: how much has been delivered, and the ids of its runs.

The state is only a cache. If it is lost, runs are found by their tags and the journal is delivered again from its
beginning, which stores nothing twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.records import Event, read
from analysis.records.layout import MLFLOW_FILE
from trainables import files
from trainables.errors import UserError

logger = logging.getLogger(__name__)

LAYOUT = 2  # version of the names in MLflow; what an earlier version delivered is delivered again, once


class TrackingError(UserError):
    """MLflow cannot be reached, or refuses data of a study."""


@dataclass
class TrackingState:
    """Progress of the delivery of one study's journal to one MLflow store.

    Attributes:
        store: Hash of the tracking URI, which itself may contain a password.
        journal: Time of the journal's first event in ms since the epoch, which distinguishes journals of one folder.
        offset: Bytes of the journal that have been delivered, up to the end of a line.
        driver: Where the last delivered StudyStarted begins in the journal: what its driver ran with holds for the
            events after it.
        last: Time in ms of the last delivered event; 0 before there is one.
        clean: False while events are being delivered. If it is False on loading, there may be runs that `runs` lacks.
        experiment_id: MLflow's id of the study's experiment.
        runs: MLflow run id of `study`, `phase/NAME` and `trial/ID`.
        open: Time in ms of the last event of each run that has not ended.
        ended: Whether the last delivered event was the study's end.
        artifacts: Size and modification time of every file stored with the study run.
        views: Part of the address that opens each saved view, by the view's name.
        layout: Version of the names and tags that were delivered.
    """

    store: str
    journal: int
    offset: int = 0
    driver: int = 0
    last: int = 0
    clean: bool = False
    experiment_id: str = ""
    runs: dict[str, str] = field(default_factory=dict)
    open: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    artifacts: dict[str, str] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    layout: int = 0

    @classmethod
    def of(cls, folder: Path, tracking_uri: str) -> TrackingState | None:
        """Return the state of the delivery of the journal in `folder`; None without a journal.

        Args:
            folder: The study's folder.
            tracking_uri: URI of the MLflow store.
        """
        first = next(read(folder), None)
        return None if first is None else cls.load(folder, tracking_uri=tracking_uri, journal=milliseconds(first))

    @classmethod
    def load(cls, folder: Path, *, tracking_uri: str, journal: int) -> TrackingState:
        """Return the state saved in `folder`, or a new one if there is none for this store and journal.

        Args:
            folder: The study's folder.
            tracking_uri: URI of the MLflow store.
            journal: Time of the journal's first event in ms since the epoch.
        """
        fresh = cls(store=hashlib.sha256(tracking_uri.encode()).hexdigest()[:16], journal=journal, layout=LAYOUT)
        try:
            kept = cls(**_read_json(folder / MLFLOW_FILE))
        except FileNotFoundError:
            return fresh
        except (ValueError, TypeError) as error:  # cut short, or of another version
            logger.warning("%s: not readable (%s); its content is looked up in MLflow", folder / MLFLOW_FILE, error)
            return fresh
        same = (kept.store, kept.journal, kept.layout) == (fresh.store, fresh.journal, fresh.layout)
        return kept if same else fresh

    def save(self, folder: Path) -> None:
        """Replace the saved state atomically.

        Raises:
            StorageError: The file cannot be written.
        """
        files.write(folder / MLFLOW_FILE, json.dumps(dataclasses.asdict(self)).encode())

    @staticmethod
    def forget(folder: Path) -> None:
        """Remove the saved state, so that the next delivery begins at the journal's first event."""
        (folder / MLFLOW_FILE).unlink(missing_ok=True)


def milliseconds(event: Event) -> int:
    """Return an event's time as MLflow stores it: whole milliseconds since the epoch."""
    return round(event.time * 1000)


def _read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
