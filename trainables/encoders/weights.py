"""Pretrained weights: read from a file, and loaded into an encoder name by name."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.encoders.base import Encoder
from trainables.encoders.timm_models import TimmNetwork
from trainables.errors import ConfigError, first_line

SAFETENSORS = ".safetensors"
HEADS = ("fc", "classifier", "head", "head_dist", "last_linear", "last_layer")  # modules after the features
NESTED = ("state_dict", "model")  # keys of checkpoints that contain a state dict
SHOWN = 5  # names in a message


def digest(path: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a file.

    Raises:
        ConfigError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        raise ConfigError(f"weights {path}: cannot be read ({error.strerror})") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors in a file by name. No code in the file is run.

    Args:
        path: A safetensors file, or a state dict or a checkpoint of PyTorch with one.

    Raises:
        ConfigError: The file cannot be read, or contains something else.
    """
    try:
        content = _read_safetensors(path) if path.suffix == SAFETENSORS else torch.load(path, "cpu", weights_only=True)
    # Whatever a file of another kind makes the unpickler do.
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        AttributeError,
        TypeError,
        pickle.PickleError,
    ) as error:
        raise ConfigError(f"weights {path}: neither safetensors nor a state dict: {first_line(error)}") from error
    inner = next((content[key] for key in NESTED if isinstance(content, Mapping) and key in content), content)
    if not isinstance(inner, Mapping) or not inner or not all(isinstance(each, Tensor) for each in inner.values()):
        raise ConfigError(f"weights {path}: must contain a state dict, which maps names to tensors")
    return dict(inner)


def load_weights(encoder: Encoder, weights: Mapping[str, Tensor], name: str) -> list[str]:
    """Load weights into an encoder; every tensor of the encoder must be among them.

    Args:
        encoder: Encoder to change.
        weights: Tensors by the names of the encoder's own state dict, or of timm's.
        name: Name of the weights, for messages.

    Returns:
        Names of the classifier's tensors, which an encoder does not have and which are left out.

    Raises:
        ConfigError: Names are missing, unexpected, or have tensors of another shape.
    """
    network = getattr(encoder, "network", None)
    target: nn.Module = network.model if isinstance(network, TimmNetwork) else encoder
    if weights.keys() & encoder.state_dict().keys():
        target = encoder
    expected = target.state_dict()
    dropped = [key for key in weights if key not in expected and key.split(".")[0] in HEADS]
    missing = [key for key in expected if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in expected and key not in dropped]
    shapes = [
        f"{key} is {list(weights[key].shape)} instead of {list(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    problems = [
        f"{what}: {', '.join(keys[:SHOWN])}{f' and {len(keys) - SHOWN} more' if len(keys) > SHOWN else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise ConfigError(f"weights {name} do not fit the encoder: {'; '.join(problems)}")
    target.load_state_dict({key: value for key, value in weights.items() if key in expected}, strict=False)
    return dropped


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ConfigError(f'weights {path} need safetensors: pip install "pretext-study[timm]"') from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
