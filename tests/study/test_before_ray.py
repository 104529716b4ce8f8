"""What a driver does before Ray starts: the data that it loads, and what it refuses to run."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from study import driver
from study.config.schema import StudyConfig
from study.driver import load_datasets, run_study
from tests.study.studies import splits_of, tiny
from trainables.data import Splits, load_splits
from trainables.errors import ConfigError

OF_THE_TRAINING_DATA = {"image_size": 24, "window": (0.0, 4095.0), "group_pattern": r"plate\d+"}
OF_ALL_DATA = {
    "max_train": 77,
    "seed": 5,
    "on_bad_image": "skip",
    "resize": "squash",
    "stack": "channels",
    "on_small_image": "enlarge",
    "leak": "stop",
    "split_rules": 1,
}


def test_every_setting_of_the_data_reaches_the_loader_of_each_data_set(tmp_path: Path):
    calls: dict[str, dict[str, Any]] = {}

    def load(name: str, **settings: Any) -> Splits:
        calls[name] = settings
        return splits_of("shapes", 150)

    settings = OF_ALL_DATA | OF_THE_TRAINING_DATA
    assert all(value != StudyConfig.model_fields[name].default for name, value in settings.items())
    evaluated = {"datasets": ["fashion_mnist", "cifar10"]}
    config = tiny(dataset="cifar10", data_root=str(tmp_path), evaluate=evaluated, **settings)
    assert list(load_datasets(config, download=True, load=load)) == ["cifar10", "fashion_mnist"]
    of_all = OF_ALL_DATA | {"root": tmp_path, "download": True}
    assert calls == {
        "cifar10": of_all | OF_THE_TRAINING_DATA,
        "fashion_mnist": of_all | dict.fromkeys(OF_THE_TRAINING_DATA),
    }
    assert {"name", *calls["cifar10"]} == set(inspect.signature(load_splits).parameters)
    load_datasets(tiny(), load=load)
    assert (calls["shapes"]["root"], calls["shapes"]["download"]) == (None, False)


class ReachedError(Exception):
    """The driver has passed the check."""


@pytest.fixture
def several_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*arguments: object, **options: object) -> int:
        raise ReachedError

    monkeypatch.setattr(driver.cluster, "connect", lambda **options: None)
    monkeypatch.setattr(driver.cluster, "is_multi_node", lambda: True)
    monkeypatch.setattr(driver.resources, "max_concurrent_trials", reached)


def test_several_nodes_without_shared_storage_are_refused_before_the_folder_is_touched(
    several_nodes: None, tmp_path: Path
):
    with pytest.raises(ConfigError) as refused:
        run_study(tiny(), tmp_path)
    problem, remedy = str(refused.value).split("; ")
    assert problem == f"storage: the cluster has several nodes, which cannot all reach {tmp_path / 'tiny'}"
    assert remedy == "name a shared folder or a URI, for example --set storage=s3://BUCKET/studies"
    assert not (tmp_path / "tiny").exists()


def test_several_nodes_with_shared_storage_are_accepted(several_nodes: None, tmp_path: Path):
    with pytest.raises(ReachedError):
        run_study(tiny(storage=str(tmp_path / "shared")), tmp_path)


def test_one_node_needs_no_shared_storage(several_nodes: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(driver.cluster, "is_multi_node", lambda: False)
    with pytest.raises(ReachedError):
        run_study(tiny(), tmp_path)
