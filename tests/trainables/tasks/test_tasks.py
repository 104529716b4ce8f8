"""Every pretext task of the registry fulfills the contract, and the controls can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import CORE
from trainables.rng import generator
from trainables.tasks import TASKS, Batch, self_test, shuffled
from trainables.tasks.self_test import stays_at_chance_when_shuffled
from trainables.testing import TaskConformance
from trainables.testing.tasks import SELF_TESTS, images, new_task


@pytest.mark.parametrize("name", TASKS.built_in)
class TestEveryTask(TaskConformance):
    """The conformance suite on every task of this package."""

    defining = {  # noqa: RUF012 - a constant of the suite
        "context_encoder": frozenset({"mask", "mask_ratio", "block_size", "overlap"}),
        "context_prediction": frozenset({"gap", "jitter", "gray", "color_drop", "standardize"}),
    }

    @pytest.mark.parametrize(
        "self_test",
        [
            pytest.param(each, id=each.__name__, marks=CORE if each is stays_at_chance_when_shuffled else ())
            for each in SELF_TESTS
        ],
    )
    def test_passes_the_self_test(self, name: str, self_test: Any) -> None:
        super().test_passes_the_self_test(name, self_test)


def test_tasks_are_registered_by_their_names() -> None:
    assert list(TASKS) == ["rotation", "context_encoder", "simclr", "context_prediction"]
    assert all(kind.name == name for name, kind in TASKS.items())


def test_shuffled_labels_keep_their_counts_and_lose_their_places() -> None:
    labels = torch.arange(64).view(8, 8)
    torn = shuffled(Batch(torch.zeros(8), labels), generator("cpu", 0, "shuffle"))
    assert torn.targets.shape == labels.shape
    assert torch.equal(torn.targets.flatten().sort().values, labels.flatten())
    assert (torn.targets == labels).float().mean() < 0.1


def test_shuffled_images_all_change_places() -> None:
    targets = torch.arange(6.0).view(6, 1, 1, 1)
    for seed in range(20):
        torn = shuffled(Batch(targets, targets), generator("cpu", seed, "shuffle"))
        assert (torn.targets != targets).all()
        assert torch.equal(torn.targets.flatten().sort().values, targets.flatten())


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("name", ["context_prediction", "simclr"])
def test_the_shuffled_control_fails_where_targets_are_not_torn_off(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "shuffled", lambda batch, stream: batch)
    many = images(256)
    outcome = self_test.stays_at_chance_when_shuffled(self_test.make_task(name, many), many)
    assert not outcome.passed, outcome


def test_the_start_control_fails_for_a_head_that_is_not_at_chance() -> None:
    task = new_task("rotation")
    torch.nn.init.normal_(task.classifier[-1].weight, std=3.0)
    assert not self_test.starts_at_chance(task, images(64)).passed


def test_an_untrained_task_passes_on_few_images_too() -> None:
    assert self_test.starts_at_chance(new_task("simclr"), images(24)).passed


def test_all_self_tests_of_a_task_come_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "STEPS", 1)
    monkeypatch.setattr(self_test, "SHUFFLED_STEPS", 1)
    outcomes = self_test.self_tests("rotation", images(128))
    assert [outcome.test for outcome in outcomes] == [
        "starts at chance",
        "overfits one batch",
        "shuffled stays at chance",
    ]
    assert [outcome.passed for outcome in outcomes] == [True, False, True]  # one step is not enough to learn
