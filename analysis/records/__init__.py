"""Records: the format of a study's journal, and the names of the files in a study's folder."""

from analysis.records.reading import (
    CONFIG_FILE,
    ENCODERS,
    FAILED,
    FINISHED,
    JOURNAL_FILE,
    KILLED,
    STOPPED,
    JournalError,
    broken,
    decode,
    encode,
    read,
)

__all__ = [
    "CONFIG_FILE",
    "ENCODERS",
    "FAILED",
    "FINISHED",
    "JOURNAL_FILE",
    "KILLED",
    "STOPPED",
    "JournalError",
    "broken",
    "decode",
    "encode",
    "read",
]
