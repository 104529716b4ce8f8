"""Pretrained weights: named by file, recorded by content, and part of what a study is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from study.config.loading import load_config
from study.config.validation import check_config
from study.plan.feasibility import check_plan
from study.plan.phases import Plan
from tests.study.studies import plan_of, tiny
from trainables.encoders import build_encoder
from trainables.errors import ConfigError
from trainables.trial import WEIGHTS


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Weights of the encoder of a tiny study."""
    path = tmp_path / "given.pth"
    torch.save(build_encoder("conv4", width=4, seed=77).state_dict(), path)
    return path


def with_baseline(path: Path, **changes):
    return tiny(baselines=[{"weights": str(path), "encoder": "conv4", "width": 4, **changes}])


def test_a_study_records_the_content_and_its_hash_ignores_the_path(file: Path, tmp_path: Path) -> None:
    config, copy = with_baseline(file), tmp_path / "sub" / "given.pth"
    copy.parent.mkdir()
    copy.write_bytes(file.read_bytes())
    assert [each.name for each in config.baselines] == ["given"]
    assert config.config_hash == with_baseline(copy).config_hash
    assert config.config_hash not in {tiny().config_hash, with_baseline(file, name="other").config_hash}
    torch.save(build_encoder("conv4", width=4, seed=78).state_dict(), copy)
    assert config.config_hash != with_baseline(copy).config_hash


def test_a_recorded_study_is_read_without_the_file_but_not_with_another_one(file: Path) -> None:
    content = with_baseline(file).model_dump(mode="json")
    assert check_config(content) == with_baseline(file)
    file.write_bytes(b"other")
    with pytest.raises(ConfigError, match=r"baselines\[0\].weights: the content of .*given.pth .* differs from what"):
        check_config(content)
    file.unlink()
    assert check_config(content).config_hash
    with pytest.raises(ConfigError, match=r"given.pth: neither safetensors nor a state dict: .*No such file"):
        check_plan(plan_of(check_config(content)))


def test_paths_in_yaml_are_from_its_folder(file: Path) -> None:
    (file.parent / "study.yaml").write_text("name: s\ntasks: [rotation]\ninit_weights: given.pth\n")
    config = load_config(str(file.parent / "study.yaml"))
    assert config.init_weights is not None
    assert config.init_weights.weights == str(file)
    assert config.base_trial("rotation", "search").weights == config.init_weights.sha256


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("given.pth", r"baselines = \['given.pth'\]: must be a list of mappings"),
        ({"encoder": "conv4"}, r"baselines\[0\].weights: is missing"),
        ({"weights": "FILE"}, r"baselines\[0\].encoder: is missing; .* for example timm/resnet18"),
        ({"weights": "/nowhere.pth", "encoder": "conv4"}, "weights /nowhere.pth: cannot be read"),
        ({"weights": "FILE", "encoder": "conv5"}, "baselines.0.encoder = 'conv5': input should be 'conv4', "),
        ({"weights": "FILE", "encoder": "conv4", "size": 3}, "size: unknown key"),
    ],
)
def test_what_is_wrong_with_a_baseline_is_said_in_one_line(entry, message: str, file: Path) -> None:
    if isinstance(entry, dict) and entry.get("weights") == "FILE":
        entry = {**entry, "weights": str(file)}
    with pytest.raises(ConfigError, match=message):
        tiny(baselines=[entry])


def test_two_baselines_of_one_name_are_refused(file: Path) -> None:
    entry = {"weights": str(file), "encoder": "conv4"}
    with pytest.raises(ConfigError, match="two have the name 'given'; give each a name of its own"):
        tiny(baselines=[entry, entry])


def test_weights_that_do_not_fit_are_refused_before_anything_runs(file: Path) -> None:
    check_plan(plan_of(with_baseline(file)))
    with pytest.raises(ConfigError, match=r"weights given do not fit the encoder: other shapes: blocks.0.0.weight is"):
        check_plan(plan_of(with_baseline(file, width=8)))
    with pytest.raises(ConfigError, match="encoder 'conv4' has no setting mean, which encoders of timm have"):
        check_plan(plan_of(with_baseline(file, mean=[0.5])))


def test_inputs_are_those_that_timm_names_unless_the_study_does(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    (own,) = with_baseline(file, encoder="timm/test_efficientnet").baselines
    assert own.inputs == {"input_size": 160, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (own,) = with_baseline(file, encoder="timm/test_efficientnet", input_size=None, mean=[0.5]).baselines
    assert own.inputs == {"input_size": None, "mean": [0.5], "std": [0.229, 0.224, 0.225]}
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match="needs the library timm"):
        with_baseline(file, encoder="timm/test_efficientnet")


def test_weights_are_probed_once_and_with_few_labels_at_every_seed(file: Path) -> None:
    def of_weights(plan: Plan, phase: str) -> list:
        return [trial for trial in plan.baselines(phase, "test") if trial.task == f"{WEIGHTS}given"]

    plan = plan_of(with_baseline(file))
    (trial,) = of_weights(plan, "evaluate")
    assert (trial.weights, trial.width, trial.budget_steps) == (plan.config.baselines[0].sha256, 4, 0)
    few = plan.config.model_copy(update={"evaluate": plan.config.evaluate.model_copy(update={"labels_per_class": [2]})})
    assert [each.seed for each in of_weights(Plan(few, plan.datasets), "evaluate")] == plan.fresh_seeds()


def test_without_weights_trials_and_hash_are_what_they_were() -> None:
    trials = plan_of(tiny()).baselines()
    assert not any(trial.weights or trial.task.startswith(WEIGHTS) for trial in trials)
    assert check_config({"name": "demo"}).config_hash == check_config({"name": "demo", "baselines": []}).config_hash
