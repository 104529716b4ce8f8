"""Hash of a configuration: every setting that affects results is part of it, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.config.validation import check_config

# Another value of every setting that affects results; `SECTION.FIELD` in a section.
CHANGED: dict[str, Any] = {
    "name": "other",
    "plugins": [{"name": "my_task.py", "sha256": "0123456789abcdef"}],
    "tasks": ["rotation"],
    "dataset": "cifar10",
    "image_size": 16,
    "resize": "squash",
    "stack": "channels",
    "window": [0, 4095],
    "max_train": 500,
    "n_images": 100,
    "on_bad_image": "skip",
    "on_small_image": "enlarge",
    "group_pattern": r"plate\d+",
    "leak": "stop",
    "seed": 1,
    "encoder.name": "resnet18",
    "encoder.width": 8,
    "encoder.input_size": 64,
    "encoder.mean": [0.5],
    "encoder.std": [0.5],
    "budget_steps": 10,
    "report_every": 5,
    "probe_every": 50,
    "defaults": {"rotation": {"lr": 0.1}},
    "task_options": {"simclr": {}},
    "search.num_samples": 2,
    "search.algorithm": "random",
    "search.scheduler": "none",
    "search.metric": "probe/knn",
    "search.mode": "min",
    "search.grace_period": 7,
    "search.reduction_factor": 3,
    "search.chance_patience": 0,
    "search.space": {"lr": [0.1]},
    "confirm.top_k": 1,
    "confirm.seeds": 2,
    "ablate.designs": ["cures"],
    "ablate.seeds": 2,
    "ablate.margin": 0.05,
    "ablate.base": {"lr": 0.1},
    "ablate.strengths": [0.0, 1.0],
    "ablate.sizes": [100],
    "ablate.steps": [100],
    "ablate.ops": ["flip"],
    "ablate.factors": {"lr": [0.1]},
    "ablate.cures": {"lr": [0.1]},
    "evaluate.datasets": [],
    "evaluate.probe_layers": "all",
    "evaluate.labels_per_class": [1],
    "evaluate.fine_tune_steps": 10,
    "evaluate.segmentation": False,
    "workers": 2,
    "max_failures": 0,
    "baselines": [{"weights": "a.pth", "sha256": "0123456789abcdef", "encoder": "conv4", "name": "a"}],
    "init_weights": {"weights": "a.pth", "sha256": "0123456789abcdef"},
    "simulate": True,
}
# The same of the settings that say where and for how long a study runs, and of the rules that a study keeps.
NEUTRAL: dict[str, Any] = {
    "data_root": "/a",
    "storage": "s3://b",
    "tracking_uri": "c",
    "split_rules": 1,
    "budget_hours": 2.0,
    "resources.cpu": 2,
    "resources.gpu": 0.5,
    "resources.custom": {"fast": 1},
    "resources.labels": {"zone": "a"},
    "resources.fuse": "auto",
}


def settings() -> Iterator[str]:
    """Yield every setting of a study."""
    for name, field in StudyConfig.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from (f"{name}.{inner}" for inner in type(field.default).model_fields)
        else:
            yield name


def with_setting(name: str, value: Any) -> StudyConfig:
    section, _, inner = name.partition(".")
    return StudyConfig.model_validate({"name": "demo", section: {inner: value} if inner else value})


def test_of_every_setting_it_is_said_whether_it_affects_results():
    assert CHANGED.keys() | NEUTRAL.keys() == set(settings())
    assert not CHANGED.keys() & NEUTRAL.keys()


@pytest.mark.parametrize("name", CHANGED)
def test_the_hash_changes_with_a_setting_that_affects_results(name: str):
    assert with_setting(name, CHANGED[name]).config_hash != StudyConfig(name="demo").config_hash


@pytest.mark.parametrize("name", NEUTRAL)
def test_the_hash_ignores_places_resources_and_time(name: str):
    changed, plain = with_setting(name, NEUTRAL[name]), StudyConfig(name="demo")
    assert changed != plain
    assert changed.config_hash == plain.config_hash


@pytest.mark.parametrize(("name", "value"), [("leak", "allow"), ("probe_every", None)])
def test_the_hash_ignores_how_studies_were_before_a_setting_and_they_are_resumed(name: str, value: Any):
    assert with_setting(name, value).config_hash == StudyConfig(name="demo").config_hash


def test_a_window_is_hashable_and_by_default_changes_no_hash():
    plain, windowed = (check_config({"name": "s", **changes}) for changes in ({}, {"window": [[0, 4095], [1, 2]]}))
    assert hash(windowed.window) == hash(((0.0, 4095.0), (1.0, 2.0)))  # loaded data sets are cached by their arguments
    assert check_config(windowed.model_dump(mode="json")) == windowed
    assert plain.config_hash == check_config({"name": "s", "window": None, "stack": "first"}).config_hash
    assert plain.config_hash != windowed.config_hash


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_config("quick").name = "other"  # type: ignore[misc]
