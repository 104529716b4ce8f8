"""Series: studies that one preset or file lists as its parts, run one after another, with a page that joins them.

```yaml
name: report
page: original_report        # what joins the parts: one of PAGES; none by default
parts:
  pretext: {dataset: cifar10}  # each a study of its own, report-pretext, in OUTPUT/report/report-pretext
  case: {dataset: voc2012}
```

A study by itself is a series of one, without a folder around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.pages.series import FILE_NAME as SERIES_FILE
from analysis.pages.series import PAGES, write_page
from study.config import strict_yaml
from study.config.loading import build_config, read_source, simulated
from study.config.schema import StudyConfig
from trainables import files
from trainables.errors import ConfigError, suggestion

KEYS = ("name", "page", "parts")


@dataclass(frozen=True)
class Series:
    """Studies in the order in which they run.

    name: of the folder around them; empty for a study by itself.
    parts: the studies by the names that the series gives them. page: what joins them, one of PAGES; empty for nothing.
    """

    parts: Mapping[str, StudyConfig]
    name: str = ""
    page: str = ""

    def within(self, output: Path) -> Path:
        """Return the folder that the parts' own folders lie in."""
        return output / self.name

    def simulated(self) -> Series:
        """Return the same series on simulated trials, under a name of its own."""
        parts = {name: simulated(config) for name, config in self.parts.items()}
        return replace(self, parts=parts, name=f"{self.name}-simulated" if self.name else "")

    def begin(self, output: Path) -> None:
        """Write down what the series is, so that its page can be written again from its folder alone."""
        if self.page:
            names = {part: config.name for part, config in self.parts.items()}
            content = {"name": self.name, "page": self.page, "parts": names}
            files.write(self.within(output) / SERIES_FILE, strict_yaml.dump(content).encode())

    def end(self, output: Path) -> Path | None:
        """Write the page that joins the parts and return its path; None where there is none."""
        return write_page(self.within(output)) if self.page else None


def load_series(source: str, overrides: list[str] | None = None, changes: Mapping[str, Any] | None = None) -> Series:
    """Return the series of a preset or YAML file; a single study is a series of one.

    overrides: `KEY=VALUE`; in a series, of the part that KEY begins with (`PART.KEY=VALUE`), else of all parts, but for
        `name`, which is the series' own.
    Raises ConfigError, in one line that names the key, the value and what is allowed.
    """
    content = read_source(source)
    if "parts" not in content:
        config = build_config(content, overrides, changes)
        return Series({config.name: config})
    name, page, parts = _checked(source, content)
    if (changes or {}).get("tasks"):
        first = next(iter(parts))
        raise ConfigError(f"--tasks: {name} has several parts, each with its own; use --set '{first}.tasks=[...]'")
    own: dict[str, list[str]] = {part: [] for part in parts}
    for override in overrides or []:
        if override.startswith("name="):
            name = override.removeprefix("name=")
            continue
        part, _, rest = override.partition(".")
        for each in [part] if part in parts else parts:
            own[each].append(rest if part in parts else override)
    return Series({part: _part(name, part, parts[part], own[part], changes) for part in parts}, name, page)


def _part(
    series: str, name: str, content: dict[str, Any], overrides: list[str], changes: Mapping[str, Any] | None
) -> StudyConfig:
    try:
        return build_config({"name": f"{series}-{name}", **content}, overrides, changes)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _checked(source: str, content: Mapping[str, Any]) -> tuple[str, str, dict[str, dict[str, Any]]]:
    """Return name, page and parts of a series. Raises ConfigError for anything else in it."""
    for key in content:
        if key not in KEYS:
            raise ConfigError(f"{source}: {key}: unknown key beside parts; {suggestion(str(key), list(KEYS))}")
    name, page, parts = content.get("name"), content.get("page", ""), content["parts"]
    if not isinstance(name, str):
        raise ConfigError(f"{source}: name = {name!r}: a series of parts needs a name")
    if page and page not in PAGES:
        raise ConfigError(f"{source}: page = {page!r}: no such page; {suggestion(str(page), list(PAGES))}")
    if not isinstance(parts, dict) or not parts or not all(isinstance(part, dict) for part in parts.values()):
        raise ConfigError(f"{source}: parts = {parts!r}: must be studies by name, {{NAME: {{dataset: ...}}}}")
    for part in parts:
        if part in StudyConfig.model_fields:
            raise ConfigError(f"{source}: parts.{part}: the name of a setting, with which --set would mix it up")
    return name, page, parts
