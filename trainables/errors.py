"""Errors whose message is written for the person who runs a study."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line breaks, terminal codes, and the half characters that stand for bytes which are no UTF-8 in a file's name.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SECRETS = (
    re.compile(r"(?<=://)[^\s/?#:@]*:\S*(?=@)"),  # USER:PASSWORD@, in which some drivers take an unquoted slash
    re.compile(r"(?<=http://)[^\s/?#@]+(?=@)|(?<=https://)[^\s/?#@]+(?=@)"),  # a token for a user
    re.compile(r"(?<=[?&])[\w.-]*(?:passw|pwd|secret|token|key|signature)[\w.-]*=[^&\s'\"]+", re.IGNORECASE),
)


class UserError(Exception):
    """Something the user can mend: the message says what was wrong, where, and what to do, without any password."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class ConfigError(UserError):
    """A configuration value that cannot be used."""


class DataError(UserError):
    """A data set that is missing, broken or unfit for the task."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CheckpointError(UserError):
    """A checkpoint that is missing, broken or belongs to another trial."""


class StorageError(UserError):
    """A place that cannot be written, for example a full disk. It says nothing of what was to be written there."""


class ClusterError(UserError):
    """The Ray cluster was lost while a study ran on it."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known one, if any is close, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def printable(text: str) -> str:
    """Return `text` in one line that a terminal shows and a UTF-8 file holds: all else as Python would escape it."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_secrets(text: str) -> str:
    """Return `text` with passwords, tokens and keys in its URIs replaced by `***`."""
    for secret in _SECRETS:
        text = secret.sub("***", text)
    return text
