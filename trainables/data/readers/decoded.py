"""Decoded images of many files: made once in parallel, kept in the cache, and shared by the processes of a node."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from trainables.data.cache import empty, file_of, key_of
from trainables.data.cache.arrays import LARGE_BYTES
from trainables.data.cache.folder import (
    DATA,
    DECODED,
    FACTS,
    cache_folder,
    evict,
    limit_bytes,
    lock_shared,
    remove_entry,
    say_unusable,
)
from trainables.data.intensity import Depth
from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.images import ImageReader
from trainables.data.readers.masks import MaskedReader
from trainables.packages import version_of

VERSION = 3  # to be raised whenever a file is decoded to other values than before, or an entry has another form
_DECODERS = ("pillow", "pillow-heif", "tifffile", "imagecodecs", "torchvision")
_PHOTOGRAPH_BYTES = 16_384
_MASKS = "masks.bin"  # file of an entry
_AT_ONCE = 256  # files given to the threads at a time, so that decoded images do not pile up


class Decoded(NamedTuple):
    """Images of N files, M of them usable.

    Attributes:
        images: [M, C, S, S], of the smallest type that holds the values of all; None if no file is usable.
        bad: Why files cannot be used, by their index.
        masks: Masks of the usable files, uint8 [M, S, S], with unspecified rows for files without one; None if the
            reader reads no masks.
    """

    images: np.ndarray | None
    bad: dict[int, BadImage]
    masks: np.ndarray | None = None


def decode_all(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> Decoded:
    """Decode files, or open what an earlier call has left in the cache, which files keep that have not changed.

    Args:
        paths: Image files.
        read: Function that reads one file as uint8, uint16 or float32 [C, S, S], or raises BadImage. Only what an
            ImageReader or MaskedReader has read is cached, with what it has found.
    """
    folder = cache_folder()
    if not isinstance(read, ImageReader) or type(read) not in (ImageReader, MaskedReader):
        return _decode_all(paths, read)
    if folder is None or 3 * len(paths) * read.image_size**2 < LARGE_BYTES:
        return _decode_all(paths, read)
    try:
        entry = folder / DECODED / _key(paths, read)
    except OSError:  # a file that is gone by now, as the reader will tell
        return _decode_all(paths, read)
    if (stored := _opened_if_whole(entry, paths, read)) is not None:
        return stored
    result = _decode_all(paths, read)
    if result.images is None or file_of(result.images) is None or result.images.nbytes > limit_bytes():
        return result
    if any(map(_may_pass, result.bad.values())):
        return result
    if (stored := _opened_if_whole(entry, paths, read)) is not None:  # another process was first
        return stored
    try:
        _store(entry, paths, read, result)
        result = _opened(entry, paths, read)
        evict(folder, limit_bytes())
    except OSError as error:
        say_unusable(folder, error)
    return result


def _opened_if_whole(entry: Path, paths: Sequence[Path], reader: ImageReader) -> Decoded | None:
    """Return the images of an entry, or None if it is absent or damaged; see `_opened`."""
    try:
        return _opened(entry, paths, reader)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_pass(bad: BadImage) -> bool:
    """Return whether the system, not the content of the file, is why it could not be read."""
    return isinstance(bad.__cause__, OSError) and bad.__cause__.errno is not None


def _decode_all(paths: Sequence[Path], read: Callable[[Path], np.ndarray]) -> Decoded:
    images: np.ndarray | None = None
    first, n_usable = Path(), 0
    bad: dict[int, BadImage] = {}
    masks = empty((len(paths), read.image_size, read.image_size), np.uint8) if isinstance(read, MaskedReader) else None
    for index, result in enumerate(_attempts(read, paths)):
        if isinstance(result, BadImage):
            bad[index] = result
            continue
        if images is None:
            images, first = empty((len(paths), *result.shape), result.dtype), paths[index]
        if result.shape != images.shape[1:]:
            counts = f"{len(result)} channels, but {first.name} has {images.shape[1]}"
            bad[index] = BadImage(f"{counts}; all images of a data set need the same number")
            continue
        dtype = np.promote_types(images.dtype, result.dtype)
        if dtype != images.dtype:
            narrow, images = images, empty(images.shape, dtype)
            images[:n_usable] = narrow[:n_usable]
        images[n_usable] = result
        if isinstance(read, MaskedReader) and masks is not None and paths[index] in read.read_masks:
            masks[n_usable] = read.read_masks[paths[index]]
            read.read_masks[paths[index]] = masks[n_usable]  # bounds the memory: the row may be in a file
        n_usable += 1
    if images is None:
        return Decoded(None, bad)
    return Decoded(images[:n_usable], bad, None if masks is None else masks[:n_usable])


def _attempts(read: Callable[[Path], np.ndarray], paths: Sequence[Path]) -> Iterator[np.ndarray | BadImage]:
    """Yield the result of `read`, or the BadImage that it raises, for each path in order."""

    def attempt(path: Path) -> np.ndarray | BadImage:
        try:
            return read(path)
        except BadImage as bad:
            return bad

    # Pillow releases the GIL while it decodes, but for small files the threads mostly compete for it: 12,000 files
    # of 1 kB took 4 s in one thread and up to 14 s in several.
    some = paths[:: max(1, len(paths) // 8)]
    files = [read.page_of(path).file for path in some] if isinstance(read, ImageReader) else some
    if not any(map(_is_photograph, files)):
        yield from map(attempt, paths)
        return
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            yield from pool.map(attempt, paths[start : start + _AT_ONCE])


def _is_photograph(path: Path) -> bool:
    return path.is_file() and path.stat().st_size >= _PHOTOGRAPH_BYTES


def _key(paths: Sequence[Path], reader: ImageReader) -> str:
    """Return the name of an entry: a hash of how files are read, and of each file's path and state.

    Raises:
        OSError: A file cannot be found.
    """
    versions = [version_of(name) for name in _DECODERS]
    settings = (reader.image_size, reader.upscale, reader.squash, reader.stack, Image.MAX_IMAGE_PIXELS)
    states = [_state(path, reader) for path in paths]
    if not isinstance(reader, MaskedReader):
        return key_of(VERSION, *versions, settings, states)
    masks = [_state(reader.masks[path], reader) if path in reader.masks else None for path in paths]
    return key_of(VERSION, *versions, settings, states, reader.n_classes, masks)


def _state(path: Path, reader: ImageReader) -> tuple[bytes, int, int, int, int]:
    """Return the name of an image or mask, and what changes with its file."""
    state = reader.page_of(path).file.stat()
    return os.fsencode(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino


def _store(entry: Path, paths: Sequence[Path], reader: ImageReader, decoded: Decoded) -> None:
    """Move decoded images from their file to an entry of the cache, all of it or nothing.

    Raises:
        OSError: It cannot be written, or another process was first and its entry is damaged.
    """
    assert decoded.images is not None
    held = file_of(decoded.images)
    assert held is not None
    facts = {
        "shape": decoded.images.shape,
        "dtype": decoded.images.dtype.str,
        "bad": [[index, str(bad), bad.short_side] for index, bad in decoded.bad.items()],
        "sizes": [reader.sizes.get(path) for path in paths],
        "depths": [reader.depths.get(path) for path in paths],
        "stacks": [reader.stacks.get(path) for path in paths],
    }
    usable = _usable(paths, decoded.bad)
    if isinstance(reader, MaskedReader):
        facts["masked"] = [path in reader.read_masks for path in usable]
    if entry.exists():  # it could not be opened
        remove_entry(entry)
    partial = entry.with_name(f".{entry.name}.{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    os.rename(held.path, partial / DATA)
    try:
        if decoded.masks is not None:
            decoded.masks.tofile(partial / _MASKS)
        kept = [(_MASKS, b"")] if decoded.masks is not None else []
        for name, content in (*kept, (DATA, b""), (FACTS, json.dumps(facts).encode())):
            with (partial / name).open("ab") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # a crash of the machine must not leave an entry without its images
        os.rename(partial, entry)
    except OSError:
        os.rename(partial / DATA, held.path)
        shutil.rmtree(partial, ignore_errors=True)
        if not entry.is_dir():  # otherwise another process has just stored the same
            raise


def _opened(entry: Path, paths: Sequence[Path], reader: ImageReader) -> Decoded:
    """Return the images of an entry, and give the reader what was found in their files.

    Raises:
        OSError, ValueError, KeyError, TypeError: There is no such entry, or it is damaged.
    """
    facts = json.loads((entry / FACTS).read_bytes())
    shape, dtype = tuple(facts["shape"]), np.dtype(facts["dtype"])
    with (entry / DATA).open("rb") as file:
        lock_shared(file)
        if shape[0] + len(facts["bad"]) != len(paths) or _size(file) < int(np.prod(shape)) * dtype.itemsize:
            raise ValueError(f"{entry} is cut off")
        images = np.asarray(np.memmap(file, dtype, "r", 0, shape))
    bad = {index: BadImage(reason, short_side) for index, reason, short_side in facts["bad"]}
    found = zip(paths, facts["sizes"], facts["depths"], facts["stacks"], strict=True)
    for path, size, depth, n_pages in found:
        if size is not None:
            reader.sizes[path] = (size[0], size[1])
        if depth is not None:
            reader.depths[path] = Depth(*depth)
        if n_pages is not None:
            reader.stacks[path] = n_pages
    os.utime(entry / FACTS)  # the entries used least recently are removed first
    if not isinstance(reader, MaskedReader):
        return Decoded(images, bad)
    masks = np.asarray(np.memmap(entry / _MASKS, np.uint8, "r", 0, (shape[0], *shape[2:])))
    for path, mask, is_masked in zip(_usable(paths, bad), masks, facts["masked"], strict=True):
        if is_masked:
            reader.read_masks[path] = mask
    return Decoded(images, bad, masks)


def _usable(paths: Sequence[Path], bad: Mapping[int, BadImage]) -> list[Path]:
    return [path for index, path in enumerate(paths) if index not in bad]


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
