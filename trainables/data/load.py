"""Loading by name: `shapes`, `cifar10`, `fashion_mnist`, `voc2007`, `voc2012`, a folder ROOT/NAME or `folder:PATH`."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from trainables.data import shapes
from trainables.data.counting import take_inventory
from trainables.data.intensity import UserWindow
from trainables.data.leaks import ALLOW, MOVE
from trainables.data.readers.decode import STACK
from trainables.data.readers.folders import load_folder
from trainables.data.readers.listing import TEST_FRACTION
from trainables.data.request import (
    CURRENT,
    ON_BAD_IMAGE,
    ON_SMALL_IMAGE,
    RESIZE,
    SPLIT_RULES,
    Request,
    Tables,
)
from trainables.data.splits import VALIDATION_FRACTION, content_keys, make_splits
from trainables.data.table import Splits
from trainables.data.torchvision_sets import load_cifar10, load_fashion_mnist, load_voc, resolve_within
from trainables.errors import ConfigError, DataError
from trainables.registry import Registry

FOLDER_PREFIX = "folder:"
PHOTO_SIZE = 96  # default side of photographs in pixels
MOST_VALIDATION = 2000  # images held out of a set without labels; validation of a pretext task rarely pays for more


Loader = Callable[[Request], Tables]


class _Source(NamedTuple):
    native_size: int
    load: Loader


def load_splits(
    name: str,
    *,
    root: Path | None,
    image_size: int | None = None,
    max_train: int | None = None,
    seed: int = 0,
    download: bool = False,
    on_bad_image: str = "stop",
    resize: str = "crop",
    stack: str = "first",
    window: UserWindow | None = None,
    on_small_image: str = "stop",
    group_pattern: str | None = None,
    leak: str | None = None,
    split_rules: int = CURRENT,
) -> Splits:
    """Load a data set and return its five splits. Equal arguments and files give equal fingerprints.

    Args:
        name: Name of the data set.
        root: Data root; not used by `shapes` and `folder:PATH`.
        image_size: Side in pixels; None for 32 (shapes, cifar10, fashion_mnist) or 96 (voc and folders).
        max_train: Maximum number of training images before validation is held out; a smaller number gives a subset. For
            `shapes`, the exact number.
        seed: Seed of the validation draw, the `max_train` draw and all images of `shapes`. It does not change the test
            split of another data set, unless `max_train` and `leak: move` take near duplicates of other images from it.
        download: Whether to download a missing data set to `root` with torchvision. Otherwise nothing is downloaded.
        on_bad_image: `stop` raises an error for broken images, `skip` leaves them out with a warning.
        resize: How a photograph becomes a square: `crop` cuts its longer side, `squash` distorts it.
        stack: Pages that are read of a file with several: the `first`, all gray ones as `channels`, or all `pages` as
            images; the pages of a file are then one group unless the images are grouped otherwise.
        window: Values that become black and white in images of more than 8 bits, [low, high] or one pair per channel;
            None for percentiles of the training images.
        on_small_image: `stop` treats files smaller than `image_size` as broken, `enlarge` enlarges them.
        group_pattern: Regular expression that finds the group of an image in its path; images of one group are never on
            two sides of a split. None for independent images, or the groups of a manifest.
        leak: What happens to near duplicates across splits; see `make_splits`. None is `move` where the test split is
            drawn from the files, or there is none, and `allow` where it is given.
        split_rules: CURRENT, or FORMER for the splits of versions before 0.2, in which a validation folder joined the
            training images, and a fifth of a set without labels was held out as a test split that nothing read.

    Raises:
        ConfigError: A value is out of range, or the code of a plug-in's loader fails.
        DataError: The data set is unknown, missing, broken or too small.
    """
    for key, choice, known in (
        ("on_bad_image", on_bad_image, ON_BAD_IMAGE),
        ("resize", resize, RESIZE),
        ("stack", stack, STACK),
        ("on_small_image", on_small_image, ON_SMALL_IMAGE),
        ("split_rules", split_rules, SPLIT_RULES),
    ):
        if choice not in known:
            raise ConfigError(f"{key} = {choice!r}: must be one of {', '.join(map(str, known))}")
    for key, value, least in (("image_size", image_size, 8), ("max_train", max_train, 2), ("seed", seed, 0)):
        if value is not None and value < least:
            raise ConfigError(f"{key} = {value}: must be {least} or more")
    source = _find(name)
    size = source.native_size if image_size is None else image_size
    request = Request(
        name=name,
        root=root,
        image_size=size,
        max_train=max_train,
        seed=seed,
        download=download,
        on_bad_image=on_bad_image,
        resize=resize,
        stack=stack,
        window=window,
        on_small_image=on_small_image,
        group_pattern=group_pattern,
        split_rules=split_rules,
    )
    with _SOURCES.errors_in_one_line(name):
        tables = source.load(request)
    has_test, fraction = len(tables.test) > 0, VALIDATION_FRACTION
    if not has_test:
        fraction = min(fraction, MOST_VALIDATION / max(1, len(tables.train)))
    splits = make_splits(
        tables.train,
        tables.test,
        seed=seed,
        validation_fraction=fraction,
        extra_pretext=tables.unannotated,
        leak=leak or (ALLOW if has_test and not tables.test_is_drawn else MOVE),
        test_fraction=TEST_FRACTION if tables.test_is_drawn else None,
        files=tables.files,
        validation=tables.validation,
    )
    parts = (tables.train, tables.test, tables.unannotated, tables.validation)
    keys = [key for table in parts if table is not None for key in content_keys(table)]
    return dataclasses.replace(splits, inventory=take_inventory(splits, keys, tables.found))


def register_dataset(name: str, *, image_size: int = 32) -> Callable[[Loader], Loader]:
    """Return a decorator that makes a function the loader of a data set, which studies name by `dataset: NAME`.

    Args:
        name: Name of the data set.
        image_size: Default side of the images in pixels.

    Raises:
        ConfigError: The name is taken.
    """
    return _SOURCES.decorator(name, functools.partial(_Source, image_size))


def _find(name: str) -> _Source:
    if name.startswith(FOLDER_PREFIX) and len(name) > len(FOLDER_PREFIX):
        return _Source(PHOTO_SIZE, _load_own_folder)
    # One plain folder name: no separator, no "..", no drive, nothing hidden.
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ConfigError(f"dataset = {name!r}: must be a plain name or folder:PATH; known: {', '.join(_SOURCES)}")
    return _SOURCES.get(name, _Source(PHOTO_SIZE, _load_named_folder))


def native_size(name: str) -> int:
    """Return the default side of the images of a data set in pixels."""
    source = _SOURCES.get(name)
    return PHOTO_SIZE if source is None else source.native_size


def _load_shapes(request: Request) -> Tables:
    n_train = shapes.N_TRAIN if request.max_train is None else request.max_train
    generate = functools.partial(shapes.generate, image_size=request.image_size, seed=request.seed)
    return Tables(generate(n_train, split="train"), generate(shapes.N_TEST, split="test"))


def _load_own_folder(request: Request) -> Tables:
    return load_folder(request, Path(request.name.removeprefix(FOLDER_PREFIX)))


def _load_named_folder(request: Request) -> Tables:
    close = difflib.get_close_matches(request.name.lower(), _SOURCES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    known = f"Built-in data sets: {', '.join(_SOURCES)}; any other name is a folder of the data root, NAME/train/CLASS/"
    if request.root is None:
        raise DataError(f"unknown data set {request.name!r}.{hint} {known} with --data-root DIR")
    root = request.data_root()
    folder = resolve_within(root, request.name)
    if not folder.is_dir():
        raise DataError(f"unknown data set {request.name!r}: {root} has no folder of that name.{hint} {known}")
    return load_folder(request, folder)


_SOURCES: Registry[_Source] = Registry(
    "dataset",
    {
        "shapes": _Source(32, _load_shapes),
        "cifar10": _Source(32, load_cifar10),
        "fashion_mnist": _Source(32, load_fashion_mnist),
        "voc2007": _Source(PHOTO_SIZE, functools.partial(load_voc, year="2007")),
        "voc2012": _Source(PHOTO_SIZE, functools.partial(load_voc, year="2012")),
    },
)
