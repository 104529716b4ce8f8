"""The weights that a study brings: read, checked against their encoders and the images, and described in one line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from study.config.schema import StudyConfig
from study.config.sections import EncoderConfig, WeightsBaseline
from trainables.data.table import ImageTable
from trainables.encoders import build_encoder
from trainables.encoders.weights import load_weights, read_weights

logger = logging.getLogger(__name__)


def check_weights(config: StudyConfig, table: ImageTable) -> None:
    """Load all weights of a study into their encoders once; log one line for each file.

    Args:
        config: The study's configuration.
        table: Images that it trains on.

    Raises:
        ConfigError: A file cannot be read, or its tensors are not those of the encoder.
    """
    if config.simulate:
        return
    for baseline in config.baselines:
        _check(baseline.name, baseline.weights, baseline.encoder, baseline, table)
    if config.init_weights:
        _check("init_weights", config.init_weights.weights, config.encoder.name, config.encoder, table)


def weights_of(config: StudyConfig) -> dict[str, dict[str, Tensor]]:
    """Return the tensors in each file of weights of a study, by the hash of the file.

    Raises:
        ConfigError: A file cannot be read.
    """
    files = {each.sha256: each.weights for each in config.baselines}
    if config.init_weights:
        files[config.init_weights.sha256] = config.init_weights.weights
    return {sha256: read_weights(Path(path)) for sha256, path in files.items()}


def _check(
    name: str, path: str, architecture: str, section: EncoderConfig | WeightsBaseline, table: ImageTable
) -> None:
    inputs = {"image_size": table.image_size, "in_channels": table.n_channels, **section.inputs}
    encoder = build_encoder(architecture, width=section.width, **inputs)
    dropped = load_weights(encoder, read_weights(Path(path)), name)
    side = section.input_size or table.image_size
    scaled = f"scaled from {table.image_size} to {side} px" if side != table.image_size else f"of {side} px"
    by = f", normalized by mean {_numbers(section.mean)} and std {_numbers(section.std)}" if section.mean else ""
    left_out = f"; left out: {', '.join(dropped)}" if dropped else ""
    logger.warning("weights %s (%s): images %s%s%s", name, architecture, scaled, by, left_out)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
