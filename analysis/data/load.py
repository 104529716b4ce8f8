"""`load`: a study as two tidy frames, from its folder or from an MLflow tracking server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import records
from analysis.data.frames import CURVES_FILE, JOURNAL_BYTES, RUNS_FILE, frames
from analysis.data.study import Study
from trainables.errors import UserError

logger = logging.getLogger(__name__)

END_PREFIX = b'{"event":"study_ended"'
REPORT_PREFIX = b'{"event":"report"'  # how the journal's writer begins the lines that `headlines` need not decode


def load(source: str | Path, study: str | None = None) -> Study:
    """Return the study in a folder, or the study named `study` on a tracking server.

    source: a study folder, or an MLflow tracking URI such as `sqlite:///mlflow.db` or `http://127.0.0.1:5000`.
    A folder's parquet files are read where they are up to date with its journal, the journal itself otherwise;
    a folder that holds only parquet files (a copied result) loads too. Nothing is written.

    Raises UserError where `source` holds no study, or the server no study of that name.
    """
    if "://" in str(source) and not Path(source).exists():
        from analysis.data.mlflow import load_runs  # MLflow takes seconds to import

        return load_runs(str(source), study)
    folder = Path(source).expanduser()
    if study is not None:
        raise UserError(f"study = {study!r} goes with a tracking URI, but {folder} is a folder; leave it out")
    runs, curves = _folder_frames(folder)
    events = list(headlines(folder))
    started: dict[str, Any] = next((event for event in reversed(events) if event["event"] == "study_started"), {})
    outcomes = {event["phase"]: event.get("outcome") or {} for event in events if event["event"] == "phase_ended"}
    name = started.get("study") or (runs["study"].iloc[0] if len(runs) else folder.resolve().name)
    return Study(name, runs, curves, started.get("config") or {}, folder, started.get("datasets") or {}, outcomes)


def headlines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of the journal in `folder` but its reports, nearly all of it, which are not decoded."""
    path = folder / records.JOURNAL_FILE
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n") and not line.startswith(REPORT_PREFIX):
                event = records.decode(line, where=f"{path}, line {number}")
                if event["event"] != "report":
                    yield event


def _folder_frames(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    journal_path = folder / records.JOURNAL_FILE
    parquet_paths = [folder / RUNS_FILE, folder / CURVES_FILE]
    has_journal, has_parquet = journal_path.is_file(), all(path.is_file() for path in parquet_paths)
    if not has_journal and not has_parquet:
        raise UserError(_no_study(folder))
    if has_parquet:
        try:
            if not has_journal or all(_is_current(path, journal_path) for path in parquet_paths):
                runs, curves = (_frame(path) for path in parquet_paths)
                return runs, curves
        except (pa.ArrowException, OSError) as error:
            if not has_journal:
                raise UserError(
                    f"{folder}: its parquet files cannot be read ({error}), and there is no {records.JOURNAL_FILE} "
                    "to rebuild them from; copy the study's folder again"
                ) from error
            logger.warning("%s: rebuilt from the journal, its parquet files cannot be read (%s)", folder, error)
    return frames(records.read(folder))


def _is_current(path: Path, journal_path: Path) -> bool:
    """Return whether the journal has told of no trial since the parquet file was made from it."""
    known = _journal_bytes(path)
    if known is None or known > journal_path.stat().st_size:
        return False
    with journal_path.open("rb") as lines:
        lines.seek(known)
        return all(line.startswith(END_PREFIX) for line in lines)


def _frame(path: Path) -> pd.DataFrame:
    """Return a parquet file's frame. Raises ArrowInvalid for an extension type, as Ray has one that unpickles."""
    for column in pq.read_schema(path):
        if isinstance(column.type, pa.BaseExtensionType) or b"ARROW:extension:name" in (column.metadata or {}):
            raise pa.ArrowInvalid(f"{path.name}: the type of column {column.name} is no plain one")
    return pd.read_parquet(path)


def _journal_bytes(path: Path) -> int | None:
    """Return the length of the journal that a parquet file was made from; None where another program wrote it."""
    stamp = (pq.read_schema(path).metadata or {}).get(JOURNAL_BYTES)
    return None if stamp is None else int(stamp)


def _no_study(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; name the folder that a study wrote, OUTPUT/NAME, or a tracking URI"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{records.JOURNAL_FILE}"))
    hint = (
        f"it holds studies: {', '.join(inside)}; name one of them" if inside else "name the folder that a study wrote"
    )
    return f"{folder} is no study: it has neither {records.JOURNAL_FILE} nor {RUNS_FILE} and {CURVES_FILE}; {hint}"
