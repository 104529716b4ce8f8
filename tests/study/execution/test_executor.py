"""Phases on a real local Ray: what ran is in the journal, once, and what has ended is not run again."""

from __future__ import annotations

import errno
import itertools
import json
import math
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2.api.exceptions import WorkerGroupError

from analysis.data.frames import frames
from analysis.records import (
    FAILED,
    FINISHED,
    JOURNAL_FILE,
    STOPPED,
    Event,
    Facts,
    Report,
    TrialChanged,
    TrialEnded,
    TrialEvent,
    TrialStarted,
    read,
    to_line,
)
from analysis.records.phases import CONFIRM, EVALUATE
from study.config.validation import check_config
from study.execution import executor
from study.execution.executor import Executor, _by_reservation, _by_seed, _reserved, storage_of
from study.execution.journal import Journal
from study.execution.recorder import Recorder, _storage_error_of
from study.execution.search import tpe
from study.execution.stopping import DeadlineStopper
from study.plan.history import History
from tests.acceptance.studies import crowding
from tests.conftest import CORE
from tests.study.executed_studies import BEST_FIRST, FakeTrial, Study, assert_recorded_once_and_in_order
from tests.study.studies import tiny
from trainables.encoders import build_encoder
from trainables.errors import CheckpointError, ConfigError, StorageError
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.ray_adapter.messages import FinalResults, TrialReport, to_result
from trainables.ray_adapter.storage import CheckpointStore
from trainables.trial import RANDOM_INIT, RAW_PIXELS, WEIGHTS, TrialConfig

ALWAYS = 1  # a worker group that dies starts again at most so often


@pytest.fixture
def study(local_ray: None, tmp_path: Path):
    def start(**changes: Any) -> Study:
        return Study(tmp_path / "study", tiny(**changes))

    return start


@pytest.mark.parametrize(
    ("algorithm", "scheduler"),
    [
        ("optuna", "asha"),
        *[
            pytest.param(algorithm, scheduler, marks=CORE)
            for algorithm, scheduler in itertools.product(["optuna", "random", "grid"], ["none", "asha"])
            if (algorithm, scheduler) != ("optuna", "asha")
        ],
    ],
)
def test_a_search_records_every_trial_whole_and_once(study: Any, algorithm: str, scheduler: str):
    search = {"algorithm": algorithm, "scheduler": scheduler, "num_samples": 4, "metric": "val/loss"}
    search |= {"reduction_factor": 4, "grace_period": 3} | ({"space": BEST_FIRST} if algorithm == "grid" else {})
    ran = study(budget_steps=9, search=search)
    ran.executor.search("rotation")
    records = ran.searched()
    assert len({record.trial for record in records}) == len(records) == 4
    if algorithm == "optuna":
        assert ran.plan.search_base("rotation") in [record.trial for record in records[:2]]  # two start together
    else:
        assert {record.trial for record in records} == set(ran.plan.enumerated("rotation"))
    for record in records:
        assert_recorded_once_and_in_order(ran, record)
        assert record.reason == (f"by the scheduler after {record.step} steps" if record.status == STOPPED else "")
    statuses = {record.status for record in records}
    if scheduler == "none":
        assert statuses == {FINISHED}
    elif algorithm == "grid":  # of the others it depends on which of two trials at once is the first to report
        assert statuses == {FINISHED, STOPPED}


@pytest.mark.core
@pytest.mark.slow
def test_the_first_trials_of_a_search_start_together(study: Any):
    ran = study()
    ran.executor.search("rotation")
    kinds = [type(event) for event in ran.trial_events() if isinstance(event, TrialStarted | TrialEnded)]
    assert kinds[:2] == [TrialStarted, TrialStarted]  # one after another, the first would end while the second starts


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["optuna", "grid"])
def test_the_tasks_of_a_search_run_side_by_side_each_with_its_own_space(study: Any, algorithm: str):
    space = {"rotation": {"lr": [1e-2, 5e-3]}, "simclr": {"option/temperature": [0.2, 0.5]}}
    search = {"algorithm": algorithm, "scheduler": "asha", "num_samples": 2, "metric": "val/loss", "space": space}
    ran = study(tasks=["rotation", "simclr"], search=search)
    ran.executor.search("rotation", "simclr")
    for task, varied in space.items():
        base = ran.plan.search_base(task).to_columns()
        records = ran.searched(task)
        assert len(records) == 2
        for record in records:
            assert_recorded_once_and_in_order(ran, record)
            columns = record.trial.to_columns()
            assert {name for name in columns if columns[name] != base.get(name)} <= set(varied)
            assert all(columns[name] in values for name, values in varied.items())
    order = [event.config.task for event in read(ran.folder, TrialStarted)]
    assert set(order[:2]) == ({"rotation", "simclr"} if algorithm == "optuna" else {"rotation"})


@pytest.mark.core
@pytest.mark.slow
def test_population_based_training_ends_every_trial_and_reports_no_step_twice(study: Any):
    space = {"lr": {"loguniform": [1e-4, 1e-2]}, "augmentation_strength": {"uniform": [0.5, 1.0]}}
    search = {"algorithm": "random", "scheduler": "pbt", "num_samples": 4, "grace_period": 3, "space": space}
    ran = study(budget_steps=12, search=search)
    ran.executor.search("rotation")
    records = ran.searched()
    assert {record.trial for record in records} == set(ran.plan.enumerated("rotation"))
    for record in records:
        kinds = ran.kinds(record.trial.trial_id)
        assert (kinds[:2], kinds[-1], kinds.count(TrialEnded)) == ([TrialStarted, Facts], TrialEnded, 1)
        assert TrialChanged not in kinds[max(i for i, kind in enumerate(kinds) if kind is Report) :]
        steps = ran.steps(record.trial.trial_id)
        assert steps == sorted(set(steps))
        assert (record.status, steps[-1]) == (FINISHED, 12)


def test_after_the_deadline_the_trials_of_a_phase_that_still_run_end_once_and_no_others(tmp_path: Path):
    history, journal = History(), Journal(tmp_path)
    journal.listeners.append(history.observe)
    finished, running, evaluated = trials = [
        *(TrialConfig("ablate", "rotation", seed=seed) for seed in (0, 1)),
        TrialConfig("evaluate", "rotation"),
    ]
    for trial in trials:
        journal.append(TrialStarted.of(trial))
        journal.append(Report(trial_id=trial.trial_id, step=3, metrics={"val/loss": 0.5}))
    journal.append(TrialEnded(trial_id=finished.trial_id, status=FINISHED, steps=3))
    without_ray = object.__new__(Executor)
    without_ray.history, without_ray.journal = history, journal
    for deadline in (math.inf, time.time() + 3600):
        without_ray.deadline = deadline
        without_ray.end_stopped("ablate")
        assert [end.trial_id for end in read(tmp_path, TrialEnded)] == [finished.trial_id]
    without_ray.deadline = time.time()
    for _ in range(2):
        without_ray.end_stopped("ablate")
    ends = [(end.trial_id, end.status, end.reason, end.steps) for end in read(tmp_path, TrialEnded)]
    assert ends == [
        (finished.trial_id, FINISHED, "", 3),
        (running.trial_id, STOPPED, "by the end of the phase's time after 3 steps", 3),
    ]
    assert not history.trials[evaluated.trial_id].ended


def test_an_interrupted_trial_that_a_population_has_changed_ends_and_is_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    executor = object.__new__(Executor)
    executor.history, executor.journal = History(), Journal(tmp_path)
    executor.journal.listeners.append(executor.history.observe)
    changed, own, waiting = trials = [TrialConfig("search", "rotation", seed=seed) for seed in range(3)]
    for trial in (changed, own):
        executor.journal.append(TrialStarted.of(trial))
        executor.journal.append(Report(trial_id=trial.trial_id, step=6, metrics={"val/loss": 0.5}))
    executor.journal.append(TrialChanged(trial_id=changed.trial_id, config=changed.replace(lr=0.2)))
    for _ in range(2):
        executor._end_changed(trials)
    [end] = read(tmp_path, TrialEnded)
    assert (end.trial_id, end.status, end.steps) == (changed.trial_id, STOPPED, 6)
    assert f"trial {changed.trial_id} ends after 6 steps: the study was interrupted" in caplog.text
    assert executor._waiting(trials) == [own, waiting]
    assert executor.history.trials[changed.trial_id].changed == changed.replace(lr=0.2)


def test_of_a_trial_that_has_ended_tune_keeps_no_statistics_of_its_metrics(tmp_path: Path):
    history, journal = History(), Journal(tmp_path)
    journal.listeners.append(history.observe)
    recorder = Recorder(journal, history, {})
    config = TrialConfig("search", "rotation")
    trial = FakeTrial("a", {"trial": config.to_dict()})
    recorder.on_trial_start(0, [trial], trial)
    report = TrialReport(step=1, metrics={"val/loss": 0.5}, facts={"primary_metric": "val/loss"})
    recorder.on_trial_result(0, [trial], trial, to_result(report))
    trial.run_metadata.update_metric("metrics/val/loss", 0.5)
    final = FinalResults(step=1, results={"probe/shapes/knn": 0.4})
    recorder.on_trial_result(0, [trial], trial, to_result(final))
    recorder.on_trial_complete(0, [trial], trial)
    record = history.trials[config.trial_id]
    assert (record.status, record.step, record.results) == (FINISHED, 1, {"probe/shapes/knn": 0.4})
    kept = trial.run_metadata
    assert (kept.metric_analysis, kept.metric_n_steps, recorder._progress) == ({}, {}, {})


def test_what_a_population_gives_to_a_trial_is_recorded(tmp_path: Path):
    history, journal = History(), Journal(tmp_path)
    journal.listeners.append(history.observe)
    recorder, config = Recorder(journal, history, {}), TrialConfig("search", "rotation", lr=0.1)
    trial = FakeTrial("a", {"trial": config.to_dict()})
    recorder.on_trial_start(0, [trial], trial)
    trial.config = {"trial": config.replace(lr=0.2).to_dict()}
    recorder.on_trial_start(1, [trial], trial)
    record = history.trials[config.trial_id]
    assert (record.trial, record.changed) == (config, config.replace(lr=0.2))
    assert History.read(tmp_path).trials == history.trials
    runs, _ = frames(read(tmp_path))
    assert runs[["trial_id", "lr"]].to_numpy().tolist() == [[config.trial_id, 0.2]]


def test_baselines_train_nothing_and_a_failed_trial_has_its_traceback_and_harms_no_other(study: Any, tmp_path: Path):
    weights = build_encoder("conv4", width=4, seed=77).state_dict()
    torch.save(weights, path := tmp_path / "given.pth")
    ran = study(baselines=[{"weights": str(path), "encoder": "conv4", "width": 4}], init_weights=str(path))
    base = ran.plan.search_base("rotation")
    good, bad = base, base.replace(batch_size=1000)
    listed = [*ran.plan.baselines(), good, bad]
    ran.executor.run(listed, "any")
    assert {record.trial for record in ran.history.trials.values()} == set(listed)

    failed = ran.history.trials[bad.trial_id]
    assert failed.status == FAILED
    assert "trainables/training/loop.py" in failed.reason
    assert "ConfigError: shapes: batch_size = 1000 is more than the" in failed.reason
    assert "\x1b" not in failed.reason
    assert ran.kinds(bad.trial_id) == [TrialStarted, TrialEnded]

    assert_recorded_once_and_in_order(ran, ran.history.trials[good.trial_id])
    assert ran.history.trials[good.trial_id].status == FINISHED
    baselines = ran.history.of("baselines")
    assert [record.trial.task for record in baselines] == [RANDOM_INIT, RANDOM_INIT, RAW_PIXELS, f"{WEIGHTS}given"]
    for record in baselines:
        assert (record.status, record.step) == (FINISHED, 0)
        assert ran.kinds(record.trial.trial_id) == [TrialStarted, TrialEnded]
        assert {"probe/shapes/linear", "probe/shapes/knn"} <= set(record.results)
    given = baselines[-1]
    encoder = baseline_encoder(given.trial, 16, weights=weights)
    expected = evaluate(given.trial, encoder, ran.plan.datasets, torch.device("cpu")).results
    assert given.results == pytest.approx(expected, abs=0.01)  # other numbers of threads round in other ways

    known = ran.trial_events()
    again = ran.again()
    again.executor.run(listed, "any")
    assert again.trial_events() == known


MIXED = {"lr": {"loguniform": [1e-3, 1e-2]}, "option/head_hidden": [0, 16], "augmentation/flip": {"uniform": [0, 1]}}


@pytest.mark.core
@pytest.mark.slow
def test_an_interrupted_search_runs_what_is_left_and_goes_on_from_checkpoints_to_the_bit(study: Any):
    undisturbed = study(budget_steps=9, search={"num_samples": 5, "scheduler": "none", "space": MIXED})
    undisturbed.executor.search("rotation")
    records, base = undisturbed.searched(), undisturbed.plan.search_base("rotation")
    keys = [record.trial.trial_id for record in records]
    ended, running, ahead, never = keys[:2], keys[2], keys[3], keys[4]
    whole = {key: undisturbed.curve(key) for key in (running, ahead)}
    for record in records:
        kept = record.trial.replace(lr=base.lr, options=base.options, augmentation=base.augmentation)
        assert kept == base

    # As a killed driver leaves it: two trials have ended, two were at step 6 of 9, of one of which the driver had only
    # heard that it began, and the fifth never was.
    cut_off(undisturbed.folder, {ended[0]: 9, ended[1]: 9, running: 6, ahead: 0})
    shutil.rmtree(undisturbed.folder / "checkpoints" / never)
    checkpoints = [undisturbed.folder / "checkpoints" / key for key in (running, ahead)]
    for folder in checkpoints:
        (folder / "step-000000009.pt").unlink()
    written = [(folder / "step-000000006.pt").stat().st_mtime_ns for folder in checkpoints]

    resumed = undisturbed.again()
    searcher, left = tpe(resumed.plan, resumed.history, "rotation")
    assert left == 3
    told = [trial.values for trial in searcher._ot_study.trials if trial.values]
    assert told == [[record.value(resumed.plan.metric("rotation")[0])] for record in records[:2]]
    resumed.executor.search("rotation")
    assert len(resumed.searched()) == 5
    assert all(record.status == FINISHED for record in resumed.searched())
    assert {key: resumed.curve(key) for key in whole} == whole
    assert [(folder / "step-000000006.pt").stat().st_mtime_ns for folder in checkpoints] == written  # not trained again
    starts = [event.trial_id for event in read(resumed.folder, TrialStarted)]
    assert [starts.count(key) for key in (*ended, running, ahead)] == [1, 1, 2, 2]
    resumed.executor.search("rotation")
    assert len(resumed.searched()) == 5


def cut_off(folder: Path, last_steps: dict[str, int]) -> None:
    """Take all out of a study's journal but the trials named, and of each what came after its last step."""
    kept = []
    for event in read(folder):
        match event:
            case Report(step=step) | TrialEnded(steps=step) if step > last_steps.get(event.trial_id, -1):
                continue
            case TrialEvent() if event.trial_id not in last_steps:
                continue
        kept.append(event)
    (folder / JOURNAL_FILE).write_bytes(b"".join(map(to_line, kept)))


@pytest.mark.core
@pytest.mark.slow
def test_a_trial_still_at_chance_after_its_patience_is_stopped_with_that_reason(study: Any):
    # SimCLR without a step worth mentioning stays exactly where the untrained network is, on every image.
    search = {"algorithm": "grid", "scheduler": "none", "chance_patience": 3, "space": {"lr": [1e-9]}}
    ran = study(tasks=["simclr"], search=search)
    ran.executor.search("simclr")
    (record,) = ran.searched("simclr")
    assert (record.status, record.step) == (STOPPED, 3)
    assert record.reason.startswith("at chance after 3 steps: of the way to a perfect score it learned less than 3%")
    assert "(untrained 0." in record.reason
    assert_recorded_once_and_in_order(ran, record)


@pytest.mark.core
@pytest.mark.slow
def test_two_workers_train_one_trial_that_learns_and_reports_each_step_once(study: Any):
    ran = study(workers=2, budget_steps=60, report_every=20, max_failures=ALWAYS)
    trial = ran.plan.search_base("rotation").replace(lr=5e-3, probe_datasets=("shapes",))
    ran.executor.run([trial], "search")
    record = ran.history.trials[trial.trial_id]
    assert record.status == FINISHED, record.reason
    assert_recorded_once_and_in_order(ran, record)
    losses = [metrics["train/loss"] for step, metrics in ran.curve(trial.trial_id) if step]
    assert losses[-1] < min(losses[0], math.log(4)) - 0.02
    assert record.results["probe/shapes/linear"] > 0.1


@pytest.mark.core
@pytest.mark.slow
def test_a_place_that_takes_no_checkpoints_ends_the_phase_and_is_no_failure_of_a_trial(study: Any):
    ran = study(max_failures=1)
    trial = ran.plan.search_base("rotation")
    place = ran.folder / "checkpoints" / trial.trial_id
    place.write_text("in the way")
    with pytest.raises(StorageError, match=rf"^{place}: Not a directory; fix this, then run the same command again"):
        ran.executor.run([trial], "any")
    assert ran.kinds(trial.trial_id) == [TrialStarted]
    place.unlink()
    again = ran.again()
    again.executor.run([trial], "any")
    assert again.history.trials[trial.trial_id].status == FINISHED


@pytest.mark.core
@pytest.mark.slow
def test_an_encoder_whose_checkpoint_is_elsewhere_ends_the_phase_and_is_evaluated_once_it_is_back(study: Any):
    ran = study()
    trial = ran.plan.confirmed(ran.plan.search_base("rotation"), seed=5)
    ran.executor.run([trial], CONFIRM)
    evaluated = trial.replace(phase=EVALUATE, init_from=trial.trial_id, probe_datasets=("shapes",))
    place, elsewhere = ran.folder / "checkpoints", ran.folder / "moved"
    place.rename(elsewhere)
    with pytest.raises(StorageError, match=f"no checkpoint of trial {trial.trial_id} under .* set it back"):
        ran.executor.run([evaluated], EVALUATE)
    assert ran.kinds(evaluated.trial_id) == [TrialStarted]
    shutil.rmtree(place, ignore_errors=True)
    elsewhere.rename(place)
    again = ran.again()
    again.executor.run([evaluated], EVALUATE)
    assert again.history.trials[evaluated.trial_id].status == FINISHED


FULL = StorageError("/disk/step-000000003.pt: No space left on device")
OF_A_WORKER = WorkerGroupError("rank 1", {1: UserExceptionWithTraceback(FULL, "Traceback")})
OF_A_NODE = OSError(errno.ENOSPC, "No space left on device", "/tmp/torch")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FULL, "/disk/step-000000003.pt: No space"),
        (OF_A_WORKER, "/disk/step-000000003.pt: No space"),
        (OF_A_NODE, "/tmp/torch: No space"),
        (CheckpointError("no checkpoint of trial a under /disk"), "no checkpoint of trial a"),
        (ConfigError("batch_size"), None),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), None),
    ],
    ids=["full", "full in a worker group", "a node's disk", "missing checkpoint", "configuration", "another file"],
)
def test_what_a_trial_could_not_write_is_found_in_what_ray_makes_of_it(
    tmp_path: Path, error: Exception, told: str | None
):
    raised = RayTaskError("train", "Traceback", error, "ray::train", 1, "127.0.0.1").as_instanceof_cause()
    (tmp_path / "error.pkl").write_bytes(ray.cloudpickle.dumps(raised))
    trial = FakeTrial("a")
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    found = _storage_error_of(trial)
    assert (found is None) if told is None else str(found).startswith(told)


def test_more_workers_than_the_cluster_has_are_refused(study: Any):
    ran = study(workers=3)
    with pytest.raises(
        ConfigError,
        match=r"^workers = 3 of 1 CPU each need more than the cluster has; it has room for 2, so use fewer$",
    ):
        ran.executor.run([ran.plan.search_base("rotation")], "search")


def test_a_trial_is_its_configuration_wherever_it_comes_from():
    trial = TrialConfig(phase="search", task="rotation", lr=0.1)
    assert TrialConfig.from_dict(json.loads(trial.to_json())).trial_id == trial.trial_id


def test_storage_is_absolute_and_a_folder_of_the_study_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    began = datetime(2026, 11, 25, 19, 30, 5, 250, UTC).timestamp()
    own = "20261125-193005-000250"
    assert storage_of(tiny(), Path("studies/tiny"), began) == str(tmp_path / "studies" / "tiny")
    assert storage_of(tiny(storage="shared"), Path("x"), began) == str(tmp_path / "shared" / "tiny" / own)
    assert storage_of(tiny(storage="s3://bucket/studies"), Path("x"), began) == f"s3://bucket/studies/tiny/{own}"
    in_region = tiny(storage="s3://bucket/studies/?region=eu-central-1")
    assert storage_of(in_region, Path("x"), began) == f"s3://bucket/studies/tiny/{own}?region=eu-central-1"


@pytest.mark.core
@pytest.mark.slow
def test_at_the_deadline_trials_stop_with_their_checkpoints_and_can_be_resumed(
    study: Any, monkeypatch: pytest.MonkeyPatch
):
    ran, stoppers, reported = study(budget_steps=100_000, report_every=20), [], []

    class Listed(DeadlineStopper):
        def __init__(self, deadline: float) -> None:
            super().__init__(deadline)
            stoppers.append(self)

    def set_the_deadline(event: Event) -> None:
        if isinstance(event, Report) and event.step and not reported:
            reported.append(event.trial_id)
            ran.executor.deadline = stoppers[-1].deadline = time.time()

    monkeypatch.setattr(executor, "DeadlineStopper", Listed)
    ran.journal.listeners.append(set_the_deadline)
    trials = [ran.plan.search_base("rotation").replace(seed=seed) for seed in range(3)]
    assert not ran.executor.run(trials, "confirm"), "not all have ended"
    assert ran.executor.out_of_time
    assert time.time() < ran.executor.deadline + 6 * crowding()
    assert not any(record.ended for record in ran.history.trials.values())
    (trial_id,) = reported
    state = CheckpointStore(ran.executor.shared.checkpoints).load(trial_id)
    assert state is not None
    assert state["step"] >= ran.history.trials[trial_id].step > 0


def test_trials_that_only_probe_reserve_a_worker_of_their_own_where_several_workers_train_one():
    config = check_config({"name": "two", "workers": 2, "resources": {"cpu": 3}})
    probing, training = TrialConfig("baselines", RANDOM_INIT, budget_steps=0), TrialConfig("confirm", "rotation")
    assert _by_reservation([training, probing], workers=2) == [[probing], [training]]
    assert _by_reservation([training, probing], workers=1) == [[training, probing]]
    assert _reserved(config, trains=False).bundles == [{"CPU": 3.0}]
    assert _reserved(config, trains=True).bundles == [{"memory": 1.0}]


def test_an_ablation_that_time_may_cut_is_grouped_seed_by_seed():
    trials = [TrialConfig("ablate", "rotation", cell=cell, seed=seed) for seed in (5, 6) for cell in ("a", "b")]
    assert [{trial.seed for trial in block} for block in _by_seed(trials)] == [{5}, {6}]


def test_the_objectives_of_ended_searches_are_those_that_the_scheduler_saw(study: Any):
    ran = study(search={"metric": "val/loss", "scheduler": "asha"})
    ended, running = (ran.plan.search_base("rotation").replace(lr=lr) for lr in (0.1, 0.2))
    for trial in (ended, running):
        ran.journal.append(TrialStarted.of(trial))
        for step, metrics in ((0, {"val/loss": 1.4}), (2, {"train/loss": 1.0}), (4, {"val/loss": 0.5})):
            ran.journal.append(Report(trial_id=trial.trial_id, step=step, metrics=metrics))
    ran.journal.append(TrialEnded(trial_id=ended.trial_id, status=STOPPED, steps=4))
    assert list(ran.executor._ended_searches()) == [(ended, [(0, -1.4), (2, -1.4), (4, -0.5)])]
