"""Errors with messages for users: what is wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# Line breaks, terminal codes, and the surrogates by which Python represents bytes of file names that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SECRETS = (
    re.compile(r"(?<=://)[^\s/?#:@]*:\S*(?=@)"),  # USER:PASSWORD@; some drivers accept an unquoted slash in it
    re.compile(r"(?<=http://)[^\s/?#@]+(?=@)|(?<=https://)[^\s/?#@]+(?=@)"),  # a token instead of a user
    re.compile(r"(?<=[?&])[\w.-]*(?:passw|pwd|secret|token|key|signature)[\w.-]*=[^&\s'\"]+", re.IGNORECASE),
)


class UserError(Exception):
    """An error that the user can fix. Passwords and tokens are removed from its message."""

    def __init__(self, message: str) -> None:
        super().__init__(without_secrets(message))


class ConfigError(UserError):
    """A configuration value that cannot be used."""


class FusionError(ConfigError):
    """Trials that cannot be trained together as one network."""


class DataError(UserError):
    """A data set that is missing, damaged or unsuitable for the task."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class CheckpointError(UserError):
    """A checkpoint that is missing, damaged or of another trial."""


class StorageError(UserError):
    """A path that cannot be written, for example on a full disk; not an error of the content to be written."""


class ClusterError(UserError):
    """The loss of the Ray cluster while a study ran on it."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def last_line(text: str) -> str:
    """Return the last line that is not blank, which in a traceback is the error itself; empty if all are blank."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the closest known name, if any is close, and all of them."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(names)}"


def printable(text: str) -> str:
    """Return `text` as one printable line in UTF-8; other characters become Python's escape sequences."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def without_secrets(text: str) -> str:
    """Return `text` with passwords, tokens and keys in its URIs replaced by `***`."""
    for secret in _SECRETS:
        text = secret.sub("***", text)
    return text
