"""Simulated data sets: the right form, enough images for every preset, and hardly any bytes."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from study.config.loading import load_config, preset_names
from study.plan.feasibility import check_plan
from study.plan.phases import Plan, probed_datasets
from trainables import simulated
from trainables.data import register_dataset
from trainables.registry import ALL

NAMED = ("cifar10", "fashion_mnist", "shapes")


@pytest.mark.parametrize("name", [*NAMED, "my_own", "folder:/there"])
def test_labeled_sets_have_ten_balanced_classes(name: str) -> None:
    splits = simulated.load_splits(name)
    assert splits.labeled
    assert splits.name == name
    assert len(splits.pretext_train) >= 10_000
    for table in (splits.pretext_train, splits.pretext_validation, splits.test):
        assert table.labels is not None
        counts = np.bincount(table.labels)
        assert len(counts) == table.n_classes == 10
        assert np.ptp(counts) <= 1
        assert np.bincount(table.labels[: len(table) // 2]).min() > 0.7 * len(table) / 20  # in random order


@pytest.mark.parametrize("name", ["voc2007", "voc2012"])
def test_photographs_have_masks_and_no_labels(name: str) -> None:
    splits = simulated.load_splits(name)
    assert not splits.labeled
    assert splits.masked
    assert len(splits.test.mask_names) == 21
    assert splits.pretext_train.labels is None
    assert len(splits.pretext_train) >= 10_000


def test_sizes_are_those_asked_for() -> None:
    splits = simulated.load_splits("shapes", max_train=1000, image_size=48)
    assert len(splits.pretext_train) == 800
    assert len(splits.pretext_validation) == 200
    assert splits.pretext_train.image_size == 48
    assert simulated.load_splits("shapes").pretext_train.image_size == 32
    tiny = simulated.load_splits("shapes", max_train=2)
    assert len(tiny.pretext_train) == len(tiny.pretext_validation) == 1


def test_a_data_set_of_a_plugin_has_its_own_side() -> None:
    register_dataset("mine28", image_size=28)(lambda request: pytest.fail("simulated data are not loaded"))
    try:
        assert simulated.load_splits("mine28").pretext_train.image_size == 28
    finally:
        ALL["dataset"].remove("mine28")


def test_equal_arguments_equal_data() -> None:
    first, second, other = (simulated.load_splits("cifar10", seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert first.fingerprint != simulated.load_splits("fashion_mnist").fingerprint


def test_tens_of_thousands_of_images_take_no_memory_and_travel_light() -> None:
    splits = simulated.load_splits("cifar10", image_size=224)
    assert splits.pretext_train.images.strides == (0, 0, 0, 0)
    content = pickle.dumps(splits, protocol=5)
    assert len(content) < 200_000
    arrived = pickle.loads(content)
    assert arrived.fingerprint == splits.fingerprint
    assert arrived.pretext_train is arrived.probe_train
    np.testing.assert_array_equal(arrived.test.labels, splits.test.labels)
    rows = np.array([3, 1])
    np.testing.assert_array_equal(arrived.test.take(rows).labels, splits.test.labels[rows])  # type: ignore[index]
    assert arrived.pretext_train.subset(200, seed=0).images.shape == (200, 3, 224, 224)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_fits_its_simulated_data(preset: str) -> None:
    config = load_config(preset)
    arguments = {"max_train": config.max_train, "image_size": config.image_size}
    names = {config.dataset, *probed_datasets(config, {})}
    check_plan(Plan(config, {name: simulated.load_splits(name, **arguments) for name in names}))
