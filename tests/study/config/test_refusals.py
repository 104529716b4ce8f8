"""Configurations and files that are refused, in one line that names the problem."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from study.config.loading import load_config
from study.config.validation import check_config
from tests.study.config.configurations import complaint, file_with
from trainables.errors import ConfigError
from trainables.tasks import TASKS


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        ({"designs": ["leave_one_in"]}, "ablate.designs.0 = 'leave_one_in': input should be 'leave_one_out'"),
        ({"design": ["pairs"]}, "ablate.design: unknown key; did you mean 'designs'?"),
        ({"designs": ["cures"], "cures": {"learning_rate": [1]}}, "learning_rate: no such factor"),
        ({"designs": ["cures"], "cures": {"lr": 1}}, "ablate.cures.lr = 1: must be a list of values to try"),
        ({"designs": ["cures"], "cures": {"rotation": 1}}, "ablate.cures.rotation = 1: must be a mapping"),
        ({"designs": ["pairs"], "base": {"augmentation_strength": 0}}, "pairs has nothing to vary for rotation"),
        ({"designs": ["pairs"], "base": {"seed": 1}}, "seed: no such factor"),
        ({"designs": ["pairs"], "base": {"lr": -1}}, "trial.lr = -1.0: must be in"),
        ({"designs": ["pairs"], "ops": ["flop"]}, "ablate.ops.0 = 'flop': input should be 'crop_resize'"),
        ({"designs": ["factorial"]}, "ablate.designs: factorial needs ablate.factors"),
        ({"designs": ["strength"], "strengths": [2]}, "ablate.strengths.0 = 2"),
        ({"cures": {"lrr": [1]}}, "ablate, rotation: lrr: no such factor; did you mean 'lr'?"),
        ({"cures": {"option/tau": [1]}}, "task_options.rotation.tau: no such option"),
        ({"cures": {"rotation": {"lr": [-1]}}}, "trial.lr = -1.0: must be in"),
        ({"factors": {"lr": [1, "much"]}}, "trial.lr = 'much': must be a finite number"),
        ({"base": {"batchsize": 1}}, "batchsize: no such factor"),
        ({"base": {"option/tau": 1}}, "task_options.rotation.tau: no such option"),
        ({"base": {"encoder": None}}, "ablate, rotation: trial.encoder = None: must be text"),
        ({"designs": ["cures"], "cures": {"encoder": [18]}}, "trial.encoder = 18: must be text"),
        ({"designs": ["factorial"], "factors": {"mean": [0.4, 0.5]}}, "trial.mean = 0.4: must be a list of finite"),
        ({"base": {"mean": None}}, "trial.mean = None: must be a list of finite numbers"),
        ({"base": {"std": ["a"]}}, "trial.std = ('a',): must be a list of finite numbers"),
        ({"margin": 0}, "ablate.margin = 0: input should be greater than 0"),
        ({"base": {"simclr": {"lr": 1}}}, "settings for task 'simclr', which is not among tasks"),
    ],
)
def test_an_ablation_that_cannot_be_run_is_refused_in_one_line(ablate: dict, message: str):
    assert message in complaint({"tasks": ["rotation"], "ablate": ablate})


@pytest.mark.parametrize(
    ("content", "key", "suggestion"),
    [
        ({"budget_step": 10}, "budget_step", "'budget_steps'"),
        ({"search": {"num_sample": 3}}, "search.num_sample", "'num_samples'"),
        ({"encoder": {"widht": 8}}, "encoder.widht", "'width'"),
        ({"confirm": {"seed": 3}}, "confirm.seed", "'seeds'"),
        ({"defaults": {"rotation": {"learning_rate": 0.1}}}, "defaults.rotation.learning_rate", "lr"),
        ({"defaults": {"rotation": {"augmentation": {"crop": 1}}}}, "augmentation.crop", "'crop_resize'"),
        ({"defaults": {"rotation": {"augmentation": {"quarter_turn": 1}}}}, "augmentation.quarter_turn", "refuses it"),
        (
            {"search": {"space": {"augmentation/vertical_flip": [0, 1]}}},
            "space.augmentation/vertical_flip",
            "refuses it",
        ),
        (
            {"ablate": {"designs": ["add_one_in"], "ops": ["flip", "quarter_turn"]}},
            "quarter_turn",
            "rotation refuses it",
        ),
        ({"task_options": {"simclr": {"temprature": 1}}}, "task_options.simclr.temprature", "temperature"),
        ({"search": {"space": {"batchsize": [32]}}}, "search.space.batchsize", "'batch_size'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_closest_known_one(content: dict[str, Any], key: str, suggestion: str):
    message = complaint(content)
    assert key in message
    assert suggestion in message


@pytest.mark.parametrize(
    ("content", "key", "value"),
    [
        ({"budget_steps": "many"}, "budget_steps", "'many'"),
        ({"budget_steps": 10.5}, "budget_steps", "10.5"),
        ({"budget_steps": 0}, "budget_steps", "0"),
        ({"report_every": -1}, "report_every", "-1"),
        ({"n_images": 0}, "n_images", "0"),
        ({"image_size": 4}, "image_size", "4"),
        ({"max_train": 1}, "max_train", "1"),
        ({"seed": -1}, "seed", "-1"),
        ({"workers": 0}, "workers", "0"),
        ({"tasks": []}, "tasks", "[]"),
        ({"tasks": "rotation"}, "tasks", "'rotation'"),
        ({"tasks": ["rotation", "jigsaw"]}, "tasks.1", "'jigsaw'"),
        ({"tasks": ["rotation", "rotation"]}, "tasks", "'rotation'"),
        ({"encoder": {"name": "vgg"}}, "encoder.name", "'vgg'"),
        ({"encoder": {"width": 0}}, "encoder.width", "0"),
        ({"encoder": "conv4"}, "encoder", "'conv4'"),
        ({"search": {"algorithm": "bayes"}}, "search.algorithm", "'bayes'"),
        ({"search": {"scheduler": "hyperband"}}, "search.scheduler", "'hyperband'"),
        ({"search": {"scheduler": "pbt"}, "workers": 2}, "search.scheduler", "'pbt'"),
        ({"budget_hours": 3, "workers": 2}, "budget_hours", "3"),
        ({"search": {"scheduler": "pbt", "space": {"batch_size": [8, 16]}}}, "search.scheduler", "'pbt'"),
        ({"search": {"algorithm": "grid", "num_samples": 30}}, "search.algorithm", "'grid'"),
        ({"resources": {"gpu": 1.5}}, "resources.gpu", "1.5"),
        ({"search": {"reduction_factor": 1}}, "search.reduction_factor", "1"),
        ({"search": {"mode": "best"}}, "search.mode", "'best'"),
        ({"search": {"space": {"lr": {"loguniform": [0, 1]}}}}, "search.space.lr", "[0.0, 1.0]"),
        ({"search": {"space": {"lr": {"uniform": [-1, 1]}}}}, "search.space.lr", "-1"),
        ({"search": {"space": {"batch_size": {"uniform": [8, 16]}}}}, "search.space.batch_size", "8.0"),
        ({"search": {"space": {"optimizer": ["adamw", "adam"]}}}, "search.space.optimizer", "'adam'"),
        ({"search": {"space": {"rotation": 5}}}, "search.space.rotation", "5"),
        ({"search": {"space": {"augmentation/flip": [2]}}}, "search.space.augmentation/flip", "2"),
        ({"resources": {"gpu": -1}}, "resources.gpu", "-1"),
        ({"resources": {"custom": {"fast": 0}}}, "resources.custom.fast", "0"),
        ({"resources": {"custom": {"GPU": 1}}}, "resources.custom.GPU", "resources.gpu"),
        ({"resources": {"labels": {"zone": 1}}}, "resources.labels.zone", "1"),
        ({"resources": {"gpu": math.inf}}, "resources.gpu", "inf"),
        ({"defaults": {"rotation": {"lr": -1}}}, "defaults.rotation.lr", "-1"),
        ({"defaults": {"rotation": {"augmentation": 5}}}, "defaults.rotation.augmentation", "5"),
        ({"defaults": {"rotation": {"augmentation": {"flip": 2}}}}, "defaults.rotation.augmentation.flip", "2"),
        ({"defaults": {"rotation": {"lr": None}}}, "defaults.rotation.lr", "None"),
        ({"task_options": {"simclr": {"temperature": 0}}}, "task_options.simclr.temperature", "0"),
        ({"evaluate": {"datasets": "cifar10"}}, "evaluate.datasets", "'cifar10'"),
        ({"window": "wide"}, "window = ", "'wide': input should be a valid tuple"),
        (
            {"resources": {"fuse": "all"}},
            "resources.fuse = 'all': input should be a valid integer",
            ", or input should be 'auto'",
        ),
        ({"probe_every": 0}, "probe_every", "0: input should be greater than or equal to 1, or input should be 'auto'"),
    ],
)
def test_a_wrong_type_or_an_impossible_value_is_refused_with_its_key(content: dict[str, Any], key: str, value: str):
    message = complaint(content)
    assert message.startswith(key)
    assert value in message


def test_a_task_that_does_not_exist_is_refused_with_those_that_do():
    message = complaint({"tasks": ["jigsaw"]})
    assert all(task in message for task in TASKS)


@pytest.mark.parametrize(
    "content",
    [
        {"defaults": {"simclr": {"lr": 0.1}}},
        {"task_options": {"simclr": {"temperature": 0.2}}},
        {"search": {"space": {"simclr": {"lr": [0.1]}}}},
    ],
)
def test_settings_of_a_task_that_is_not_run_are_refused(content: dict[str, Any]):
    assert "'simclr', which is not among tasks = rotation" in complaint({"tasks": ["rotation"], **content})


@pytest.mark.parametrize(
    "name", ["../up", "a/b", "/etc", "..", ".", ".hidden", "a\\b", "a b", "a\n", "", "x" * 65, "~"]
)
def test_a_name_that_would_leave_the_output_folder_is_refused(name: str):
    assert complaint({"name": name}).startswith("name = ")


def test_a_study_without_a_name_is_refused():
    with pytest.raises(ConfigError, match=r"^name: is missing$"):
        check_config({})


def test_yaml_that_would_run_code_is_refused(tmp_path: Path):
    trap = tmp_path / "ran"
    source = file_with(tmp_path, f"name: !!python/object/apply:os.mkdir ['{trap}']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(source)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must contain `key: value` lines, not None"),
        ("- a", "must contain `key: value` lines"),
        ("name: [", "not valid YAML"),
        ("name: a\nseed: 2020-13-40", "not valid YAML"),
        ("name: a\nseed: !!int x", "not valid YAML"),
        ("name: a\nseed: !!timestamp x", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
        ("name: \0", "not valid YAML"),
        ("name: a\nsearch: {num_samples: 2}\nsearch: {num_samples: 3}", "'search' is given twice"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(text: str, complaint: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=complaint) as refused:
        load_config(file_with(tmp_path, text))
    assert "\n" not in str(refused.value)
    assert "study.yaml" in str(refused.value)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    (tmp_path / "study.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
        load_config(str(tmp_path / "study.yaml"))


def test_a_missing_file_or_preset_is_refused_with_the_closest_known_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        load_config("cifar-10")
