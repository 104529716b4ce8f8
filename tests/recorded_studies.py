"""Studies that earlier versions have written, kept under tests/recorded."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from analysis.records import JOURNAL_FILE

RECORDED = Path(__file__).parent / "recorded"


def unpacked(name: str, folder: Path) -> Path:
    """Copy the files of a recorded study into a folder, its journal unpacked, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (RECORDED / name).iterdir():
        if path.suffix != ".gz":
            shutil.copy(path, folder)
    with gzip.open(RECORDED / name / f"{JOURNAL_FILE}.gz") as journal:
        (folder / JOURNAL_FILE).write_bytes(journal.read())
    return folder
