"""Errors whose message is written for the person who runs a study."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do."""


class ConfigError(UserError):
    """A configuration value that cannot be used."""


class DataError(UserError):
    """A data set that is missing, broken or unfit for the task."""


class CheckpointError(UserError):
    """A checkpoint that is missing, broken or belongs to another trial."""


class StorageError(UserError):
    """A place that cannot be written, for example a full disk. It says nothing of what was to be written there."""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known one, if any is close, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"
