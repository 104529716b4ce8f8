"""Folder data sets: class folders or flat folders of images, in a fixed order, always with a test part."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.images import ImageReader
from trainables.data.intensity import Intensity
from trainables.data.pixels import read_scaled
from trainables.data.request import Request, Tables
from trainables.data.table import ImageTable
from trainables.errors import DataError, printable

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".npy", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
TEST_FRACTION = 0.2  # held out from each class if there is no test folder


@dataclass(frozen=True)
class Listing:
    """Image files of one part of a data set, sorted by class and path.

    Attributes:
        paths: Paths of N image files.
        labels: int64 [N], or None without classes.
        class_names: Names of the classes; empty without classes.
    """

    paths: tuple[Path, ...]
    labels: np.ndarray | None = None
    class_names: tuple[str, ...] = ()

    def take(self, indices: Sequence[int] | np.ndarray) -> Listing:
        """Return the files at `indices`, in that order."""
        labels = None if self.labels is None else self.labels[np.asarray(indices, np.int64)]
        return Listing(tuple(self.paths[i] for i in indices), labels, self.class_names)


def load_folder(request: Request, folder: Path) -> Tables:
    """Read a folder of {train,test}/CLASS/*, CLASS/*, {train,test}/* or only images (the last two without labels).

    Without a test folder, a fifth of each class, chosen by a hash of the path, becomes the test part.

    Raises:
        DataError: The folder is missing, empty or ambiguous, has a single class, or contains a link that leads out
            of it.
    """
    root = folder.expanduser().resolve()
    if not root.is_dir():
        raise DataError(f"{request.name}: {root} is not a folder")
    try:
        train, test = list_parts(root, request.name)
    except OSError as error:
        raise DataError(f"{request.name}: cannot list {error.filename}: {error.strerror}") from error
    train = train.take(request.choose(len(train.paths)))
    images, kept, intensity = read_scaled(
        train.paths + test.paths,
        ImageReader(request.image_size, squash=request.squash, stack=request.stack),
        n_train=len(train.paths),
        window=request.window,
        name=request.name,
        root=root,
        on_bad_image=request.on_bad_image,
    )
    border = int(np.searchsorted(kept, len(train.paths)))
    if border in (0, len(kept)):
        raise DataError(
            f"{request.name}: no usable image is left in the {'test' if border else 'training'} part of {root}"
        )
    return Tables(
        _table(request.name, train.take(kept[:border]), images[:border], intensity),
        _table(request.name, test.take(kept[border:] - len(train.paths)), images[border:], intensity),
    )


def list_parts(root: Path, name: str) -> tuple[Listing, Listing]:
    """List the training and test files of a folder.

    Args:
        root: Folder, with links resolved.
        name: Name of the data set, for error messages.

    Raises:
        DataError: As for `load_folder`.
    """
    parts = [part for part in ("train", "test") if (root / part).is_dir()]
    if not parts:
        return hold_out(_list_part(root, root, name), root)
    others = [entry.name for entry in entries(root, root, name) if entry.name not in parts and _may_hold_images(entry)]
    if others:
        raise DataError(
            f"{name}: {root} has {_few(others)} next to {parts[0]}/, which would not be read; move it elsewhere"
        )
    if parts == ["test"]:
        raise DataError(f"{name}: {root} has a test folder but no train folder")
    train = _list_part(root / "train", root, name)
    if parts == ["train"]:
        return hold_out(train, root)
    test = _list_part(root / "test", root, name, known=train.class_names)
    return train, test


def hold_out(listing: Listing, root: Path) -> tuple[Listing, Listing]:
    """Split a listing into training and test parts.

    The test part is TEST_FRACTION of each class, at least one image if the class has two: those with the lowest hash
    of the path relative to `root`. Location, order and modification times of the files therefore do not matter.
    """
    hashes = [hashlib.sha256(os.fsencode(path.relative_to(root).as_posix())).digest() for path in listing.paths]
    labels = np.zeros(len(hashes), np.int64) if listing.labels is None else listing.labels
    in_test = np.zeros(len(hashes), bool)
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=hashes.__getitem__)
        in_test[members[: max(round(TEST_FRACTION * len(members)), min(1, len(members) - 1))]] = True
    return listing.take(np.flatnonzero(~in_test)), listing.take(np.flatnonzero(in_test))


def list_images(folder: Path, root: Path, name: str) -> list[Path]:
    """List all image files below `folder`, sorted by path.

    Args:
        folder: Folder to search recursively.
        root: Folder that links must not lead out of.
        name: Name of the data set, for error messages.

    Raises:
        DataError: A link leads out of `root`, or to a folder.
    """
    found: list[Path] = []
    n_others = 0
    for entry in entries(folder, root, name):
        path = folder / entry.name
        if _is_folder(entry):
            found += list_images(path, root, name)
        elif _may_hold_images(entry):
            found.append(path)
        else:
            n_others += 1
    if n_others:
        logger.info("%s: %d files in %s are not images and are left out", name, n_others, folder)
    return found


def _list_part(folder: Path, root: Path, name: str, known: tuple[str, ...] | None = None) -> Listing:
    """List one part of a data set; a test part must share the `known` classes of the training part."""
    found = list(entries(folder, root, name))
    classes = [entry.name for entry in found if _is_folder(entry)]
    loose = [folder / entry.name for entry in found if not _is_folder(entry) and _may_hold_images(entry)]
    if loose and classes:
        raise DataError(
            f"{name}: {folder} has images ({_few([path.name for path in loose])}) next to folders ({_few(classes)}): "
            "put all images in class folders, or none"
        )
    if not loose and not classes:
        raise DataError(f"{name}: there is no image in {folder}")
    if known is not None and bool(known) != bool(classes):
        raise DataError(f"{name}: in {root}, only one of train and test has class folders")
    if loose:
        return Listing(tuple(loose))
    return _list_classes(folder, classes, root, name, known)


def _list_classes(folder: Path, classes: list[str], root: Path, name: str, known: tuple[str, ...] | None) -> Listing:
    files = {label: list_images(folder / label, root, name) for label in classes}
    if known is None:
        if len(classes) == 1:
            raise DataError(
                f"{name}: {folder} has the single class folder {classes[0]!r}, and a probe needs two; "
                f"for images without labels use folder:{folder / classes[0]}"
            )
        empty = [label for label in classes if not files[label]]
        if empty:
            raise DataError(f"{name}: there is no image in class folder {_few(empty)} of {folder}; fill or remove it")
        known = tuple(classes)
    unprintable = [label for label in classes if printable(label) != label]
    if unprintable:
        raise DataError(f"{name}: class folder {_few(unprintable)} of {folder} has a name that no report can print")
    unknown = [label for label in classes if label not in known]
    if unknown:
        raise DataError(f"{name}: class folder {_few(unknown)} of {folder} is not among the training classes")
    paths = tuple(path for label in classes for path in files[label])
    if not paths:
        raise DataError(f"{name}: there is no image in {folder}")
    labels = [known.index(label) for label in classes for _ in files[label]]
    return Listing(paths, np.array(labels, np.int64), known)


def entries(folder: Path, root: Path, name: str) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder, sorted, without hidden files.

    Args:
        folder: Folder to list.
        root: Folder that links must not lead out of.
        name: Name of the data set, for error messages.

    Raises:
        DataError: A link leads out of `root`, or to a folder.
    """
    with os.scandir(folder) as scan:
        found = sorted(scan, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))  # unlike Path.resolve, accepts a link to itself
            if not target.is_relative_to(root):
                raise DataError(f"{name}: the link {entry.path} leads out of {root}; copy what it points to")
            if target.is_dir():
                raise DataError(
                    f"{name}: {entry.path} is a link to a folder, whose images would count twice; remove it"
                )
        yield entry


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder. A link to itself counts as an unreadable image."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _may_hold_images(entry: os.DirEntry[str]) -> bool:
    return _is_folder(entry) or Path(entry.name).suffix.lower() in IMAGE_SUFFIXES


def _table(name: str, listing: Listing, images: np.ndarray, intensity: Intensity | None) -> ImageTable:
    return ImageTable(name, images, listing.labels, class_names=listing.class_names, intensity=intensity)


def _few(names: Sequence[str]) -> str:
    """Join the first three names and count the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
