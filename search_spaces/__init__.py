"""Where to look: the search space and default configuration of each pretext task."""

from __future__ import annotations

from typing import Any

from search_spaces import context_encoder, context_prediction, rotation, simclr
from search_spaces.space import Choice, Domain, LogUniform, Space, Uniform, parse_domain

DEFAULTS: dict[str, dict[str, Any]] = {
    "rotation": rotation.DEFAULT,
    "context_encoder": context_encoder.DEFAULT,
    "simclr": simclr.DEFAULT,
    "context_prediction": context_prediction.DEFAULT,
}

SPACES: dict[str, Space] = {
    "rotation": rotation.SPACE,
    "context_encoder": context_encoder.SPACE,
    "simclr": simclr.SPACE,
    "context_prediction": context_prediction.SPACE,
}

__all__ = ["DEFAULTS", "SPACES", "Choice", "Domain", "LogUniform", "Space", "Uniform", "parse_domain"]
