"""Parquet files of a study's frames, with the length of the journal that each was made from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from trainables import files

JOURNAL_BYTES = b"pretext.journal_bytes"


def write_frame(frame: pd.DataFrame, path: Path, journal_bytes: int) -> None:
    """Write a frame that was made from the first `journal_bytes` of a journal; raise StorageError if that fails."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), JOURNAL_BYTES: str(journal_bytes).encode()})
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    files.write(path, content.getvalue().to_pybytes())


def read_frame(path: Path) -> pd.DataFrame:
    """Read a parquet file. Raises ArrowInvalid for extension types: Ray registers one that unpickles."""
    for column in pq.read_schema(path):
        if isinstance(column.type, pa.BaseExtensionType) or b"ARROW:extension:name" in (column.metadata or {}):
            raise pa.ArrowInvalid(f"{path.name}: column {column.name} has an extension type")
    return pd.read_parquet(path)


def journal_bytes(path: Path) -> int | None:
    """Return the length of the journal that a parquet file was made from; None if another program wrote the file."""
    stamp = (pq.read_schema(path).metadata or {}).get(JOURNAL_BYTES)
    return None if stamp is None else int(stamp)
