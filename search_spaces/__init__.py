"""The default configuration, the search space and the cures of each pretext task, one module per task."""

from __future__ import annotations

from search_spaces.registry import SPECS, TaskSpec, register_task
from search_spaces.space import Choice, Domain, LogUniform, Space, Uniform, parse_domain

__all__ = [
    "SPECS",
    "Choice",
    "Domain",
    "LogUniform",
    "Space",
    "TaskSpec",
    "Uniform",
    "parse_domain",
    "register_task",
]
