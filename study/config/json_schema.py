"""JSON schema of a study's YAML, for completion and checks in editors."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from search_spaces.ablations import DESIGNS
from study.config.schema import StudyConfig
from trainables.augmentation import OPS
from trainables.encoders import ENCODERS
from trainables.tasks import TASKS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
STUDY, PART, SERIES = "Study", "Part", "Series"  # definitions; a part of a series needs no name


def study_schema() -> dict[str, Any]:
    """Return the JSON schema of a study or a series of studies.

    It suggests the built-in names of tasks, encoders, designs and ops, and accepts others, which plug-ins may add. The
    checks that need more than types, such as bounds of a task's options, are made when the study is loaded.
    """
    study = StudyConfig.model_json_schema()
    definitions = study.pop("$defs")
    for model in _models(StudyConfig):
        _describe(study if model is StudyConfig else definitions[model.__name__], model)
    _suggest_names(study, definitions)
    record = study["properties"]["plugins"]["items"]
    study["properties"]["plugins"]["items"] = {"anyOf": [{"type": "string"}, record]}
    part = {**study, "title": PART, "required": [name for name in study.get("required", []) if name != "name"]}
    record = study["properties"]["init_weights"]["anyOf"]
    study["properties"]["init_weights"]["anyOf"] = [{"type": "string"}, *record]
    definitions["WeightsBaseline"]["required"] = ["weights", "encoder"]
    definitions |= {STUDY: study, PART: part, SERIES: _series()}
    return {
        "$schema": DIALECT,
        "title": "A study, or a series of studies, of pretext tasks",
        "if": {"required": ["parts"]},
        "then": {"$ref": f"#/$defs/{SERIES}"},
        "else": {"$ref": f"#/$defs/{STUDY}"},
        "$defs": definitions,
    }


def schema_text() -> str:
    """Return `study_schema` as the text of a JSON file."""
    return json.dumps(study_schema(), indent=1, ensure_ascii=False) + "\n"


def attributes(kind: type) -> dict[str, str]:
    """Return the meaning of each field from the `Attributes:` section of a class's docstring, without its period."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    found = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: re.sub(r"\s+", " ", meaning).removesuffix(".") for name, meaning in found}


def _models(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a model and the models of its sections."""
    sections = (field.annotation for field in model.model_fields.values())
    return [model, *(each for each in sections if inspect.isclass(each) and issubclass(each, BaseModel))]


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Replace the docstring of a model by its first sentence, and give each property its meaning."""
    schema["description"] = (inspect.getdoc(model) or "").partition("\n\n")[0]
    for name, meaning in attributes(model).items():
        schema["properties"][name]["description"] = f"{meaning}."


def _suggest_names(study: dict[str, Any], definitions: dict[str, Any]) -> None:
    for values, names in (
        (study["properties"]["tasks"]["items"], TASKS.built_in),
        (definitions["EncoderConfig"]["properties"]["name"], ENCODERS.built_in),
        (definitions["AblateConfig"]["properties"]["designs"]["items"], DESIGNS.built_in),
        (definitions["AblateConfig"]["properties"]["ops"]["anyOf"][0]["items"], OPS),
    ):
        values.pop("type")
        values["anyOf"] = _names(names)


def _names(names: Iterable[str]) -> list[dict[str, Any]]:
    return [{"enum": list(names)}, {"type": "string"}]


def _series() -> dict[str, Any]:
    return {
        "title": SERIES,
        "description": "Studies that run one after another, and the page that joins their results.",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "parts"],
        "properties": {
            "name": {"type": "string", "description": "Name of the series."},
            "page": {"type": "string", "description": "Page that joins the parts; none by default."},
            "parts": {
                "type": "object",
                "minProperties": 1,
                "description": "Each part, a study, by its name in the series.",
                "additionalProperties": {"$ref": f"#/$defs/{PART}"},
            },
        },
    }
