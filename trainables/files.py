"""Atomic writing of files, with errors that name the path."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from trainables.errors import ConfigError, StorageError

PARTIAL = ".partial-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)  # errors of file systems without hard links


def expanded(path: str | Path) -> Path:
    """Return a path with a leading `~` or `~USER` replaced by that home folder.

    Raises:
        ConfigError: The user does not exist or has no home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {Path(path).parts[0]} is not a home folder here; give the full path") from error


@contextlib.contextmanager
def storing(place: str | Path) -> Iterator[None]:
    """Convert an OSError in the `with` block to a StorageError that names its file, or `place` if it has none."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, place) from error


def storage_error(error: OSError, place: str | Path) -> StorageError:
    """Return the StorageError of an OSError: where, what, and what to do."""
    problem = os.strerror(error.errno) if error.errno else str(error)  # because Arrow's own text is a paragraph
    remedy = "make room there" if error.errno in NO_ROOM else "fix this"
    return StorageError(f"{error.filename or place}: {problem}; {remedy}, then run the same command again to resume")


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path`; a reader finds all of it or the previous file.

    Raises:
        StorageError: The file cannot be written.
    """
    _place(path, content, os.replace)


def create(path: Path, content: bytes) -> None:
    """Write `content` to `path`, all of it or nothing, unless the file exists, which is left as it is.

    Raises:
        StorageError: The file cannot be written.
    """

    def link(temporary: Path, path: Path) -> None:
        try:
            os.link(temporary, path)
        except FileExistsError:  # another process created it first
            pass
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if not path.exists():
                os.rename(temporary, path)
        temporary.unlink(missing_ok=True)

    _place(path, content, link)


def _place(path: Path, content: bytes, put: Callable[[Path, Path], None]) -> None:
    """Write `content` to a temporary file next to `path` and move it there with `put`."""
    temporary = path.with_name(f".{path.name}{PARTIAL}{uuid.uuid4().hex[:8]}")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            put(temporary, path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = str(path)  # not the temporary file, which users do not know
            raise


def remove_partial(*folders: Path) -> None:
    """Remove the partial files of killed writers from the folders, if these exist."""
    for partial in (path for folder in folders for path in folder.glob(f".*{PARTIAL}*")):
        partial.unlink(missing_ok=True)
