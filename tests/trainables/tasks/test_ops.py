"""Every task keeps its answer under every op that it accepts, and loses it under each that it refuses."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from trainables.augmentation import OPS
from trainables.data import load_splits
from trainables.errors import ConfigError
from trainables.tasks import TASKS, Rotation, check_ops
from trainables.tasks.self_test import keeps_the_answer

SIDE = 16
UNDER_CI = [("rotation", "vertical_flip"), ("rotation", "quarter_turn"), ("rotation", "elastic")]  # minutes for all
PAIRS = [
    pytest.param(task, op, marks=[pytest.mark.core] if (task, op) in UNDER_CI else []) for task in TASKS for op in OPS
]


@functools.cache
def upright_images() -> Tensor:
    splits = load_splits("shapes", root=None, image_size=SIDE, max_train=2000, seed=0)
    return torch.from_numpy(splits.pretext_train.images)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("task", "op"), PAIRS)
def test_a_task_accepts_an_op_if_and_only_if_its_answer_stays(task: str, op: str) -> None:
    tests = keeps_the_answer(task, op, upright_images())
    assert all(test.passed for test in tests) == (op not in TASKS[task].refused_ops), tests


def test_a_refused_op_is_named_with_the_reason_unless_it_is_off() -> None:
    check_ops(Rotation, {"flip": 1.0, "elastic": 1.0, "quarter_turn": 0.0})
    with pytest.raises(
        ConfigError, match=r"augmentation\.quarter_turn: rotation refuses it, since .* by an unknown angle"
    ):
        check_ops(Rotation, {"flip": 1.0, "quarter_turn": 0.1})


def test_no_default_policy_has_an_op_for_images_without_an_upright_side() -> None:
    from search_spaces import SPECS

    assert not {"vertical_flip", "quarter_turn", "elastic"} & {
        op for spec in SPECS.values() for op in spec.defaults.get("augmentation", {})
    }
