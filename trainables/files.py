"""Writing files: whole or not at all, and a full disk is an error that names the place."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from trainables.errors import StorageError

PARTIAL = ".partial-"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def storing(place: str | Path) -> Iterator[None]:
    """Turn what the operating system refuses meanwhile into a StorageError that names the file, or else `place`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, place) from error


def storage_error(error: OSError, place: str | Path) -> StorageError:
    """Return what to tell of an operating system's error: where, what, and how to go on."""
    problem = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text is a paragraph
    cure = "make room there" if error.errno in NO_ROOM else "see to that"
    return StorageError(
        f"{error.filename or place}: {problem}; {cure}, and the same command goes on where this stopped"
    )


def write(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader finds all of it or the file as it was before.

    Raises StorageError where it cannot be written.
    """
    _place(path, content, os.replace)


def create(path: Path, content: bytes) -> None:
    """Write `content` to `path`, all of it or nothing, unless there is a file already, which is left as it is.

    Raises StorageError where it cannot be written.
    """

    def link(temporary: Path, path: Path) -> None:
        with contextlib.suppress(FileExistsError):  # of two that create a file at once, one is first
            os.link(temporary, path)
        temporary.unlink()

    _place(path, content, link)


def _place(path: Path, content: bytes, put: Callable[[Path, Path], None]) -> None:
    """Write `content` beside `path` and put it there."""
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
                error.filename = str(path)  # not the temporary's, which nobody knows
            raise


def remove_partial(*folders: Path) -> None:
    """Remove what killed writers have left half written in the folders, some of which may not be there."""
    for partial in (path for folder in folders for path in folder.glob(f".*{PARTIAL}*")):
        partial.unlink(missing_ok=True)
