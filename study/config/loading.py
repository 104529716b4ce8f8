"""Load a preset or a YAML file, apply the command line's changes, and build the StudyConfig."""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.config import strict_yaml
from study.config.plugins import with_plugin_paths, with_plugins
from study.config.presets import preset_names, preset_text, series_names
from study.config.schema import StudyConfig
from study.config.validation import check_config, one_line
from study.config.weights import with_weight_paths
from trainables.errors import ConfigError, suggestion
from trainables.spelling import RENAMED, with_current_names
from trainables.tasks import TASKS

Overrides = Sequence[str] | Mapping[str, Any]  # `KEY=VALUE` from the command line, or {KEY: value} from Python

logger = logging.getLogger(__name__)


def load_config(
    source: str, overrides: Overrides | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Load the StudyConfig of a preset or YAML file.

    Args:
        source: Name of a preset, or path of a YAML file.
        overrides: Changes as `KEY=VALUE`, the value parsed as YAML, or as values by key; `a.b` is key b of section a.
        changes: Values of top-level fields, applied after the overrides; None leaves a field unchanged,
            and `plugins` are added to those of the source.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    return build_config(read_source(source), overrides, changes)


def build_config(
    content: dict[str, Any], overrides: Overrides | None = None, changes: Mapping[str, Any] | None = None
) -> StudyConfig:
    """Build a StudyConfig from plain data.

    Args:
        content: The configuration. If `overrides` or `changes` select tasks, its settings for other tasks are dropped.
        overrides: As for `load_config`.
        changes: As for `load_config`.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    try:
        content = with_plugins(content)  # first, so that the names of its tasks are known
        if added := (changes or {}).get("plugins"):
            content = with_plugins({**content, "plugins": [*(content.get("plugins") or []), *added]})
        chosen = (changes or {}).get("tasks") or _with_overrides(content, overrides or []).get("tasks")
        if chosen != content.get("tasks") and isinstance(chosen, list):
            content = _without_tasks(content, {task for task in TASKS if task not in chosen})
        content = _with_overrides(content, overrides or [])
    except ConfigError as error:
        raise one_line(error) from error
    content.update({key: value for key, value in (changes or {}).items() if value is not None and key != "plugins"})
    config = check_config(content)
    if with_current_names(content) != content:
        renamed = ", ".join(f"{former!r} is now spelled {current!r}" for former, current in RENAMED.items())
        logger.warning("%s: %s; the former spelling is still accepted", config.name, renamed)
    return config


def simulated(config: StudyConfig) -> StudyConfig:
    """Return the same study on simulated trials, named `NAME-simulated`."""
    named = config.model_dump(mode="json", exclude_unset=True)  # rules that it does not name stay those it began with
    return check_config(named | {"name": f"{config.name[:53]}-simulated", "simulate": True})


def read_source(source: str) -> dict[str, Any]:
    """Return the plain data of a preset or YAML file.

    Raises:
        ConfigError: The source does not exist, cannot be read, or is not a mapping; in one line.
    """
    try:
        folder = Path(source).parent
        return _with_paths(_parse(source, _read_text(source)), folder)
    except ConfigError as error:
        raise one_line(error) from error


def _read_text(source: str) -> str:
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        try:
            if path.exists() and not path.is_file():
                raise ConfigError(f"{source}: not a file")  # reading a pipe would block forever
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ConfigError(f"{source}: no such file") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{source}: cannot be read as UTF-8 text ({error})") from error
    known = [*preset_names(), *series_names()]
    if source in known:
        return preset_text(source)
    raise ConfigError(f"{source!r} is neither a YAML file nor a preset; {suggestion(source, known)}")


def _parse(source: str, text: str) -> dict[str, Any]:
    try:
        content = strict_yaml.load(text)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: must contain `key: value` lines, not {content!r}")
    return content


def _with_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return plain data of a YAML file, a study or series, with the paths of plug-ins and weights below its folder."""
    changed = with_weight_paths(with_plugin_paths(content, folder), folder)
    if isinstance(parts := content.get("parts"), dict):
        changed["parts"] = {
            name: _with_paths(part, folder) if isinstance(part, dict) else part for name, part in parts.items()
        }
    return changed


def _without_tasks(content: dict[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    """Return plain data without the settings of some tasks, at any depth."""
    return {
        key: _without_tasks(value, tasks) if isinstance(value, dict) else value
        for key, value in content.items()
        if key not in tasks
    }


def _with_overrides(content: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """Return a copy of plain data with every override applied."""
    changed = copy.deepcopy(dict(content))
    if isinstance(overrides, Mapping):
        for key, value in overrides.items():
            _apply_override(changed, key, copy.deepcopy(value), f"{key}={value!r}")
        return changed
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {override}: must be KEY=VALUE, for example search.num_samples=8")
        try:
            value = strict_yaml.load(text)
        except ConfigError as error:
            raise ConfigError(f"--set {key}: {error}") from error
        _apply_override(changed, key, value, f"--set {override}")
    return changed


def _apply_override(content: dict[str, Any], key: str, value: Any, said: str) -> None:
    """Set `a.b.c` of plain data to a value; `said` is the override in the user's words."""
    *parents, last = key.split(".")
    section = content
    for parent in parents:
        inner = section.get(parent)
        if inner is None:
            inner = section[parent] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{said}: {parent} is {inner!r}, which has no keys")
        section = inner
    section[last] = value
