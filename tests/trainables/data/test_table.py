"""Tables: what their labels must be, and images as tensors in [0, 1], in the memory layout that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainables.data.table import ImageTable, to_float
from trainables.errors import DataError


def test_uint8_becomes_zero_to_one() -> None:
    images = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    assert images.dtype == torch.float32
    assert images.flatten().tolist() == pytest.approx([0, 0.2, 1])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("given", [torch.contiguous_format, torch.channels_last])
def test_the_layout_changes_no_value(layout: torch.memory_format, given: torch.memory_format) -> None:
    images = torch.arange(256, dtype=torch.uint8).repeat(6).view(2, 3, 16, 16)
    found = to_float(images.contiguous(memory_format=given), layout)
    assert found.is_contiguous(memory_format=layout)
    assert torch.equal(found, images / 255)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 1], np.uint8), r"must be int64, not uint8; use labels.astype\(np.int64\)"),
        (np.array([0, 2]), "must be -1 .* to 1, .* not 0 to 2"),
        (np.array([-2, 1]), "not -2 to 1"),
        (np.array([[0], [1]]), r"labels of shape \(2, 1\)"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageTable("own", np.zeros((2, 1, 8, 8), np.uint8), labels, class_names=("a", "b"))
