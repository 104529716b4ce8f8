"""Five splits that share no image where they must not, drawn once and the same each time."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from trainables.data.splits import content_keys, make_splits
from trainables.data.table import ImageTable
from trainables.errors import ConfigError, DataError


def table(n: int, *, seed: int = 0, labels: np.ndarray | None = None, masks: bool = False) -> ImageTable:
    rng = np.random.default_rng(seed)
    return ImageTable(
        "made",
        rng.integers(0, 256, (n, 3, 8, 8), dtype=np.uint8),
        labels=labels,
        masks=rng.integers(0, 2, (n, 8, 8), dtype=np.uint8) if masks else None,
        class_names=() if labels is None else ("a", "b"),
        mask_names=("background", "thing") if masks else (),
    )


def keys(one: ImageTable | None) -> set[bytes]:
    assert one is not None
    return set(content_keys(one))


def test_a_labeled_set_is_stratified_and_its_probe_splits_are_the_same_tables() -> None:
    train = table(100, labels=np.repeat([0, 1], [80, 20]))
    splits = make_splits(train, table(10, seed=1, labels=np.zeros(10, np.int64)), validation_fraction=0.25)
    assert np.bincount(np.asarray(splits.pretext_validation.labels)).tolist() == [20, 5]
    assert np.bincount(np.asarray(splits.pretext_train.labels)).tolist() == [60, 15]
    assert splits.probe_train is splits.pretext_train
    assert splits.probe_validation is splits.pretext_validation
    assert splits.labeled
    assert keys(splits.pretext_train) | keys(splits.pretext_validation) == keys(train)
    assert not keys(splits.pretext_train) & keys(splits.pretext_validation)


def test_the_draw_depends_on_the_seed_alone() -> None:
    train, test = table(50), table(5, seed=1)
    first, again, other = (make_splits(train, test, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint
    assert first.test is test


def test_without_annotation_there_is_no_probe() -> None:
    splits = make_splits(table(50), table(5, seed=1))
    assert (len(splits.pretext_train), len(splits.pretext_validation)) == (40, 10)
    assert splits.probe_train is None
    assert splits.probe_validation is None
    assert not splits.labeled


def test_partly_labeled_images_are_probed_where_labeled() -> None:
    labels = np.repeat([-1, 0, 1], [50, 25, 25])
    splits = make_splits(table(100, labels=labels), table(4, seed=1, labels=np.array([0, 1, 0, 1])))
    assert len(splits.pretext_train) == 80
    assert splits.probe_train is not None
    assert np.bincount(np.asarray(splits.probe_train.labels)).tolist() == [20, 20]
    assert keys(splits.probe_train) < keys(splits.pretext_train)


def test_extra_images_join_pretext_training_alone_and_never_from_held_out_splits() -> None:
    train, test = table(50, masks=True), table(10, seed=1, masks=True)
    fresh = table(30, seed=2)
    extra = ImageTable("made", np.concatenate([fresh.images, train.images, test.images]))
    splits = make_splits(train, test, extra_pretext=extra)
    assert splits.probe_train is not None
    assert (len(splits.probe_train), len(splits.pretext_validation)) == (40, 10)
    assert splits.probe_train.masks is not None
    assert splits.pretext_train.masks is None
    assert keys(fresh) <= keys(splits.pretext_train)
    assert not keys(splits.pretext_train) & (keys(splits.pretext_validation) | keys(test))


def test_extra_images_of_a_labeled_set_are_unlabeled() -> None:
    splits = make_splits(table(50, labels=np.arange(50) % 2), table(4, seed=1, labels=np.array([0, 1, 0, 1])),
                         extra_pretext=table(30, seed=2))  # fmt: skip
    assert splits.pretext_train.labels is not None
    assert (splits.pretext_train.labels[40:] == -1).all()
    assert splits.probe_train is not None
    assert len(splits.probe_train) == 40


def test_a_training_image_that_is_also_held_out_is_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    unique, test = table(40), table(10, seed=1)
    images = np.concatenate([unique.images, unique.images, test.images[:3]])
    with caplog.at_level(logging.WARNING):
        splits = make_splits(ImageTable("made", images), test)
    assert not keys(splits.pretext_train) & keys(splits.pretext_validation)
    assert not (keys(splits.pretext_train) | keys(splits.pretext_validation)) & keys(test)
    assert "made: 3 training images are also held out" in caplog.text


def test_a_class_that_a_split_lacks_is_named_also_without_groups(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.array([0] + [1] * 30)
    with caplog.at_level(logging.WARNING):
        make_splits(table(31, labels=labels), table(4, seed=1, labels=np.array([0, 1, 1, 1])))
    assert "made: no validation image of class a: all its images are in other splits" in caplog.text
    assert caplog.text.count("image of class") == 1


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match="1 training images are too few"):
        make_splits(table(1), table(5, seed=1))
    with pytest.raises(DataError, match="too few"):
        make_splits(table(5), table(5))


def test_unlabeled_test_images_are_left_out_and_labeled_ones_are_needed() -> None:
    train = table(50, labels=np.arange(50) % 2)
    splits = make_splits(train, table(4, seed=1, labels=np.array([0, -1, 1, -1])))
    assert splits.test.labels is not None
    assert splits.test.labels.tolist() == [0, 1]
    for test in (table(4, seed=1, labels=np.full(4, -1)), table(0), table(4, seed=1)):
        with pytest.raises(DataError, match="no test image has"):
            make_splits(train, test)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_an_impossible_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="validation_fraction"):
        make_splits(table(10), table(5, seed=1), validation_fraction=fraction)
