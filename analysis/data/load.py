"""`load`: a study as two tidy frames, from its folder or from an MLflow tracking server."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis import records
from analysis.data.frames import frames, with_current_columns
from analysis.data.parquet import journal_bytes, read_frame
from analysis.data.per_image import per_image_of
from analysis.data.plugins import load_plugins
from analysis.data.study import Study
from analysis.records import PhaseEnded, PhaseStarted, StudyEnded, StudyStarted, TrialEnded
from analysis.records.layout import CURVES_FILE, RUNS_FILE
from trainables.errors import UserError
from trainables.files import expanded

logger = logging.getLogger(__name__)

END_PREFIX = records.prefix(StudyEnded)


def load(source: str | Path, study: str | None = None) -> Study:
    """Return a study from its folder or from an MLflow tracking server.

    A folder's parquet files are read if they are up to date with its journal, the journal itself otherwise. A folder
    that has only parquet files (a copied result) loads too. Nothing is written. The study's plug-ins are run, those in
    its folder and installed ones: load only studies of people whom you trust. A study loads without those that are
    missing, with a warning; from a tracking server, no file is run.

    Args:
        source: A study's folder, or an MLflow tracking URI such as `sqlite:///mlflow.db` or `http://127.0.0.1:5000`.
        study: Name of the study; only for a tracking URI.

    Raises:
        UserError: If there is no study in `source`, or none of that name on the server.
    """
    if "://" in str(source) and not Path(source).exists():
        from analysis.data.mlflow import load_runs  # MLflow takes seconds to import

        return load_runs(str(source), study)
    folder = expanded(source)
    if study is not None:
        raise UserError(f"study = {study!r} is only for a tracking URI, but {folder} is a folder; leave it out")
    runs, curves = _folder_frames(folder)
    events = list(records.read(folder, StudyStarted, PhaseStarted, TrialEnded, PhaseEnded, StudyEnded))
    started = next((each for each in reversed(events) if isinstance(each, StudyStarted)), StudyStarted(study=""))
    outcomes = {each.phase: each.outcome for each in events if isinstance(each, PhaseEnded)}
    name = started.study or (runs["study"].iloc[0] if len(runs) else folder.resolve().name)
    missing = load_plugins(started.config, name, folder)
    return Study(
        name=name,
        runs=runs,
        curves=curves,
        config=started.config,
        folder=folder,
        datasets=started.datasets,
        outcomes=outcomes,
        per_image=per_image_of(folder),
        elapsed_s=records.phase_seconds(events),
        missing_plugins=missing,
    )


def _folder_frames(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    journal_path = folder / records.JOURNAL_FILE
    parquet_paths = [folder / RUNS_FILE, folder / CURVES_FILE]
    has_journal, has_parquet = journal_path.is_file(), all(path.is_file() for path in parquet_paths)
    if not has_journal and not has_parquet:
        raise UserError(_no_study(folder))
    if has_parquet:
        try:
            if not has_journal or all(_is_current(path, journal_path) for path in parquet_paths):
                runs, curves = (read_frame(path) for path in parquet_paths)
                return with_current_columns(runs), curves
        except (pa.ArrowException, OSError) as error:
            if not has_journal:
                raise UserError(
                    f"{folder}: its parquet files cannot be read ({error}), and there is no {records.JOURNAL_FILE} "
                    "to rebuild them from; copy the study's folder again"
                ) from error
            logger.warning("%s: rebuilt from the journal, since its parquet files cannot be read (%s)", folder, error)
    return frames(records.read(folder))


def _is_current(path: Path, journal_path: Path) -> bool:
    """Whether nothing but the study's end has been added to the journal since the parquet file was made from it."""
    known = journal_bytes(path)
    if known is None or known > journal_path.stat().st_size:
        return False
    with journal_path.open("rb") as lines:
        lines.seek(known)
        return all(line.startswith(END_PREFIX) for line in lines)


def _no_study(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder; name the folder that a study wrote, OUTPUT/NAME, or a tracking URI"
    inside = sorted(path.parent.name for path in folder.glob(f"*/{records.JOURNAL_FILE}"))
    hint = f"it contains studies: {', '.join(inside)}; name one of them" if inside else "name a study's folder"
    return f"{folder} is not a study: it has neither {records.JOURNAL_FILE} nor {RUNS_FILE} and {CURVES_FILE}; {hint}"
