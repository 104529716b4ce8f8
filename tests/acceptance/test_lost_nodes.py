"""Nodes of a cluster are lost while a study runs on them, and others come: every trial is whole in the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from ray.cluster_utils import Cluster

from analysis import records
from analysis.records import FINISHED, Event, TrialEnded, TrialStarted
from study.plan.history import History
from tests.acceptance.nodes import host_of, worker_node
from tests.acceptance.studies import (
    CLOCK,
    PATIENCE_S,
    DriverProcess,
    assert_mlflow_equals_journal,
    assert_whole,
    curves_of,
)
from tests.study.studies import splits_of, tiny
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


SOONER = {"RAY_gcs_rpc_server_reconnect_timeout_s": "40"}  # than after a minute, Ray gives a lost head up


def study_on(head: Cluster, root: Path, **changes: Any) -> DriverProcess:
    return DriverProcess(root, tiny(storage=str(root / "shared"), **changes), SOONER | {"RAY_ADDRESS": head.address})


def running(events: list[Event], step: int) -> set[str]:
    """Return the trials that have reported `step` and not ended."""
    ended = {event.trial_id for event in events if isinstance(event, TrialEnded)}
    return {event.trial_id for event in events if isinstance(event, records.Report) and event.step == step} - ended


def undisturbed_curve(trial: TrialConfig) -> dict[int, dict[str, float]]:
    """Return {step: metrics} of the trial, run here and in one go."""
    reports: list[Report] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(trial, splits_of("shapes", 150), reports.append)
    finally:
        torch.set_num_threads(threads)
    metrics = {report.step: report.metrics for report in reports}
    return {step: {name: value for name, value in found.items() if name != CLOCK} for step, found in metrics.items()}


def restarted(study: DriverProcess) -> set[str]:
    starts = Counter(event.trial_id for event in study.events() if isinstance(event, TrialStarted))
    return {key for key, count in starts.items() if count > 1}


def test_a_study_survives_the_loss_of_a_node_and_uses_one_that_comes(head: Cluster, tmp_path: Path):
    lost, _ = worker_node(head), worker_node(head)
    search = {"algorithm": "random", "scheduler": "none", "num_samples": 4}
    study = study_on(head, tmp_path, budget_steps=90, search=search, max_failures=2)
    with study.running() as process:
        study.wait_for(process, lambda events: len(running(events, step=6)) == 2)
        head.remove_node(lost, allow_graceful=False)
        worker_node(head)
        assert process.wait(2 * PATIENCE_S) == 0, study.log()

    assert_whole(study)
    assert_mlflow_equals_journal(study)
    history, curves = History.read(study.folder), curves_of(study.folder)
    assert {record.status for record in history.trials.values()} == {FINISHED}
    assert restarted(study)
    for key in restarted(study):
        assert curves[key] == undisturbed_curve(history.trials[key].trial)


def test_a_worker_group_survives_the_loss_of_the_node_that_its_trial_runs_on(head: Cluster, tmp_path: Path):
    nodes = [worker_node(head), worker_node(head)]
    search, confirm = {"num_samples": 1, "scheduler": "none"}, {"top_k": 1, "seeds": 1}
    study = study_on(head, tmp_path, workers=2, budget_steps=36, search=search, confirm=confirm, max_failures=2)
    with study.running() as process:
        study.wait_for(process, lambda events: bool(running(events, step=6)))
        head.remove_node(host_of("ray::ImplicitFunc", nodes), allow_graceful=False)
        worker_node(head)
        assert process.wait(3 * PATIENCE_S) == 0, study.log()

    assert_whole(study)
    assert_mlflow_equals_journal(study)
    assert {record.status for record in History.read(study.folder).trials.values()} == {FINISHED}
    assert restarted(study)


def test_a_study_that_loses_its_head_says_so_and_goes_on_elsewhere(head: Cluster, tmp_path: Path):
    worker_node(head)
    search = {"algorithm": "random", "scheduler": "none", "num_samples": 2}
    study, address = study_on(head, tmp_path, budget_steps=300, search=search), head.address
    with study.running() as process:
        study.wait_for(process, lambda events: bool(running(events, step=6)))
        head.head_node.kill_gcs_server(check_alive=False)
        head.head_node.kill_raylet(check_alive=False)
        assert process.wait(PATIENCE_S) != 0  # Ray ends it from within
    assert f"the Ray cluster at {address} no longer answers, and Ray will soon give up" in study.log()

    elsewhere = DriverProcess(tmp_path, study.config, {"RAY_ADDRESS": "local"})
    assert elsewhere.run() == 0, elsewhere.log()
    assert_whole(elsewhere)
    assert_mlflow_equals_journal(elsewhere)
    assert {record.status for record in History.read(elsewhere.folder).trials.values()} == {FINISHED}
