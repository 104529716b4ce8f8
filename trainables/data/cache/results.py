"""Small results that are computed once from an array's bytes and remembered."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainables import files
from trainables.data.cache.arrays import file_of
from trainables.data.cache.folder import DECODED, cache_folder, say_unusable
from trainables.errors import StorageError

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)  # absent, cut off or damaged


def key_of(*parts: object) -> str:
    """Return the SHA-256, in hex digits, of the text of each part; of an array, of its type, shape and bytes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype}{part.shape}\0".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(f"{part!r}\0".encode())
    return digest.hexdigest()


def remembered(kind: str, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return what `compute` has returned for this key before, or returns now.

    Args:
        kind: What is computed, as the name of a folder.
        key: Hash of everything that the result depends on, the version of the computation included.
        compute: Function without effects that returns an array.
    """
    folder = cache_folder()
    if folder is None:
        return compute()
    return _load_or_compute(folder / kind / f"{key}.npz", compute)


def _load_or_compute(path: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array in a file, or what is computed and written to it."""
    try:
        return _read(path)
    except _UNREADABLE:
        result = compute()
    content = io.BytesIO()
    np.savez(content, result=result)
    try:
        files.write(path, content.getvalue())
    except StorageError as error:
        say_unusable(cache_folder() or path.parent, error.__cause__ if isinstance(error.__cause__, OSError) else error)
    return result


def remembered_in_entry(array: np.ndarray, name: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """Return what `compute` has returned for the same rows of an entry of the cache before, or returns now.

    It is kept in the entry and removed with it. Of an array that is not part of an entry, it is computed each time.

    Args:
        array: Rows of an entry, which must not change.
        name: What is computed, and the version of the computation.
        compute: Function without effects that returns an array.
    """
    held = file_of(array)
    if held is None or (entry := Path(held.path).parent).parent.name != DECODED:
        return compute()
    return _load_or_compute(entry / f"{name}-{held.offset}-{len(array)}.npz", compute)


def _read(path: Path) -> np.ndarray:
    """Return the array of a file; a zip archive has checksums, so that damage is noticed."""
    with np.load(path, allow_pickle=False) as archive:
        return archive["result"]
