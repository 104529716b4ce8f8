"""Configurations and plans from Python are those of the command line, and mistakes are errors in one line."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import study
from study.config.loading import load_config
from tests.conftest import REPOSITORY
from tests.study.studies import TINY

FRESH = """
import sys
import study
print("torch" in sys.modules, "ray" in sys.modules)
"""


def test_the_import_imports_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_keywords_are_settings_and_set_reaches_into_sections():
    found = study.config("quick", tasks=("rotation",), budget_steps=np.int64(200), set={"search.num_samples": 16})
    wanted = load_config("quick", ["tasks=[rotation]", "budget_steps=200", "search.num_samples=16"])
    assert found == wanted
    assert found.config_hash == wanted.config_hash


def test_none_is_the_value_null():
    assert load_config("quick").max_train is not None
    assert study.config("quick", max_train=None).max_train is None


def test_a_section_replaces_the_whole_section():
    assert study.config("quick", search={"num_samples": 2}).search.space == {}


def test_a_study_may_be_a_file_a_mapping_or_a_configuration(tmp_path: Path):
    (tmp_path / "own.yaml").write_text("name: own\ntasks: [rotation]\nbudget_steps: 7\n")
    of_file = study.config(tmp_path / "own.yaml")
    assert of_file.budget_steps == 7
    assert study.config({"name": "own", "tasks": ["rotation"], "budget_steps": 7}) == of_file
    assert study.config(of_file) == of_file
    assert study.config(of_file, budget_steps=8).budget_steps == 8


def test_a_source_is_not_changed():
    content = {**TINY, "search": {"num_samples": 3}}
    study.config(content, set={"search.num_samples": 5})
    assert content["search"] == {"num_samples": 3}


def test_simulated_studies_have_the_name_that_simulate_gives_them():
    assert study.config("quick", simulate=True).name == "quick-simulated"
    assert study.config("quick", simulate=True).simulate


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "quik"}, "'quik' is neither a YAML file nor a preset; did you mean 'quick'"),
        ({"source": "missing.yaml"}, "missing.yaml: no such file"),
        ({"source": 3}, "3 is not a study; give a preset"),
        ({"source": "report"}, "report is a series of studies (pretext, case, cures)"),
        ({"budget": 3}, "budget: unknown key; did you mean 'budget_steps'?"),
        ({"budget_steps": "many"}, "budget_steps = 'many': input should be a valid integer"),
        ({"tasks": ["rotatoin"]}, "tasks.0 = 'rotatoin': input should be 'rotation'"),
        ({"set": {"name.x": 1}}, "name.x=1: name is 'quick', which has no keys"),
        ({"set": {3: 1}}, "set: 3 is not a key"),
        ({"set": {"search.space": object()}}, "search.space = <object"),
    ],
)
def test_a_mistake_is_a_typed_error_in_one_line(arguments: dict[str, Any], message: str):
    with pytest.raises(study.ConfigError) as raised:
        study.config(**arguments)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_a_plan_has_the_phases_of_the_dry_run():
    planned = study.plan(TINY)
    assert list(planned.phases["phase"]) == ["start", "baselines", "search", "confirm", "evaluate", "report"]
    assert list(planned.phases["trials"])[2:4] == [3, 2]
    assert planned.phases["seconds"].iloc[2] > 0
    assert planned.time in str(planned)
    assert planned.datasets["shapes"]["counts"]["pretext_train"] > 0
    assert "search" in str(planned)
    assert "<table" in planned._repr_html_()


def test_a_plan_that_does_not_fit_the_data_is_an_error():
    with pytest.raises(study.ConfigError):
        study.plan(TINY, set={"defaults.rotation.batch_size": 4096})


def test_packages_with_the_names_of_functions_stay_packages():
    from study.plan.phases import Plan

    assert study.plan.phases.Plan is Plan  # type: ignore[attr-defined]
    assert [*inspect.signature(study.config).parameters] == ["source", "set", "simulate", "fields"]
    assert {"run", "plan", "config", "load"} <= {*dir(study)}
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        study.runn  # noqa: B018
