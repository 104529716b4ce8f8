"""Folder of the cache: where it is, who uses a file in it, and what is removed.

A process that uses a file holds a shared lock on it, which ends with the process however it ends. What nobody has
locked may be removed.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from trainables.files import expanded

try:
    import fcntl
except ImportError:  # Windows, which does not remove files that are in use
    fcntl = None  # type: ignore[assignment]

FOLDER_VARIABLE, LIMIT_VARIABLE = "PRETEXT_STUDY_CACHE", "PRETEXT_STUDY_CACHE_GB"
OFF = "off"
DEFAULT_LIMIT_GB = 20.0
SCRATCH, DECODED = "scratch", "decoded"
DATA, FACTS = "images.bin", "facts.json"  # files of an entry
GRACE_S = 60.0  # age at which a file that nobody has locked is a leftover; its maker needs a moment to lock it

logger = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Return the folder of the cache; None if it is switched off."""
    named = os.environ.get(FOLDER_VARIABLE, "")
    if named == OFF:
        return None
    if named:
        return expanded(named).absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "pretext-study"
    except RuntimeError:  # a user without a home folder
        return None


def limit_bytes() -> float:
    """Return how large the decoded images in the cache may become together, in bytes."""
    named = os.environ.get(LIMIT_VARIABLE, "")
    with contextlib.suppress(ValueError):
        return 1e9 * float(named or DEFAULT_LIMIT_GB)
    _say(f"{LIMIT_VARIABLE}={named!r} is not a number of gigabytes; {DEFAULT_LIMIT_GB:g} is used")
    return 1e9 * DEFAULT_LIMIT_GB


def say_unusable(folder: Path, error: Exception) -> None:
    """Log once that the folder cannot be written to, and what that costs."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    _say(
        f"the cache {folder} cannot be used ({reason}): images stay in memory and are read again at the next start; "
        f"set {FOLDER_VARIABLE} to a folder with room, or to {OFF}"
    )


def lock_shared(file: IO[Any]) -> None:
    """Lock an open file as in use, until it and its memory maps are closed.

    Raises:
        OSError: It is being removed, or its file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Yield whether a file exists that nobody uses; inside the block, nobody can begin to."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except OSError:
            free = False
        yield free


def remove_leftovers(folder: Path) -> None:
    """Remove files of killed processes, and what was being removed, from the folder of the cache."""
    oldest = time.time() - GRACE_S
    for path in (folder / SCRATCH).glob("*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                with unused(path) as free:
                    if free:
                        path.unlink()
    for path in (folder / DECODED).glob(".*"):  # entries that were being written or removed
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                with unused(path / DATA) as free:
                    if free or not (path / DATA).exists():
                        shutil.rmtree(path, ignore_errors=True)


def evict(folder: Path, limit: float) -> None:
    """Remove the entries of decoded images that were used least recently until those left are within the limit."""
    entries = []
    for path in (folder / DECODED).glob("[!.]*"):
        with contextlib.suppress(OSError):
            entries.append(((path / FACTS).stat().st_mtime, (path / DATA).stat().st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= limit:
            break
        with unused(path / DATA) as free, contextlib.suppress(OSError):
            if free:
                remove_entry(path)
                total -= size


def remove_entry(path: Path) -> None:
    """Remove an entry; a process that has opened it keeps its images."""
    doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    path.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


@functools.cache
def _say(text: str) -> None:
    logger.warning("%s", text)
