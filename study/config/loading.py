"""From a preset or a YAML file, and what the command line changes in it, to a StudyConfig."""

from __future__ import annotations

import copy
import importlib.resources
import logging
from collections.abc import Collection, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from study.config import strict_yaml
from study.config.schema import TASK_NAMES, StudyConfig
from study.config.validation import check_config, one_line, with_current_names
from trainables.errors import ConfigError, suggestion

logger = logging.getLogger(__name__)

PRESETS = importlib.resources.files("study") / "presets"
SERIES = PRESETS / "series"


def preset_names() -> list[str]:
    """Return the names of the built-in presets that are one study."""
    return _names_in(PRESETS)


def series_names() -> list[str]:
    """Return the names of the built-in presets that are a series of studies."""
    return _names_in(SERIES)


def _names_in(folder: Traversable) -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))


def load_config(
    source: str, overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Return the StudyConfig of a preset or YAML file, with `KEY=VALUE` overrides and then `changes` applied.

    Raises ConfigError, in one line that names the key, the value and what is allowed.
    """
    return config_of(read_source(source), overrides, changes)


def config_of(
    content: dict[str, Any], overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Return the StudyConfig of plain data, with overrides and then `changes` applied.

    Where these choose among the tasks, what the data set for the others is left out. Raises ConfigError, in one line.
    """
    try:
        chosen = (changes or {}).get("tasks") or _overridden(content, overrides or []).get("tasks")
        if chosen != content.get("tasks") and isinstance(chosen, list):
            content = _without(content, {task for task in TASK_NAMES if task not in chosen})
        content = _overridden(content, overrides or [])
    except ConfigError as error:
        raise one_line(error) from error
    content.update({key: value for key, value in (changes or {}).items() if value is not None})
    if with_current_names(content) != content:
        logger.warning("the configuration spells 'grey', which is 'gray' now; it is read as such")
    return check_config(content)


def simulated(config: StudyConfig) -> StudyConfig:
    """Return the same study on simulated trials, under a name of its own."""
    return check_config(config.model_dump(mode="json") | {"name": f"{config.name[:53]}-simulated", "simulate": True})


def read_source(source: str) -> dict[str, Any]:
    """Return the plain data of a preset or YAML file. Raises ConfigError, in one line."""
    try:
        return _read(source)
    except ConfigError as error:
        raise one_line(error) from error


def _without(content: dict[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    """Return plain data without the settings of some tasks, at any depth."""
    return {
        key: _without(value, tasks) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in tasks
    }


def _read(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        try:
            if path.exists() and not path.is_file():
                raise ConfigError(f"{source}: not a file")  # a pipe would be waited for without end
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError(f"{source}: no such file") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{source}: not a text file in UTF-8 that can be read ({error})") from error
    elif source in (presets := [*preset_names(), *series_names()]):
        folder = PRESETS if source in preset_names() else SERIES
        text = (folder / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        raise ConfigError(f"{source!r} is neither a YAML file nor a preset; {suggestion(source, presets)}")
    try:
        content = strict_yaml.load(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must hold `key: value` lines, not {content!r}")
    return content


def _overridden(content: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return plain data with every `KEY=VALUE` applied."""
    changed = copy.deepcopy(dict(content))
    for override in overrides:
        _override(changed, override)
    return changed


def _override(content: dict[str, Any], override: str) -> None:
    """Apply `a.b.c=VALUE`, the value read as YAML."""
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: must be KEY=VALUE, for example search.num_samples=8")
    *parents, last = key.split(".")
    place = content
    for parent in parents:
        inner = place.get(parent)
        if inner is None:
            inner = place[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {parent} holds the value {inner!r}, which has no keys below it")
        place = inner
    try:
        place[last] = strict_yaml.load(value)
    except ConfigError as error:
        raise ConfigError(f"--set {key}: {error}") from error
