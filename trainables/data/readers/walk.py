"""Walk through a folder: the images in it by content, and every file that is left out, with the reason."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainables.data.inventory import HARMLESS, HIDDEN, LEFT_BEHIND, NOT_AN_IMAGE, LeftOut, describe_left_out
from trainables.data.readers.formats import is_image, missing_decoder
from trainables.data.readers.pages import Page, pages_of
from trainables.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset({".npy", ".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp", ".gif"})
# Files and folders that operating systems, file servers and archive programs leave behind, in lower case. Those whose
# names begin with a dot are hidden and left out anyway.
LEFTOVERS = frozenset(
    {
        "$recycle.bin",
        "@eadir",
        "@recently-snapshot",
        "@recycle",
        "@tmp",
        "#recycle",
        "#snapshot",
        "__macosx",
        "__pycache__",
        "desktop.ini",
        "found.000",
        "lost+found",
        "recycled",
        "recycler",
        "system volume information",
        "thumbs.db",
        "ehthumbs.db",
    }
)
SMALLER_PAGE = "that are smaller copies or masks of other pages"
N_NAMED = 3


@dataclass(frozen=True)
class Content:
    """What a folder holds, in the order of the names.

    Attributes:
        folders: Names of the folders with images in them, at any depth.
        empty: Names of the other folders.
        images: Image files next to the folders.
    """

    folders: tuple[str, ...]
    empty: tuple[str, ...]
    images: tuple[Path, ...]


class Walk:
    """A walk through the folder of a data set. Every folder is listed once.

    Args:
        root: The folder, with links resolved; links must not lead out of it.
        name: Name of the data set, for error messages.
        by_page: Whether each page of a file is an image; otherwise a file is one image.

    Attributes:
        pages: Page that each path names which is an image, by path, as far as files were listed; empty unless
            `by_page`.
    """

    def __init__(self, root: Path, name: str, *, by_page: bool = False) -> None:
        self.root, self.name, self.by_page = root, name, by_page
        self.pages: dict[Path, Page] = {}
        self._images_in: dict[Path, list[Path]] = {}
        self._contents: dict[Path, Content] = {}
        self._left_out: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def content(self, folder: Path) -> Content:
        """Return what a folder holds.

        Raises:
            DataError: A link leads out of the root, or to a folder.
        """
        if folder not in self._contents:
            folders: list[str] = []
            empty: list[str] = []
            images: list[Path] = []
            for entry in self._entries(folder):
                path = folder / entry.name
                if is_folder(entry):
                    (folders if self.images(path) else empty).append(entry.name)
                elif self._is_candidate(path):
                    images.append(path)
            self._contents[folder] = Content(tuple(folders), tuple(empty), tuple(images))
        return self._contents[folder]

    def images(self, folder: Path) -> list[Path]:
        """Return all images below a folder, in the order of their paths.

        Raises:
            DataError: As for `content`.
        """
        content = self.content(folder)
        below = {name: self.images(folder / name) for name in content.folders}
        both = {**below, **{file.name: self.images_in(file) for file in content.images}}
        return [path for name in sorted(both) for path in both[name]]

    def images_in(self, file: Path) -> list[Path]:
        """Return the images in a file: the file itself, or the paths of its pages; see `pages_of`."""
        if not self.by_page:
            return [file]
        if file not in self._images_in:
            pages, others = pages_of(file)
            self.pages |= pages
            self._images_in[file] = list(pages)
            self.leave_out(SMALLER_PAGE, others)
        return self._images_in[file]

    def file_of(self, path: Path) -> Path:
        """Return the file that an image is in."""
        return self.pages[path].file if path in self.pages else path

    def leave_out(self, reason: str, paths: Iterable[Path]) -> None:
        """Note files that are not used, for `left_out`."""
        self._left_out[reason] |= {self.relative(path): 1 for path in paths}

    @property
    def left_out(self) -> tuple[LeftOut, ...]:
        """The files that are not used so far, by reason."""
        return tuple(
            LeftOut(reason, sum(found.values()), tuple(found)[:N_NAMED])
            for reason, found in self._left_out.items()
            if found
        )

    def relative(self, path: Path) -> str:
        """Return a path as it is named in messages and in manifests, relative to the root."""
        return path.relative_to(self.root).as_posix()

    def check_link(self, path: Path) -> None:
        """Check where a path leads.

        Raises:
            DataError: It is a link that leads out of the root, or to a folder.
        """
        if not path.is_symlink():
            return
        target = Path(os.path.realpath(path))  # unlike Path.resolve, accepts a link to itself
        if not target.is_relative_to(self.root):
            raise DataError(f"{self.name}: the link {path} leads out of {self.root}; copy what it points to")
        if target.is_dir():
            raise DataError(f"{self.name}: {path} is a link to a folder, whose images would count twice; remove it")

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """List a folder, sorted, without hidden files and what other programs leave behind."""
        with os.scandir(folder) as scan:
            found = sorted(scan, key=lambda entry: entry.name)
        kept = []
        for entry in found:
            reason = _unwanted(entry.name)
            if reason:
                path = folder / entry.name
                self._left_out[reason][self.relative(path)] = _n_files(path) if reason == LEFT_BEHIND else 1
                continue
            self.check_link(folder / entry.name)
            kept.append(entry)
        return kept

    def _is_candidate(self, path: Path) -> bool:
        """Whether a file is to be read as an image; a broken one must not disappear, so its suffix counts as well."""
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return True
        try:
            if is_image(path):
                return True
            reason = missing_decoder(path) or NOT_AN_IMAGE
        except OSError as error:
            reason = f"unreadable ({error.strerror})"
        self.leave_out(reason, [path])
        return False


def list_images(folder: Path, name: str, *, by_page: bool = False) -> tuple[list[Path], Mapping[Path, Page]]:
    """Return all images below a folder, in the order of their paths, after logging what is left out.

    Args:
        folder: Folder to search, with links resolved.
        name: Name of the data set, for messages.
        by_page: Whether each page of a file is an image.

    Returns:
        Their paths, and the page that each of them names if `by_page`.

    Raises:
        DataError: A link leads out of `folder`, or to a folder.
    """
    walk = Walk(folder, name, by_page=by_page)
    found = walk.images(folder)
    log_left_out(name, walk.left_out)
    return found, walk.pages


def log_left_out(name: str, left_out: Sequence[LeftOut]) -> None:
    """Log files that were left out of the data set `name`: a warning if they might have been meant."""
    for each in left_out:
        level = logging.INFO if each.reason in HARMLESS else logging.WARNING
        logger.log(level, "%s: left out: %s", name, describe_left_out(each))


def few(names: Sequence[str]) -> str:
    """Join the first three names and count the others."""
    more = len(names) - N_NAMED
    return ", ".join(names[:N_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder. A link to itself counts as an unreadable image."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _unwanted(name: str) -> str | None:
    """Return why a file or folder is left out by its name alone; None if it is not."""
    if name.lower() in LEFTOVERS or name.startswith(("._", ".DS_Store", ".Trash", ".ipynb_checkpoints")):
        return LEFT_BEHIND
    return HIDDEN if name.startswith(".") else None


def _n_files(path: Path) -> int:
    """Return the number of files below a folder; 1 for a file or an empty folder."""
    return max(1, sum(len(files) for _, _, files in os.walk(path)))
