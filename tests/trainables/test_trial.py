"""TrialConfig: its id is a hash of its content."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from typing import Any

import pytest

from trainables.errors import ConfigError
from trainables.trial import NOT_IN_ID, WRITTEN_IF_SET, TrialConfig

FULL = TrialConfig(
    phase="ablate",
    task="context_prediction",
    cell="without gray",
    seed=3,
    dataset="cifar10",
    n_images=1000,
    lr=0.003,
    augmentation={"flip": 1.0, "crop_resize": 0.5},  # type: ignore[arg-type]
    options={"pairs_per_image": 40, "gray": 0.66, "standardize": False},  # type: ignore[arg-type]
    probe_datasets=["cifar10", "fashion_mnist"],  # type: ignore[arg-type]
)
OTHER_VALUES: dict[str, Any] = {
    "phase": "search",
    "task": "rotation",
    "cell": "baseline",
    "seed": 4,
    "dataset": "shapes",
    "n_images": None,
    "data_seed": 1,
    "encoder": "resnet18",
    "width": 32,
    "optimizer": "sgd",
    "lr": 0.004,
    "weight_decay": 0.0,
    "warmup_fraction": 0.2,
    "batch_size": 64,
    "augmentation": {"flip": 0.5, "crop_resize": 0.5},
    "augmentation_strength": 0.5,
    "options": {"pairs_per_image": 8},
    "budget_steps": 501,
    "report_every": 26,
    "workers": 2,
    "init_from": "0123456789ab",
    "probe_datasets": ("cifar10",),
    "probe_split": "test",
    "probe_layers": "all",
    "labels_per_class": (10, None),
    "fine_tune_steps": 301,
    "weights": "0123456789abcdef",
    "input_size": 224,
    "mean": (0.5,),
    "std": (0.25, 0.25, 0.5),
}


def test_a_trial_survives_json() -> None:
    again = TrialConfig.from_dict(json.loads(FULL.to_json()))
    assert again == FULL
    assert hash(again) == hash(FULL)
    assert again.trial_id == FULL.trial_id
    assert again.options == (("gray", 0.66), ("pairs_per_image", 40), ("standardize", False))


def test_a_trial_survives_pickle() -> None:
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_the_id_is_the_same_for_ever() -> None:
    # Journals and checkpoints of earlier studies are found by it: a change here orphans them all.
    assert TrialConfig(phase="search", task="rotation").trial_id == "9d949a7f618e"
    assert TrialConfig(phase="search", task="rotation", probe_layers="all").trial_id == "2b806cef5031"
    assert FULL.trial_id == "a20bd5616cad"


def test_the_order_of_options_is_no_matter() -> None:
    ahead = FULL.replace(options={"a": 1, "b": 2}, augmentation={"flip": 1.0, "noise": 0.1})
    behind = FULL.replace(options={"b": 2, "a": 1}, augmentation=(("noise", 0.1), ("flip", 1.0)))
    assert ahead == behind
    assert ahead.trial_id == behind.trial_id


def test_every_field_is_part_of_the_id_but_how_often_features_are_measured() -> None:
    assert OTHER_VALUES.keys() | {*NOT_IN_ID} == {field.name for field in dataclasses.fields(TrialConfig)}
    ids = {FULL.replace(**{name: value}).trial_id for name, value in OTHER_VALUES.items()}
    assert len(ids | {FULL.trial_id}) == len(OTHER_VALUES) + 1
    assert FULL.replace(probe_every=100).trial_id == FULL.trial_id


def test_an_option_may_be_a_list_or_a_tuple_and_the_trial_is_the_same() -> None:
    listed, tupled = (TrialConfig("search", "own", options={"sizes": value}) for value in ([1, [2, 3]], (1, (2, 3))))  # type: ignore[arg-type]
    assert {listed, tupled} == {TrialConfig.from_dict(json.loads(listed.to_json()))}
    assert listed.to_dict()["options"] == {"sizes": [1, [2, 3]]}
    assert len({each.trial_id for each in (listed, tupled)}) == 1


@pytest.mark.parametrize(
    "changes", [{"lr": 1}, {"weight_decay": 0}, {"augmentation_strength": 1}, {"augmentation": {"flip": 1}}]
)
def test_whole_numbers_and_floats_are_the_same_trial(changes: dict) -> None:
    [(name, value)] = changes.items()
    as_float = {"flip": 1.0} if isinstance(value, dict) else float(value)
    whole, other = FULL.replace(**changes), FULL.replace(**{name: as_float})
    assert whole == other
    assert whole.trial_id == other.trial_id


def test_a_trial_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.lr = 1.0  # type: ignore[misc]


def test_columns_are_flat() -> None:
    columns = FULL.to_columns()
    assert columns["option/pairs_per_image"] == 40
    assert columns["augmentation/flip"] == 1.0
    assert columns["probe_datasets"] == "cifar10,fashion_mnist"
    assert FULL.replace(labels_per_class=(10, None)).to_columns()["labels_per_class"] == "10,all"
    assert not {"options", "augmentation"} & columns.keys()
    assert all(isinstance(value, str | int | float | bool | None) for value in columns.values())
    plain = {field.name for field in dataclasses.fields(TrialConfig)} - {"options", "augmentation"}
    assert plain - dict(WRITTEN_IF_SET).keys() <= columns.keys()
    assert not dict(WRITTEN_IF_SET).keys() & columns.keys()
    own = FULL.replace(weights="0123456789abcdef", mean=(0.5, 0.25)).to_columns()
    assert (own["weights"], own["mean"]) == ("0123456789abcdef", "0.5,0.25")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("seed", -1, "[0, 2147483647]"),
        ("seed", 1.5, "whole number"),
        ("seed", None, "finite number"),
        ("n_images", 0, "[1, 1000000000]"),
        ("lr", 0.0, "(0.0, 100.0]"),
        ("lr", math.nan, "finite number"),
        ("lr", None, "finite number"),
        ("lr", "0.1", "finite number"),
        ("lr", True, "finite number"),
        ("weight_decay", -0.1, "[0.0, 1.0]"),
        ("batch_size", 0, "[1, 65536]"),
        ("budget_steps", -1, "[0, 1000000000]"),
        ("report_every", 0, "[1, 1000000000]"),
        ("optimizer", "adam", "'adamw', 'sgd', 'lars'"),
        ("probe_split", "train", "'validation', 'test'"),
    ],
)
def test_a_value_out_of_range_is_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as error:
        FULL.replace(**{name: value})
    assert f"trial.{name} = {value!r}" in str(error.value)
    assert allowed in str(error.value)


def test_an_unknown_field_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="unknown field of a trial: epochs, learning_rate"):
        TrialConfig.from_dict({**FULL.to_dict(), "learning_rate": 1, "epochs": 2})


def test_numbers_that_are_none_cannot_reach_the_key() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = FULL.replace(options={"temperature": math.nan}).trial_id


def test_a_trial_without_its_phase_or_task_is_refused_by_name():
    with pytest.raises(ConfigError, match="a trial needs phase and task"):
        TrialConfig.from_dict({"lr": 0.1})
