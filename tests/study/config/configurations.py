"""Configurations of tests: refused, overridden and read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.config.validation import check_config
from trainables.errors import ConfigError


def complaint(content: dict[str, Any]) -> str:
    """Return the one line that refuses a configuration."""
    with pytest.raises(ConfigError) as refused:
        check_config({"name": "demo", **content})
    assert "\n" not in str(refused.value)
    return str(refused.value)


def overridden(*overrides: str) -> StudyConfig:
    return load_config("quick", list(overrides))


def file_with(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)
