"""Packed results of each image: what goes in comes out, and little of it."""

from __future__ import annotations

import numpy as np
import pytest

from trainables.per_image import Evaluation, pack, unpack


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False, True]),
        np.zeros(0, bool),
        np.ones(41, bool),
        np.array([0, 9, 3]),
        np.array([[[0, 300], [2, 4]], [[7, 70_000], [70_000, 1]]]),
        np.zeros((3, 2, 0), np.int64),
    ],
)
def test_an_array_comes_back_as_it_was(array: np.ndarray) -> None:
    found = unpack(pack(array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype.kind == ("b" if array.dtype == bool else "u")


def test_ten_thousand_answers_take_less_than_two_kilobytes() -> None:
    answers = np.random.default_rng(0).random(10_000) < 0.6
    assert len(pack(answers)) < 2_000


@pytest.mark.parametrize(
    "text", ["", "bool:3", "bool:3:???", "object:3:eJw=", "float64:1:eJxjYGBgAAAABAAB", pack(np.ones(9, bool))[:-8]]
)
def test_damaged_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="damaged per-image results"):
        unpack(text)


def test_a_text_cannot_unpack_to_more_than_its_shape_says() -> None:
    large = pack(np.zeros(10**6, np.uint8)).split(":")[2]
    with pytest.raises(ValueError, match="6 bytes for uint8 5"):
        unpack(f"uint8:5:{large}")


def test_evaluations_join_and_take_a_prefix() -> None:
    both = Evaluation({"linear": 0.5}, {"linear": "a"}) | Evaluation({"knn": 0.25})
    assert both.prefixed("probe/a/") == Evaluation(
        {"probe/a/linear": 0.5, "probe/a/knn": 0.25}, {"probe/a/linear": "a"}
    )
