"""Write what is generated from the code, by `python docs/reference_tables.py`.

These are the tables of docs/configuration.md and docs/tasks.md, and the JSON schema beside the presets.

Each table is between two comments that Markdown does not show, `<!-- table: NAME -->` and `<!-- end -->`.
`tests/test_documents.py` fails if a page and the code disagree.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from search_spaces import SPECS
from search_spaces.ablations import DESIGNS
from search_spaces.space import Choice, Domain, LogUniform, Uniform
from study.config.json_schema import attributes, schema_text
from study.config.presets import SCHEMA
from study.config.schema import StudyConfig
from trainables.augmentation import OPS
from trainables.encoders import ENCODERS
from trainables.tasks import TASKS

DOCS = Path(__file__).parent
PAGES = (DOCS / "configuration.md", DOCS / "tasks.md")
# Names that a validator checks, which the schema shows as plain strings.
NAMES = {"tasks": TASKS, "encoder.name": ENCODERS, "ablate.designs": DESIGNS, "ablate.ops": OPS}
FILES = {"plugins": "list of names", "baselines": "list of mappings", "init_weights": "file or `null`"}
PER_TASK = {"defaults", "task_options"}


def main() -> None:
    """Rewrite the tables of both pages, and the JSON schema."""
    for page in PAGES:
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    Path(str(SCHEMA)).write_text(schema_text(), encoding="utf-8")


def with_tables(text: str) -> str:
    """Return a page with each of its tables replaced by the current one.

    Raises:
        KeyError: A comment names a table that does not exist.
    """
    tables = all_tables()
    return re.sub(
        r"<!-- table: (.+?) -->\n.*?<!-- end -->",
        lambda match: f"<!-- table: {match[1]} -->\n\n{tables[match[1]]}\n\n<!-- end -->",
        text,
        flags=re.DOTALL,
    )


def all_tables() -> dict[str, str]:
    """Return every table in Markdown, by the name that a page has in its comment."""
    tables = {"study": _settings(StudyConfig)}
    for name, field in StudyConfig.model_fields.items():
        if _is_section(field.annotation):
            tables[name] = _settings(field.annotation, f"{name}.")
    for task in TASKS:
        tables[f"{task} options"] = _options(task)
        tables[f"{task} search space"] = _space(task)
    tables["designs"] = _table(["design", "cells"], ([f"`{name}`", _summary(DESIGNS[name])] for name in DESIGNS))
    return tables


def setting_keys(model: type[BaseModel] = StudyConfig, prefix: str = "") -> Iterator[str]:
    """Yield the dotted key of every setting of a study, in the order of the schema."""
    for name, field in model.model_fields.items():
        if _is_section(field.annotation):
            yield from setting_keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _is_section(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _settings(model: type[BaseModel], prefix: str = "") -> str:
    """Return the table of one section: key, values, default, meaning."""
    properties, meanings = model.model_json_schema()["properties"], attributes(model)
    rows = []
    for name, field in model.model_fields.items():
        if _is_section(field.annotation):
            continue
        default = "required" if field.is_required() else f"`{_yaml(field.default)}`"
        rows.append([f"`{prefix}{name}`", _values(properties[name], f"{prefix}{name}"), default, meanings[name]])
    return _table(["key", "values", "default", "meaning"], rows)


def _values(schema: dict[str, Any], key: str) -> str:
    """Return what a setting allows, in words."""
    if key in NAMES:
        names = ", ".join(f"`{name}`" for name in NAMES[key])
        return f"list of {names}" if key != "encoder.name" else f"{names}, `timm/NAME` or `MODULE:CLASS`"
    if key in FILES or "$ref" in schema:
        return FILES.get(key, "mapping")
    if "anyOf" in schema:
        return " or ".join(_values(option, key) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_plural(schema['items'], key)}"
    if kind == "object":
        return "`{TASK: {...}}`" if key in PER_TASK else "mapping"
    word = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
    return (word.get(str(kind), "`null`") + _bounds(schema)).strip()


def _plural(schema: dict[str, Any], key: str) -> str:
    return re.sub(r"\bnumber\b", "numbers", _values(schema, key)).replace("text", "names")


def _bounds(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f", {low} to {high:,}"
    if low is not None and "exclusiveMaximum" in schema:
        return f", {low} to {schema['exclusiveMaximum'] - 1:,}"
    if low is not None:
        return f" ≥ {low}"
    return f" > {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else ""


def _options(task: str) -> str:
    kind = TASKS[task].Options
    meanings = attributes(kind)
    rows = [
        [f"`{field.name}`", _allowed(field), f"`{_yaml(field.default)}`", meanings[field.name]]
        for field in dataclasses.fields(kind)
    ]
    return _table(["option", "values", "default", "meaning"], rows)


def _allowed(field: dataclasses.Field[Any]) -> str:
    if "choices" in field.metadata:
        return ", ".join(f"`{_yaml(choice)}`" for choice in field.metadata["choices"])
    return f"{field.metadata['low']} to {field.metadata['high']}"


def _space(task: str) -> str:
    rows = [
        [
            f"`{name}`",
            _domain(domain),
            f"`{_yaml(SPECS[task].defaults[name])}`" if name in SPECS[task].defaults else "",
            domain.source,
        ]
        for name, domain in SPECS[task].space.items()
    ]
    cures = ", ".join(f"`{name}: {_yaml(list(values))}`" for name, values in SPECS[task].cures.items())
    table = _table(["hyperparameter", "searched", "default", "source"], rows)
    return f"{table}\n\nCures that `ablate.designs: [cures]` tries for this task alone: {cures}."


def _domain(domain: Domain) -> str:
    match domain:
        case LogUniform():
            return f"{domain.low:g} to {domain.high:g}, logarithmic"
        case Uniform():
            return f"{domain.low:g} to {domain.high:g}"
        case Choice():
            return ", ".join(f"`{_yaml(value)}`" for value in domain.values)
    raise TypeError(domain)


def _summary(function: Any) -> str:
    first = re.sub(r"\s+", " ", inspect.getdoc(function).partition("\n\n")[0])  # type: ignore[union-attr]
    return first.removeprefix("Yield ").removesuffix(".")


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
