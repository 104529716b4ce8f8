"""Series of studies: the parts listed by one preset or file, run in order, with a page that joins their results.

```yaml
name: report
page: original_report          # one of analysis.pages.series.PAGES; optional
parts:
  pretext: {dataset: cifar10}  # a study named report-pretext, in OUTPUT/report/report-pretext
  case: {dataset: voc2012}
```

A single study is a series of one part, without a folder of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from analysis.pages.series import FILE_NAME as SERIES_FILE
from analysis.pages.series import PAGES, write_page
from study.config import strict_yaml
from study.config.loading import build_config, read_source, simulated
from study.config.names import Name
from study.config.schema import StudyConfig
from study.config.validation import one_line
from trainables import files
from trainables.errors import ConfigError, suggestion

KEYS = ("name", "page", "parts")


@dataclass(frozen=True)
class Series:
    """Studies in the order in which they run.

    Attributes:
        parts: Configuration of each part, by the part's name in the series.
        name: Name of the series and of the folder around its parts; empty for a single study.
        page: Name of the page that joins the parts, one of PAGES; empty for no page.
    """

    parts: Mapping[str, StudyConfig]
    name: str = ""
    page: str = ""

    def folder(self, output: Path) -> Path:
        """Return the folder that contains the folders of the parts."""
        return output / self.name

    def simulated(self) -> Series:
        """Return the same series on simulated trials, with `-simulated` appended to its names."""
        parts = {name: simulated(config) for name, config in self.parts.items()}
        return replace(self, parts=parts, name=f"{self.name}-simulated" if self.name else "")

    def write_description(self, output: Path) -> None:
        """Write the file that allows rewriting the page without the configuration."""
        if self.page:
            names = {part: config.name for part, config in self.parts.items()}
            content = {"name": self.name, "page": self.page, "parts": names}
            files.write(self.folder(output) / SERIES_FILE, strict_yaml.dump(content).encode())

    def write_page(self, output: Path) -> Path | None:
        """Write the page that joins the parts and return its path; None for a series without a page."""
        return write_page(self.folder(output)) if self.page else None


def load_series(source: str, overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None) -> Series:
    """Load the series of a preset or YAML file; a single study is a series of one part.

    Args:
        source: Name of a preset, or path of a YAML file.
        overrides: Changes as `KEY=VALUE`. In a series, `PART.KEY=VALUE` applies to one part and `KEY=VALUE` to all
            parts, except `name`, which renames the series.
        changes: Values of top-level fields of every part, applied after the overrides; None leaves a field unchanged.

    Raises:
        ConfigError: One line that names the key, the value and what is allowed.
    """
    content = read_source(source)
    if "parts" not in content:
        config = build_config(content, overrides, changes)
        return Series({config.name: config})
    name, page, parts = _validated(source, content)
    if (changes or {}).get("tasks"):
        first = next(iter(parts))
        raise ConfigError(f"--tasks: {name} has several parts, each with its own; use --set '{first}.tasks=[...]'")
    if (changes or {}).get("budget_hours"):
        first = next(iter(parts))
        raise ConfigError(f"--hours: {name} has several parts; give each its time, --set {first}.budget_hours=1")
    own: dict[str, list[str]] = {part: [] for part in parts}
    for override in overrides or []:
        if override.startswith("name="):
            name = override.removeprefix("name=")
            continue
        part, _, rest = override.partition(".")
        for each in [part] if part in parts else parts:
            own[each].append(rest if part in parts else override)
    _check_name(source, name)
    series = Series({part: _part(name, part, parts[part], own[part], changes) for part in parts}, name, page)
    _check_names_of_parts(source, series)
    return series


def _part(
    series: str, name: str, content: dict[str, Any], overrides: list[str], changes: Mapping[str, Any] | None
) -> StudyConfig:
    try:
        return build_config({"name": f"{series}-{name}", **content}, overrides, changes)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _check_name(source: str, name: str) -> None:
    """Raise ConfigError for a name of a series that a study could not have, since it is the name of a folder, too."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise one_line(ConfigError(f"{source}: name = {name!r}: {message[0].lower()}{message[1:]}")) from error


def _check_names_of_parts(source: str, series: Series) -> None:
    """Raise ConfigError for two parts of one name, which would share a folder."""
    part_of: dict[str, str] = {}
    for part, config in series.parts.items():
        if (first := part_of.setdefault(config.name, part)) != part:
            raise ConfigError(
                f"{source}: parts.{part}.name = {config.name!r}: this is also the name of {first}, and so of its "
                "folder; leave it out, or choose another one"
            )


def _validated(source: str, content: Mapping[str, Any]) -> tuple[str, str, dict[str, dict[str, Any]]]:
    """Return name, page and parts of a series; raise ConfigError if its structure is wrong."""
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{source}: {key}: unknown key next to parts; {suggestion(str(key), list(KEYS))}")
    name, page, parts = content.get("name"), content.get("page", ""), content["parts"]
    if not isinstance(name, str):
        raise ConfigError(f"{source}: name = {name!r}: a series of parts needs a name")
    if page and not (isinstance(page, str) and page in PAGES):
        raise ConfigError(f"{source}: page = {page!r}: no such page; {suggestion(str(page), list(PAGES))}")
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, dict) for part in parts.values()):
        raise ConfigError(f"{source}: parts = {parts!r}: must be studies by name, {{NAME: {{dataset: ...}}}}")
    for part in parts:
        if part in StudyConfig.model_fields:
            raise ConfigError(f"{source}: parts.{part}: this is the name of a setting, so --set would be ambiguous")
    return name, page, parts
