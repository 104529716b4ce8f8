"""Per-image results of a study's trials, which are read only where an interval over new images needs them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis import records
from analysis.data.parquet import read_frame
from analysis.records import TrialEnded
from analysis.records.layout import PER_IMAGE_FILE
from analysis.stats.influence import balanced_accuracy_images, mean_iou_images
from trainables.errors import UserError
from trainables.per_image import LABELS, unpack

PER_IMAGE_ARTIFACT = "per_image.json"  # artifact of a trial's MLflow run

_DTYPES = {"trial_id": "str", "name": "str", "packed": "str"}
_BALANCED = re.compile(r"(?P<accuracy>(?P<dataset>probe/.+)/(linear|knn|(linear|fine_tuned)/[^/]+))_balanced_accuracy")

Packed = Mapping[str, str]  # packed arrays by the name of the result, as in `trainables.per_image.Evaluation`


class PerImage:
    """Per-image results of a study's trials.

    Args:
        read: Function that returns the packed arrays of a trial; empty for a trial that kept none. It is called once
            per trial.
    """

    def __init__(self, read: Callable[[str], Packed] | None = None) -> None:
        self._packed = functools.cache(read or _nothing)

    def packed(self, trial_id: str) -> Packed:
        """Return the packed arrays of a trial by the names of their results; empty for a trial that kept none."""
        return self._packed(trial_id)

    def array(self, trial_id: str, name: str) -> np.ndarray | None:
        """Return an array of `trainables.per_image.Evaluation.per_image` by its name.

        None if the trial did not keep it, as trials of earlier versions.

        Raises:
            UserError: What was kept is damaged.
        """
        packed = self._packed(trial_id)
        if name not in packed:
            return None
        try:
            return unpack(packed[name])
        except ValueError as error:
            raise UserError(
                f"trial {trial_id}, {name}: {error}; restore the study from a copy, or run the trial again"
            ) from error

    def contributions(self, trial_id: str, result: str) -> np.ndarray | None:
        """Return the contribution of each image to a result of a trial, float64 [N], in the order of the split.

        For an accuracy they are 1 and 0, whether the image is classified correctly; see `analysis.stats.influence` for
        the others.

        Args:
            trial_id: The trial.
            result: Name of the result: an accuracy, balanced accuracy or mIoU.

        Returns:
            None if the trial kept no per-image results of it, as trials of earlier versions.

        Raises:
            UserError: What was kept is damaged.
        """
        balanced = _BALANCED.fullmatch(result)
        found = self.array(trial_id, balanced["accuracy"] if balanced else result)
        labels = self.array(trial_id, f"{balanced['dataset']}/{LABELS}") if balanced else None
        if found is None or (balanced and labels is None):
            return None
        if labels is not None:
            return balanced_accuracy_images(found, labels)
        return found.astype(np.float64) if found.dtype == bool else mean_iou_images(found)


def per_image_of(folder: Path) -> PerImage:
    """Return the per-image results in a study's folder: of its journal, or of `per_image.parquet` without one."""

    @functools.cache
    def by_trial() -> dict[str, Packed]:
        if (folder / records.JOURNAL_FILE).is_file():
            return _journal(folder)
        if not (folder / PER_IMAGE_FILE).is_file():
            return {}
        try:
            frame = read_frame(folder / PER_IMAGE_FILE)
        except (pa.ArrowException, OSError) as error:
            raise UserError(
                f"{folder / PER_IMAGE_FILE} cannot be read ({error}); copy it again, or delete it"
            ) from error
        return {
            str(trial_id): dict(zip(own["name"], own["packed"], strict=True))
            for trial_id, own in frame.groupby("trial_id", sort=False)
        }

    return PerImage(lambda trial_id: by_trial().get(trial_id, {}))


def per_image_frame(folder: Path) -> pd.DataFrame:
    """Return the per-image results in the journal of `folder` as a frame: trial_id, name, packed."""
    rows = [(trial_id, *item) for trial_id, packed in _journal(folder).items() for item in packed.items()]
    return pd.DataFrame(rows, columns=list(_DTYPES)).astype(_DTYPES)


def _journal(folder: Path) -> dict[str, Packed]:
    return {event.trial_id: event.per_image for event in records.read(folder, TrialEnded) if event.per_image}


def _nothing(trial_id: str) -> Packed:
    return {}
