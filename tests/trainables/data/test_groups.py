"""Groups stay on one side of every split, in about the proportions of the classes."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.data.groups import hold_out_groups, joined_groups, merged


def plates(n_per_class: int = 5, n_images: int = 10, n_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels and groups of plates with images of one class each."""
    groups = np.repeat(np.arange(n_per_class * n_classes), n_images)
    return groups % n_classes, groups


@pytest.mark.parametrize("seed", range(5))
def test_whole_groups_are_held_out_stratified_by_class(seed: int) -> None:
    labels, groups = plates()
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out = hold_out_groups(labels, groups, 0.2, order)
    assert not set(groups[held_out]) & set(groups[~held_out])
    assert np.bincount(labels[held_out]).tolist() == [10, 10, 10]
    assert (held_out == hold_out_groups(labels, groups, 0.2, order)).all()


def test_unequal_groups_of_several_classes_come_close_to_the_fraction() -> None:
    rng = np.random.default_rng(0)
    groups = rng.choice(40, 1000, p=(weights := rng.gamma(1, size=40)) / weights.sum())
    labels = rng.integers(0, 4, 1000)
    held_out = hold_out_groups(labels, groups, 0.2, rng.permutation(1000))
    assert not set(groups[held_out]) & set(groups[~held_out])
    shares = np.bincount(labels[held_out]) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.06


def test_a_class_keeps_an_image_and_gets_one_where_its_groups_allow() -> None:
    labels, groups = np.repeat([0, 1, 2], [10, 10, 20]), np.repeat([0, 1, 2, 3, 4], [10, 2, 8, 10, 10])
    for seed in range(5):
        held_out = hold_out_groups(labels, groups, 0.2, np.random.default_rng(seed).permutation(40))
        assert sorted(set(groups[held_out])) in ([1, 3], [1, 4])  # the single group of class 0 stays


def test_what_is_decided_stays() -> None:
    labels, groups = plates()
    before = np.isin(groups, [0, 1, 2])
    after = hold_out_groups(labels, groups, 0.2, np.arange(len(labels)), held_out=before, undecided=np.array([0, 3]))
    assert (after == before)[~np.isin(groups, [0, 3])].all()
    assert np.bincount(labels[after]).tolist() == [10, 10, 10]


def test_links_join_groups() -> None:
    assert merged(np.array([5, 5, 7, 8, 9]), [(0, 2), (2, 3)]).tolist() == [5, 5, 5, 5, 9]


def test_groups_of_two_tables_in_a_row() -> None:
    assert joined_groups(np.array([3, 3]), 2, np.array([3]), 1).tolist() == [3, 3, 3]
    independent = joined_groups(np.array([3, 3]), 2, None, 2)
    assert len(set(independent.tolist())) == 3
