"""The simulated trainable matches the real one: the same reports, states, results and errors."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from tests.trainables import tiny
from trainables import simulated
from trainables.data.table import Splits
from trainables.errors import ConfigError, DataError
from trainables.probes import evaluation
from trainables.tasks import TASKS
from trainables.training import checkpoint, loop
from trainables.training.loop import Report
from trainables.training.shortcuts import PREFIX
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

OF_THE_TABLE = ("train/loss", "val/loss")  # chance levels of the context encoder that its images decide


def unlabeled() -> Splits:
    """Return tiny splits without labels."""
    made = tiny.splits()
    tables = {
        name: dataclasses.replace(getattr(made, name), labels=None, class_names=())
        for name in ("pretext_train", "pretext_validation", "test")
    }
    return dataclasses.replace(made, probe_train=None, probe_validation=None, **tables)


def fitted(
    trial: TrialConfig, splits: Splits, *, resume: dict[str, Any] | None = None, **arguments: Any
) -> list[Report]:
    reports: list[Report] = []
    simulated.fit(trial, splits, reports.append, resume=resume, **arguments)
    return reports


# --- drift: the simulated trainable reports what the real one reports ---------------------------------------------


@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_reports_have_the_names_and_the_facts_of_the_real_loop(task: str, labeled: bool) -> None:
    trial = tiny.trial(task, budget_steps=3, report_every=2, batch_size=8)  # not the size of a validation batch
    splits = tiny.splits() if labeled else unlabeled()
    real: list[Report] = []
    loop.fit(trial, splits, real.append)
    found = fitted(trial, splits)
    assert [report.step for report in found] == [report.step for report in real]
    for mine, theirs in zip(found, real, strict=True):
        # Images that exist only by number have no lighting and no border to measure.
        assert mine.metrics.keys() == {name for name in theirs.metrics if not name.startswith(PREFIX)}
        assert all(type(value) is float for value in mine.metrics.values())
        assert mine.facts.keys() == theirs.facts.keys()
        own = OF_THE_TABLE if task == "context_encoder" else ()
        for name, level in theirs.facts["chance"].items():
            assert name in own or mine.facts["chance"][name] == level
        assert {**mine.facts, "chance": 0} == {**theirs.facts, "chance": 0}
        assert theirs.state().keys() == mine.state().keys()
    assert found[-1].metrics["lr"] == real[-1].metrics["lr"]


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "split"),
    [("rotation", "validation"), ("rotation", "test"), (RANDOM_INIT, "test"), (RAW_PIXELS, "validation")],
)
def test_results_have_the_names_of_the_real_evaluation(task: str, split: str) -> None:
    trial = tiny.trial(task, probe_datasets=("a", "b"), probe_split=split)
    datasets = {"a": tiny.splits(), "b": tiny.splits()}
    encoder = None
    if task != RAW_PIXELS:
        encoder = evaluation.baseline_encoder(trial.replace(task=RANDOM_INIT), tiny.SIDE)
    real = evaluation.evaluate(trial, encoder, datasets, torch.device("cpu"))
    found = simulated.evaluate(trial, datasets)
    # Of classes that are not in the masks there is no IoU, and simulated masks show nothing.
    names, real_names = ([name for name in each.results if "/iou/" not in name] for each in (found, real))
    assert names == real_names
    assert {name for name in real.results if "/iou/" in name} <= found.results.keys()
    assert all(type(value) is float for value in found.results.values())
    assert found.per_image.keys() == real.per_image.keys()


def test_a_set_of_masks_alone_has_their_results_alone() -> None:
    splits = simulated.load_splits("voc2012")
    weak, strong = (
        simulated.evaluate(tiny.trial(task, probe_datasets=("voc2012",)), {"voc2012": splits}).results
        for task in (RAW_PIXELS, "rotation")
    )
    assert "probe/voc2012/linear" not in weak
    assert weak["probe/voc2012/miou_chance"] < weak["probe/voc2012/miou"] < strong["probe/voc2012/miou"] < 1
    assert len([name for name in weak if "/iou/" in name]) == 21


def test_a_set_without_labels_and_masks_is_refused_as_by_the_real_evaluation() -> None:
    trial = tiny.trial(probe_datasets=("a",))
    with pytest.raises(ConfigError) as real:
        evaluation.evaluate(trial, None, {"a": unlabeled()}, torch.device("cpu"))
    with pytest.raises(ConfigError) as found:
        simulated.evaluate(trial, {"a": unlabeled()})
    assert str(found.value) == str(real.value)


@pytest.mark.parametrize("changes", [{"batch_size": 65}, {"n_images": 65}, {"n_images": 16, "batch_size": 17}])
def test_what_does_not_fit_the_data_is_refused_as_by_the_real_loop(changes: dict[str, Any]) -> None:
    trial = tiny.trial(**changes)
    with pytest.raises((ConfigError, DataError)) as real:
        loop.fit(trial, tiny.splits(), lambda report: None)
    with pytest.raises(real.type) as found:
        fitted(trial, tiny.splits())
    assert str(found.value).split(";")[0].split(", but")[0] == str(real.value).split(";")[0].split(", but")[0]


# --- resume --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_trial_continues_to_the_bit_from_any_report(task: str) -> None:
    trial, splits = tiny.trial(task, budget_steps=50, report_every=8), tiny.splits()
    whole = fitted(trial, splits)
    for index, report in enumerate(whole):
        content = checkpoint.to_bytes(report.state() | {"metrics": report.metrics, "facts": report.facts})
        state = checkpoint.from_bytes(content, where="here", trial_id=trial.trial_id)
        rest = fitted(trial, splits, resume=state)
        repeated = report.step in (0, trial.budget_steps)
        expected = whole[index:] if repeated else whole[index + 1 :]
        assert [(mine.step, mine.metrics) for mine in rest] == [(each.step, each.metrics) for each in expected]


def test_a_state_is_of_its_step_however_late_it_is_asked_for() -> None:
    reports = fitted(tiny.trial(), tiny.splits())
    assert [report.state()["step"] for report in reports] == [report.step for report in reports]


# --- trials that go wrong --------------------------------------------------------------------------------------------


def test_a_failing_trial_raises_midway_and_again_when_resumed() -> None:
    trial, splits = tiny.trial(budget_steps=60, report_every=10), tiny.splits()
    truth = simulated.Truth(failure_rate=1.0)
    reports: list[Report] = []
    with pytest.raises(RuntimeError, match="simulated failure before step 30"):
        simulated.fit(trial, splits, reports.append, truth=truth)
    assert [report.step for report in reports] == [0, 10, 20]
    with pytest.raises(RuntimeError, match="step 30"):
        fitted(trial, splits, resume=reports[-1].state(), truth=truth)
    assert simulated.true_outcome(trial, truth) == "failed"


def test_a_diverging_trial_stops_after_a_loss_that_is_not_finite_and_has_no_results() -> None:
    trial, splits = tiny.trial(lr=1.0, budget_steps=60, report_every=10), tiny.splits()
    reports = fitted(trial, splits)
    assert simulated.true_outcome(trial) == "diverged"
    assert reports[-1].step == 30
    assert math.isnan(reports[-1].metrics["train/loss"])
    assert math.isnan(reports[-1].metrics["health/feature_std"])
    assert all(math.isfinite(value) for value in reports[-2].metrics.values())
    results = simulated.evaluate(trial.replace(probe_datasets=("a",)), {"a": splits}).results
    assert math.isnan(results["probe/a/linear"])


def test_the_encoder_of_another_trial_is_evaluated_as_that_trial_is() -> None:
    datasets = {"shapes": tiny.splits()}
    trained = tiny.trial(probe_datasets=("shapes",), seed=4)
    probed = trained.replace(phase="evaluate", cell="best", init_from=trained.trial_id)
    assert simulated.evaluate(probed, datasets) == simulated.evaluate(trained, datasets)
    assert simulated.evaluate(probed.replace(seed=5), datasets) != simulated.evaluate(trained, datasets)
