"""Studies of pretext tasks: configuration, phases, execution on Ray Tune, the journal and MLflow tracking.

`study.run` runs a study from Python, `study.plan` shows what it would run, `study.config` checks a configuration, and
`study.load` opens a study that has been run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from study.api.plans import PlannedStudy, plan
    from study.api.results import StudyResult, load
    from study.api.running import run
    from study.api.sources import config
    from trainables.errors import ConfigError, DataError, UserError

__all__ = ["ConfigError", "DataError", "PlannedStudy", "StudyResult", "UserError", "config", "load", "plan", "run"]

_HOMES = {
    "PlannedStudy": "study.api.plans",
    "StudyResult": "study.api.results",
    "load": "study.api.results",
    "run": "study.api.running",
    **dict.fromkeys(("ConfigError", "DataError", "UserError"), "trainables.errors"),
}
_CALLABLE = ("config", "plan")  # packages that are functions as well


def __getattr__(name: str) -> Any:
    """Import the public names at their first use: they need torch and Ray, which `--help` must not wait for."""
    if name in _CALLABLE:
        return importlib.import_module(f"study.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for completion in notebooks."""
    return sorted({*globals(), *__all__})
