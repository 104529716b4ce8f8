"""Folder data sets: images in any of the layouts of `layout`, or as a manifest says, read into tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainables.data.intensity import Intensity
from trainables.data.inventory import Found
from trainables.data.readers.decode import PAGES
from trainables.data.readers.images import ImageReader
from trainables.data.readers.layout import Parts, list_parts
from trainables.data.readers.listing import MANIFEST, Listing
from trainables.data.readers.manifest import read_manifest
from trainables.data.readers.masks import MaskedReader
from trainables.data.readers.pixels import read_scaled
from trainables.data.readers.walk import Walk, few
from trainables.data.request import FORMER, Request, Tables
from trainables.data.table import ImageTable
from trainables.errors import DataError
from trainables.files import expanded

UNUSABLE = "that cannot be used as images"  # why files are left out, with on_bad_image: skip
TOO_SMALL = "smaller than image_size"


def load_folder(request: Request, folder: Path) -> Tables:
    """Read a folder of images in one of the layouts of `list_parts`, or as its manifest says.

    Raises:
        DataError: The folder is missing, empty or ambiguous, has a single class, or contains a link that leads out
            of it; or its manifest has faults.
        ConfigError: `group_pattern` is not a regular expression, or contradicts a manifest.
    """
    root = expanded(folder).resolve()
    if not root.is_dir():
        raise DataError(f"{request.name}: {root} is not a folder")
    try:
        walk, parts = _list(request, root)
    except OSError as error:
        raise DataError(f"{request.name}: cannot list {error.filename}: {error.strerror}") from error
    upscale = request.enlarge or bool(parts.train.masks)
    reader = ImageReader(
        request.image_size, upscale=upscale, squash=request.squash, stack=request.stack, pages=walk.pages
    )
    if parts.train.masks:
        listings = (parts.train, parts.validation, parts.test)
        masks = {path: mask for own in listings for path, mask in zip(own.paths, own.masks, strict=True)}
        reader = MaskedReader(**vars(reader), masks=masks)
    return _read(request, walk, _chosen(request, parts), reader)


def _list(request: Request, root: Path) -> tuple[Walk, Parts]:
    """Return the walk through a folder, and its parts by its manifest or else by the names of its folders.

    A manifest one folder below the root counts if all images are in that folder, as where an archive was unpacked.
    """
    by_page = request.stack == PAGES
    walk = Walk(root, request.name, by_page=by_page)
    rules = request.group_pattern, request.split_rules
    if (root / MANIFEST).exists():
        return walk, read_manifest(walk, *rules)
    if request.split_rules == FORMER:
        return walk, list_parts(walk, *rules)
    content = walk.content(root)
    below = [name for name in (*content.folders, *content.empty) if (root / name / MANIFEST).is_file()]
    if len(below) == 1 and content.folders == tuple(below) and not content.images:
        inner = Walk(root / below[0], request.name, by_page=by_page)
        parts = read_manifest(inner, *rules)
        return inner, dataclasses.replace(parts, notes=(*parts.notes, f"{MANIFEST} is in {below[0]}/"))
    parts = list_parts(walk, *rules)
    unread = [f"{name}/{MANIFEST}" for name in below]
    note = f"{few(unread)} not read: put one {MANIFEST} with all images into {root}, or name its folder as the data set"
    return walk, dataclasses.replace(parts, notes=(*parts.notes, *[note] * bool(below)))


def _chosen(request: Request, parts: Parts) -> Parts:
    """Return the parts with at most `max_train` images for training, first of all those with labels."""
    train = parts.train.take(request.choose(len(parts.train)))
    unlabeled = parts.unlabeled
    if request.max_train is not None:
        rest = dataclasses.replace(request, max_train=request.max_train - len(train))
        unlabeled = unlabeled.take(rest.choose(len(unlabeled)))
    return dataclasses.replace(parts, train=train, unlabeled=unlabeled)


def _read(request: Request, walk: Walk, parts: Parts, reader: ImageReader) -> Tables:
    """Read the images, and masks, of all parts into tables, after checking that no part that is needed is empty."""
    listings = (parts.train, parts.unlabeled, parts.test, parts.validation)
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
    if isinstance(reader, MaskedReader):
        reader.check_classes(request.name)
    borders = np.cumsum([0, *map(len, listings)])
    tables, names = [], []
    for listing, start, stop in zip(listings, borders[:-1], borders[1:], strict=True):
        first, last = np.searchsorted(kept, (start, stop))
        own = listing.take(kept[first:last] - start)
        tables.append(_table(request.name, own, images[first:last], intensity, reader))
        names.append(tuple(map(walk.relative, own.paths)))
    train, unlabeled, test, validation = tables
    needed = {"training": train, **({"test": test} if parts.train.labels is not None or parts.train.masks else {})}
    if len(parts.validation):
        needed["validation"] = validation
    for part, table in needed.items():
        if not len(table):
            raise DataError(f"{request.name}: no usable image is left in the {part} part of {walk.root}")
    return Tables(
        train,
        test,
        unlabeled if len(unlabeled) else None,
        (names[0], names[2], names[3], names[1]),
        parts.test_is_drawn,
        _found(parts, walk, reader, intensity, [paths[index] for index in kept]),
        validation if len(validation) else None,
    )


def _table(
    name: str, listing: Listing, images: np.ndarray, intensity: Intensity | None, reader: ImageReader
) -> ImageTable:
    masked = reader if isinstance(reader, MaskedReader) and listing.masks else None
    return ImageTable(
        name,
        images,
        listing.labels,
        masked.masks_of(listing.paths) if masked else None,
        class_names=listing.class_names,
        mask_names=masked.mask_names if masked else (),
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


def _found(parts: Parts, walk: Walk, reader: ImageReader, intensity: Intensity | None, read: Sequence[Path]) -> Found:
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
        (len(set(map(walk.file_of, read))), len(read)) if walk.by_page else (),
    )
