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
from study.config.presets import PRESETS

VALIDATOR = jsonschema.Draft202012Validator(json.loads(schema_text()))
FILES = sorted(Path(str(PRESETS)).rglob("*.yaml"))


def read(path: Path) -> Any:
    return strict_yaml.load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_preset_is_valid(path: Path) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(read(path))] == []


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
