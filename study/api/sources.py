"""Configurations from Python: a preset, a YAML file, plain data or a StudyConfig, with changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from study.config.loading import build_config, read_source, simulated
from study.config.schema import StudyConfig
from trainables.errors import ConfigError

Source = str | Path | Mapping[str, Any] | StudyConfig


def config(
    source: Source = "quick", *, set: Mapping[str, Any] | None = None, simulate: bool = False, **fields: Any
) -> StudyConfig:
    """Return the validated configuration of a study.

    ```python
    study.config("quick", tasks=["rotation"], set={"search.num_samples": 16})
    ```

    Args:
        source: Name of a preset, path of a YAML file, a mapping of the same keys, or a StudyConfig.
        set: Values by dotted key, for settings inside a section.
        simulate: Whether to simulate the trials; appends `-simulated` to the name, as `--simulate` does.
        fields: Values of top-level keys. A section given here replaces the whole section; `plugins` are added to those
            of the source.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    content = _content(source)
    plugins = fields.pop("plugins", None)
    overrides = {**fields, **(set or {})}
    if bad := [key for key in overrides if not isinstance(key, str)]:
        raise ConfigError(f"set: {bad[0]!r} is not a key; write keys as text, for example 'search.num_samples'")
    built = build_config(content, _plain(overrides), {"plugins": _plain(plugins)})
    return simulated(built) if simulate and not built.simulate else built


def _content(source: Source) -> dict[str, Any]:
    """Return the plain data of a source."""
    if isinstance(source, StudyConfig):
        return source.model_dump(mode="json", exclude_unset=True)
    if isinstance(source, Mapping):
        content = _plain(source)
    elif isinstance(source, (str, Path)):
        content = read_source(str(source))
    else:
        raise ConfigError(f"{source!r} is not a study; give a preset, the path of a YAML file, or a mapping")
    if "parts" in content:
        raise ConfigError(
            f"{content.get('name', source)} is a series of studies ({', '.join(map(str, content['parts']))}); run it "
            "with `python study/run.py`, or give one of its parts here"
        )
    return content


def _plain(value: Any) -> Any:
    """Return a value as YAML would hold it: lists for tuples, text for paths, and numbers of Python."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value
