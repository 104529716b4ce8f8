"""The JSON schema that editors complete and check a study's YAML with."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from study.config import strict_yaml
from study.config.json_schema import schema_text
from study.config.loading import load_config
from study.config.presets import EDITOR_LINE, PRESETS, SCHEMA, preset_names, preset_summaries

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_text()))
FILES = sorted(Path(str(PRESETS)).rglob("*.yaml"))


def read(path: Path) -> Any:
    return strict_yaml.load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_preset_is_valid(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(read(path))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_first_line_of_every_preset_names_the_packaged_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first.startswith(f"{EDITOR_LINE} $schema=")
    named = path.parent / first.partition("$schema=")[2]
    assert named.resolve() == Path(str(SCHEMA)).resolve()


@pytest.mark.parametrize("preset", preset_names())
def test_a_configuration_written_as_yaml_is_valid_and_names_the_packaged_schema(preset: str) -> None:
    written = load_config(preset).to_yaml()
    assert [error.message for error in VALIDATOR.iter_errors(strict_yaml.load(written))] == []
    assert written.partition("\n")[0] == f"{EDITOR_LINE} $schema={Path(str(SCHEMA)).as_uri()}"


def test_the_packaged_schema_is_that_of_the_models() -> None:
    packaged = SCHEMA.read_text(encoding="utf-8")
    assert packaged == schema_text(), "run `python docs/reference_tables.py`"


def test_the_line_for_editors_is_no_summary_of_a_preset() -> None:
    assert preset_summaries()["quick"].startswith("Two tasks that beat untrained networks")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("", "budget_stepz", 10), ("", "budget_steps", "ten"), ("search", "algorithm", "magic"), ("confirm", "top_k", 0)],
)
def test_what_the_study_would_refuse_is_marked(section: str, key: str, value: Any) -> None:
    content = copy.deepcopy(read(Path(str(PRESETS / "quick.yaml"))))
    (content.setdefault(section, {}) if section else content)[key] = value
    assert not VALIDATOR.is_valid(content)


def test_names_of_plug_ins_are_accepted() -> None:
    content = read(Path(str(PRESETS / "quick.yaml"))) | {"tasks": ["jigsaw"], "plugins": ["./jigsaw_task.py"]}
    assert VALIDATOR.is_valid(content)
