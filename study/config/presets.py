"""Built-in presets: their names, their YAML, and what each is for. Imports nothing heavy, for shell completion."""

from __future__ import annotations

import importlib.resources
import re
from importlib.resources.abc import Traversable
from pathlib import Path

PRESETS = importlib.resources.files("study") / "presets"
SERIES = PRESETS / "series"
SCHEMA = PRESETS / "study.schema.json"  # beside the presets, whose first lines name it
EDITOR_LINE = "# yaml-language-server:"  # names the JSON schema of a YAML file for editors


def preset_names() -> list[str]:
    """Return the names of the built-in presets that are a single study."""
    return _names_in(PRESETS)


def series_names() -> list[str]:
    """Return the names of the built-in presets that are a series of studies."""
    return _names_in(SERIES)


def preset_text(name: str) -> str:
    """Return the YAML of the preset of this name, a study or a series."""
    folder = SERIES if name in series_names() else PRESETS
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def preset_summaries() -> dict[str, str]:
    """Return what each preset is for, by name: the first sentence of the comment that its YAML begins with.

    `quick`, which runs by default, comes first.
    """
    names = sorted([*preset_names(), *series_names()], key=lambda name: (name != "quick", name))
    return {name: _first_sentence(preset_text(name)) for name in names}


def editor_line() -> str:
    """Return the first line of a YAML file anywhere on this machine, from which an editor knows the schema."""
    return f"{EDITOR_LINE} $schema={Path(str(SCHEMA)).as_uri()}\n"


def _first_sentence(text: str) -> str:
    """Return the comment at the beginning of a YAML text, up to the end of its first sentence or to a colon."""
    comment: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if line.startswith(EDITOR_LINE):
            continue
        comment.append(line.removeprefix("#").strip())
    first = re.split(r"(?<=\?)\s|[.:](?:\s|$)", " ".join(comment), maxsplit=1)[0]
    return first.strip()


def _names_in(folder: Traversable) -> list[str]:
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir() if path.name.endswith(".yaml"))
