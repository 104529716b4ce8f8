"""The contract of data sets as tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainables.data import Splits, load_splits


class DatasetConformance:
    """Tests of the data set called `name`.

    Attributes:
        root: Data root; None for a data set that needs none.
        max_train: Training images to load at most.
    """

    root: Path | None = None
    max_train: int = 200

    def load(self, name: str, image_size: int | None = None) -> Splits:
        """Return the splits of the data set."""
        return load_splits(name, root=self.root, max_train=self.max_train, image_size=image_size)

    def test_has_training_and_test_images_of_one_form(self, name: str) -> None:
        splits = self.load(name)
        train, test = splits.pretext_train, splits.test
        assert len(train) > 0
        assert len(test) > 0
        assert train.images.ndim == 4
        assert train.images.shape[1:] == test.images.shape[1:]
        assert train.images.shape[2] == train.images.shape[3]

    def test_gives_the_side_that_is_asked_for(self, name: str) -> None:
        assert self.load(name, image_size=24).pretext_train.images.shape[2:] == (24, 24)

    def test_gives_the_same_images_at_every_call(self, name: str) -> None:
        first, again = self.load(name), self.load(name)
        assert first.pretext_train.fingerprint == again.pretext_train.fingerprint
        assert first.test.fingerprint == again.test.fingerprint

    def test_loads_at_most_as_many_training_images_as_asked_for(self, name: str) -> None:
        splits = self.load(name)
        assert len(splits.pretext_train) + len(splits.pretext_validation) <= self.max_train

    def test_labels_every_image_with_a_class_that_has_a_name(self, name: str) -> None:
        splits = self.load(name)
        assert splits.labeled or splits.pretext_train.labels is None
        for table in (splits.probe_train, splits.probe_validation, splits.test):
            if table is None or table.labels is None:
                continue
            assert len(table.labels) == len(table)
            assert table.labels.dtype == np.int64
            assert table.labels.min() >= 0
            assert table.labels.max() < len(table.class_names)

    def test_has_images_that_differ(self, name: str) -> None:
        assert np.ptp(self.load(name).pretext_train.images.astype(np.float32), axis=0).max() > 0
