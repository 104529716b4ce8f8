"""The default configuration, the search space and the cures of each pretext task, one module per task."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from search_spaces import context_encoder, context_prediction, rotation, simclr
from search_spaces.space import Choice, Domain, LogUniform, Space, Uniform, parse_domain

_MODULES: dict[str, ModuleType] = {
    "rotation": rotation,
    "context_encoder": context_encoder,
    "simclr": simclr,
    "context_prediction": context_prediction,
}

DEFAULTS: dict[str, dict[str, Any]] = {task: module.DEFAULT for task, module in _MODULES.items()}
SPACES: dict[str, Space] = {task: module.SPACE for task, module in _MODULES.items()}
CURES: dict[str, dict[str, tuple[Any, ...]]] = {task: module.CURES for task, module in _MODULES.items()}

__all__ = ["CURES", "DEFAULTS", "SPACES", "Choice", "Domain", "LogUniform", "Space", "Uniform", "parse_domain"]
