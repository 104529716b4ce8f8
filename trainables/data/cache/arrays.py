"""Large arrays in memory-mapped files: several processes share one copy, which need not fit into memory.

They are ordinary arrays, equal to those in memory. Small arrays stay in memory.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import uuid
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from trainables.data.cache.folder import SCRATCH, cache_folder, lock_shared, remove_leftovers, say_unusable
from trainables.errors import DataError

LARGE_BYTES = 2**26  # size of the smallest array that is put into a file
_CHUNK_BYTES = 2**24  # copied at a time


class FileArray(NamedTuple):
    """Where the values of an array are, C-contiguous, in a file."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    def open(self) -> np.ndarray:
        """Return the array, read-only.

        Raises:
            DataError: The file no longer exists, or this is another machine.
        """
        try:
            return np.asarray(np.memmap(self.path, self.dtype, "r", self.offset, self.shape))
        except (OSError, ValueError) as error:
            raise DataError(
                f"images in {self.path} cannot be read: {error}; run the same command again, or set "
                "PRETEXT_STUDY_CACHE to a folder that every process can read"
            ) from error


def empty(shape: Sequence[int], dtype: DTypeLike) -> np.ndarray:
    """Return an array of unspecified values: in memory if it is small, otherwise in a file, removed with the array.

    If no file can be written, it is in memory, and a warning says so.
    """
    n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    folder = cache_folder()
    if n_bytes < LARGE_BYTES or folder is None:
        return np.empty(shape, dtype)
    try:
        return _in_file(folder, tuple(shape), np.dtype(dtype), n_bytes)
    except OSError as error:
        say_unusable(folder, error)
        return np.empty(shape, dtype)


def rows(array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Return the rows of an array at `indices`, int64 [M], contiguous."""
    result = empty((len(indices), *array.shape[1:]), array.dtype)
    for part in _chunks(result):
        result[part] = array[indices[part]]
    return result


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the rows of two arrays of one row shape and type; not as a copy if they follow each other in a file."""
    root = _root(first)
    if root is _root(second) and root.shape[1:] == first.shape[1:] and _is_next(first, second):
        start = (first.ctypes.data - root.ctypes.data) * len(root) // root.nbytes
        return np.asarray(root)[start : start + len(first) + len(second)]
    result = empty((len(first) + len(second), *first.shape[1:]), np.result_type(first, second))
    for source, target in ((first, result[: len(first)]), (second, result[len(first) :])):
        for part in _chunks(target):
            target[part] = source[part]
    return result


def copied(array: np.ndarray, dtype: DTypeLike | None = None) -> np.ndarray:
    """Return a contiguous, writable copy of an array, as another type if one is given."""
    result = empty(array.shape, array.dtype if dtype is None else dtype)
    for part in _chunks(result):
        result[part] = array[part]
    return result


def uncached(array: np.ndarray) -> np.ndarray:
    """Return an array in memory, for processes that cannot read this machine's files."""
    return array if file_of(array) is None else np.array(array)


def file_of(array: np.ndarray) -> FileArray | None:
    """Return where an array is in a file; None if it is in memory."""
    root = _root(array)
    if not isinstance(root, np.memmap) or root.mode == "c" or not array.flags.c_contiguous or not array.size:
        return None
    start = root.offset + array.ctypes.data - root.ctypes.data
    return FileArray(str(root.filename), start, array.shape, array.dtype.str)


def _root(array: np.ndarray) -> np.ndarray:
    """Return the array that has the memory which an array shows."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _is_next(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the second of two arrays in one file begins where the first one ends."""
    if file_of(first) is None or file_of(second) is None or first.dtype != second.dtype:
        return False
    return second.ctypes.data == first.ctypes.data + first.nbytes


def _in_file(folder: Path, shape: tuple[int, ...], dtype: np.dtype, n_bytes: int) -> np.ndarray:
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    path = scratch / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
    try:
        with path.open("x+b") as file:
            lock_shared(file)
            _reserve(file.fileno(), n_bytes, scratch)
            array = np.memmap(file, dtype, "r+", 0, shape)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    weakref.finalize(array, _remove, path, os.getpid())
    return np.asarray(array)


def _reserve(descriptor: int, n_bytes: int, folder: Path) -> None:
    """Give a file its size and its blocks: a full disk would otherwise end the process where it writes to the map."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
        return
    if shutil.disk_usage(folder).free < n_bytes:
        raise OSError(28, os.strerror(28))
    os.truncate(descriptor, n_bytes)


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a fork of it
        with contextlib.suppress(OSError):
            path.unlink()


def _chunks(array: np.ndarray) -> Iterator[slice]:
    """Yield slices of the first axis of about _CHUNK_BYTES each."""
    n_rows = max(1, _CHUNK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), n_rows):
        yield slice(start, start + n_rows)
