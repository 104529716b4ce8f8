"""Checks of the encoder that a configuration names."""

from __future__ import annotations

import logging

from study.config.sections import EncoderConfig
from trainables.encoders.names import TIMM
from trainables.encoders.timm_models import require

logger = logging.getLogger(__name__)


def check_network(encoder: EncoderConfig) -> None:
    """Check that a model of timm exists; log one line if a width has no effect.

    Raises:
        ConfigError: timm is not installed or has no such model.
    """
    has_own_widths = encoder.name.startswith(TIMM) or encoder.name in ("resnet18", "resnet50")
    if encoder.name.startswith(TIMM):
        require(encoder.name)
    if has_own_widths and encoder.width != EncoderConfig().width:
        logger.warning("encoder.width = %d has no effect: %s has widths of its own", encoder.width, encoder.name)
