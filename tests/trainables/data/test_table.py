"""Tables as tensors: images in [0, 1], in the memory layout that is asked for."""

from __future__ import annotations

import pytest
import torch

from trainables.data.table import to_float


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
