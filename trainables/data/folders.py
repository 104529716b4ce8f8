"""Folder data sets: images in any of the layouts of `layout`, or as a manifest says, read into tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trainables.data.images import ImageReader, read_all, read_image_and_mask
from trainables.data.intensity import Intensity
from trainables.data.inventory import Found
from trainables.data.layout import Parts, list_parts
from trainables.data.listing import MANIFEST, Listing
from trainables.data.manifest import read_manifest
from trainables.data.pixels import read_scaled
from trainables.data.request import Request, Tables
from trainables.data.table import VOID, ImageTable
from trainables.data.walk import Walk
from trainables.errors import DataError

UNUSABLE = "that cannot be used as images"  # why files are left out, with on_bad_image: skip
TOO_SMALL = "smaller than image_size"


def load_folder(request: Request, folder: Path) -> Tables:
    """Read a folder of images in one of the layouts of `list_parts`, or as its manifest says.

    Raises:
        DataError: The folder is missing, empty or ambiguous, has a single class, or contains a link that leads out
            of it; or its manifest has faults.
        ConfigError: `group_pattern` is not a regular expression, or contradicts a manifest.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{request.name}: {root} is not a folder")
    walk = Walk(root, request.name)
    list_all = read_manifest if (root / MANIFEST).exists() else list_parts
    try:
        parts = _chosen(request, list_all(walk, request.group_pattern))
    except OSError as error:
        raise DataError(f"{request.name}: cannot list {error.filename}: {error.strerror}") from error
    reader = ImageReader(request.image_size, upscale=request.enlarge, squash=request.squash, stack=request.stack)
    tables = _read_masked(request, walk, parts, reader) if parts.train.masks else _read(request, walk, parts, reader)
    return tables._replace(found=_found(parts, walk, reader, tables.train.intensity))


def read_masked(
    request: Request, root: Path, masks: Mapping[Path, Path], n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read images with their masks, in the order of `masks`.

    Args:
        request: The request.
        root: Folder that paths in messages are relative to.
        masks: Mask file of each image file.
        n_classes: Number of classes of the masks.

    Returns:
        Blocks [M, C + 1, S, S] with the mask last, and the indices of their files, int64 [M].
    """

    def read(path: Path) -> np.ndarray:
        return read_image_and_mask(path, masks[path], request.image_size, n_classes, squash=request.squash)

    return read_all(list(masks), read, name=request.name, root=root, on_bad_image=request.on_bad_image)


def _chosen(request: Request, parts: Parts) -> Parts:
    """Return the parts with at most `max_train` images for training, first of all those with labels."""
    train = parts.train.take(request.choose(len(parts.train)))
    unlabeled = parts.unlabeled
    if request.max_train is not None:
        rest = dataclasses.replace(request, max_train=request.max_train - len(train))
        unlabeled = unlabeled.take(rest.choose(len(unlabeled)))
    return dataclasses.replace(parts, train=train, unlabeled=unlabeled)


def _read(request: Request, walk: Walk, parts: Parts, reader: ImageReader) -> Tables:
    listings = (parts.train, parts.unlabeled, parts.test)
    paths = tuple(path for listing in listings for path in listing.paths)
    images, kept, intensity = read_scaled(
        paths,
        reader,
        n_train=len(parts.train) + len(parts.unlabeled),
        window=request.window,
        name=request.name,
        root=walk.root,
        on_bad_image=request.on_bad_image,
    )
    _leave_out_unread(walk, reader, paths, kept)
    borders = np.cumsum([0, *map(len, listings)])
    tables, names = [], []
    for listing, start, stop in zip(listings, borders[:-1], borders[1:], strict=True):
        first, last = np.searchsorted(kept, (start, stop))
        own = listing.take(kept[first:last] - start)
        tables.append(_table(request.name, own, images[first:last], intensity))
        names.append(tuple(map(walk.relative, own.paths)))
    return _tables(request, walk, parts, tables, names)


def _read_masked(request: Request, walk: Walk, parts: Parts, reader: ImageReader) -> Tables:
    """Read the parts of a manifest with masks, whose classes are numbered and have their numbers as names."""
    tables, names = [], []
    for listing in (parts.train, parts.test):
        masks = dict(zip(listing.paths, listing.masks, strict=True))
        blocks, kept = read_masked(request, walk.root, masks, VOID)
        if blocks.dtype != np.uint8:
            raise DataError(f"{request.name}: images with masks must have 8 bits; convert them, or remove the masks")
        _leave_out_unread(walk, reader, listing.paths, kept)
        own = listing.take(kept)
        tables.append(_table(request.name, own, np.ascontiguousarray(blocks[:, :-1]), None))
        tables[-1] = dataclasses.replace(tables[-1], masks=np.ascontiguousarray(blocks[:, -1]))
        names.append(tuple(map(walk.relative, own.paths)))
    ids = [table.masks[table.masks != VOID] for table in tables if table.masks is not None]
    mask_names = tuple(map(str, range(1 + max(int(own.max(initial=0)) for own in ids))))
    train, test = (dataclasses.replace(table, mask_names=mask_names) for table in tables)
    images, kept = np.empty((0, *train.images.shape[1:]), np.uint8), np.arange(0)
    if len(parts.unlabeled):
        read = ImageReader(request.image_size, upscale=True, squash=request.squash)
        paths = parts.unlabeled.paths
        images, kept = read_all(paths, read, name=request.name, root=walk.root, on_bad_image=request.on_bad_image)
        _leave_out_unread(walk, reader, paths, kept)
    extra = _table(request.name, parts.unlabeled.take(kept), images, None)
    return _tables(request, walk, parts, [train, extra, test], [names[0], (), names[1]])


def _tables(
    request: Request, walk: Walk, parts: Parts, tables: list[ImageTable], names: list[tuple[str, ...]]
) -> Tables:
    """Return the tables of the training, the unlabeled and the test part, after checking that none is empty."""
    train, unlabeled, test = tables
    for part, table in (("training", train), ("test", test)):
        if not len(table):
            raise DataError(f"{request.name}: no usable image is left in the {part} part of {walk.root}")
    files = names[0], names[2]
    return Tables(train, test, unlabeled if len(unlabeled) else None, files, parts.test_is_drawn)


def _table(name: str, listing: Listing, images: np.ndarray, intensity: Intensity | None) -> ImageTable:
    return ImageTable(
        name,
        images,
        listing.labels,
        class_names=listing.class_names,
        groups=listing.groups,
        intensity=intensity,
    )


def _leave_out_unread(walk: Walk, reader: ImageReader, paths: tuple[Path, ...], kept: np.ndarray) -> None:
    """Note the files that `on_bad_image: skip` has left out, and why."""
    for index in sorted(set(range(len(paths))) - set(kept.tolist())):
        path = paths[index]
        size = reader.sizes.get(path)
        small = size is not None and not reader.upscale and min(size) < reader.image_size
        walk.leave_out(f"{TOO_SMALL} {reader.image_size}" if small else UNUSABLE, [path])


def _found(parts: Parts, walk: Walk, reader: ImageReader, intensity: Intensity | None) -> Found:
    by_area = sorted(reader.sizes.values(), key=lambda size: (size[0] * size[1], size))
    bits = {window.bits for window in intensity.windows} if intensity else set()
    bits |= {depth.bits for depth in reader.depths.values() if depth.bits == 8}
    return Found(
        parts.layout,
        parts.notes,
        walk.left_out,
        (by_area[0], by_area[-1]) if by_area else (),
        tuple(sorted(bits)),
        sum(min(size) < reader.image_size for size in by_area) if reader.upscale else 0,
    )
