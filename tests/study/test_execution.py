"""Phases on a real local Ray: what ran is in the journal, once, and what has ended is not run again."""

from __future__ import annotations

import errno
import json
import math
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.tune.search.variant_generator import generate_variants
from ray.tune.trainable.metadata import _TrainingRunMetadata

from study.config import StudyConfig
from study.execution import Executor, _Recorder, _refusal, storage_of
from study.history import History, TrialRecord
from study.journal import FAILED, FILE_NAME, FINISHED, STOPPED, Journal, read
from study.loading import load_config, preset_names
from study.searching import (
    ChanceStopper,
    HalvingByTask,
    InOrder,
    TaskSearches,
    default_values,
    one_after_another,
    population,
    tpe,
)
from tests.study.studies import plan_of, tiny
from trainables.errors import ConfigError, StorageError
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

CLOCK = "images_per_s"  # the one metric that no two runs share
ALWAYS = 1  # a worker group that dies starts again at most so often


class Study:
    """One study folder and the driver that works on it; `again` is another driver on the same folder."""

    def __init__(self, folder: Path, config: StudyConfig) -> None:
        self.folder, self.config, self.plan = folder, config, plan_of(config)
        self.history, self.journal = History.read(folder), Journal(folder)
        self.journal.listeners.append(self.history.observe)
        self.journal.append("study_started", study=config.name, config_hash=config.config_hash)
        self.executor = Executor(self.plan, folder, self.journal, self.history)

    def again(self) -> Study:
        self.journal.close()
        return Study(self.folder, self.config)

    def kinds(self, trial_id: str) -> list[str]:
        return [event["event"] for event in self.events(trial_id)]

    def events(self, trial_id: str) -> list[dict[str, Any]]:
        return [event for event in read(self.folder) if event.get("trial_id") == trial_id]

    def curve(self, trial_id: str) -> list[tuple[int, dict[str, float]]]:
        """Return steps and metrics, without the one that depends on the clock."""
        reports = [event for event in self.events(trial_id) if event["event"] == "report"]
        return [
            (report["step"], {name: value for name, value in report["metrics"].items() if name != CLOCK})
            for report in reports
        ]

    def steps(self, trial_id: str) -> list[int]:
        return [step for step, _ in self.curve(trial_id)]

    def searched(self, task: str = "rotation") -> list[TrialRecord]:
        return self.history.of("search", task)

    def trial_events(self) -> list[dict[str, Any]]:
        return [event for event in read(self.folder) if "trial_id" in event]


@pytest.fixture
def study(local_ray: None, tmp_path: Path):
    def start(**changes: Any) -> Study:
        return Study(tmp_path / "study", tiny(**changes))

    return start


def assert_recorded_once_and_in_order(study: Study, record: TrialRecord) -> None:
    """A trial starts, tells its facts, reports each step once and in order, and ends, all of it once."""
    events = study.events(record.trial.trial_id)
    kinds = [event["event"] for event in events]
    assert kinds == ["trial_started", "facts", *["report"] * (len(kinds) - 3), "trial_ended"]
    assert events[0]["config"] == record.trial.to_dict()
    assert events[1]["primary_metric"] in events[1]["chance"]
    end, steps = events[-1], study.steps(record.trial.trial_id)
    budget, every = record.trial.budget_steps, record.trial.report_every
    assert steps == list(range(0, end["steps"] + 1, every))
    assert (end["steps"] == budget) if end["status"] == FINISHED else (end["steps"] < budget)
    assert end["wall_s"] > 0
    assert Path(end["checkpoint"]).is_file()


BEST_FIRST = {"lr": [1e-3, 1e-2, 0.1, 0.3]}  # after three steps; so that successive halving has something to stop


@pytest.mark.parametrize("scheduler", ["none", "asha"])
@pytest.mark.parametrize("algorithm", ["optuna", "random", "grid"])
def test_a_search_records_every_trial_whole_and_once(study: Any, algorithm: str, scheduler: str):
    search = {"algorithm": algorithm, "scheduler": scheduler, "num_samples": 4, "metric": "val/loss"}
    search |= {"reduction_factor": 4, "grace_period": 3} | ({"space": BEST_FIRST} if algorithm == "grid" else {})
    ran = study(budget_steps=9, search=search)
    ran.executor.search("rotation")
    records = ran.searched()
    assert len({record.trial for record in records}) == len(records) == 4
    if algorithm == "optuna":
        assert records[0].trial == ran.plan.search_base("rotation")
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


def test_listed_trials_are_samples_of_their_space_each_once_and_in_order():
    trials = [TrialConfig("search", "rotation", seed=seed) for seed in range(5)]
    space = one_after_another(trials)
    sampled = [next(iter(generate_variants(space)))[1] for _ in trials]
    assert sampled == [{"trial": trial.to_dict()} for trial in trials]


@pytest.mark.parametrize("scheduler", [InOrder(), HalvingByTask(max_t=6, grace_period=2, reduction_factor=2)])
def test_trials_start_in_their_order_one_that_failed_again_after_all_others_and_the_ended_are_forgotten(scheduler: Any):
    first, second, paused = trials = [FakeTrial(name) for name in ("c", "b", "a")]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    paused.status = "PAUSED"
    assert scheduler.choose_trial_to_run(None) is first
    scheduler.on_trial_add(None, first)  # Tune puts it into the queue again
    assert scheduler.choose_trial_to_run(None) is second
    second.status = "ERROR"
    assert scheduler.choose_trial_to_run(None) is first
    first.status = "TERMINATED"
    assert scheduler.choose_trial_to_run(None) is paused
    paused.status = "RUNNING"
    assert scheduler.choose_trial_to_run(None) is None
    assert list(scheduler._alive.values()) == [paused]


def test_asha_stops_the_worse_of_two_but_no_trial_at_the_end_of_its_budget():
    scheduler = HalvingByTask(max_t=6, grace_period=2, reduction_factor=2)

    def ask(trial: FakeTrial, step: int, value: float) -> str:
        return scheduler.on_trial_result(None, trial, {"step": step, "objective": value})

    good, bad, late = FakeTrial("good"), FakeTrial("bad"), FakeTrial("late")
    for trial in (good, bad, late):
        scheduler.on_trial_add(None, trial)
    assert ask(good, 2, 0.9) == "CONTINUE"
    assert ask(good, 6, 0.9) == "CONTINUE"
    assert ask(bad, 2, 0.1) == "STOP"
    assert ask(late, 6, 0.1) == "CONTINUE"  # its first report and its last


def test_asha_never_holds_a_trial_of_one_task_against_those_of_another():
    scheduler = HalvingByTask(max_t=6, grace_period=2, reduction_factor=2)
    trials = [FakeTrial("good", {"task": "rotation"}), FakeTrial("listed", {"trial": {"task": "simclr"}})]
    for trial in trials:
        scheduler.on_trial_add(None, trial)
    actions = [
        scheduler.on_trial_result(None, trial, {"step": 2, "objective": value})
        for trial, value in zip(trials, (0.9, 0.1), strict=True)
    ]
    assert actions == ["CONTINUE", "CONTINUE"]


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
    order = [event["config"]["task"] for event in ran.trial_events() if event["event"] == "trial_started"]
    assert set(order[:2]) == ({"rotation", "simclr"} if algorithm == "optuna" else {"rotation"})


def test_no_point_of_a_small_space_is_suggested_twice_nor_what_an_earlier_driver_has_run():
    plan = plan_of(tiny(search={"num_samples": 9, "space": {"lr": [1e-2, 5e-3, 1e-3]}}))
    base = plan.search_base("rotation")
    searches = TaskSearches({"rotation": tpe(plan, History(), "rotation")}, {"rotation": base}, [base.replace(lr=1e-2)])
    suggested = []
    while (config := searches.suggest(str(len(suggested)))) != TaskSearches.FINISHED:
        suggested.append(config)
    assert sorted(suggested, key=lambda config: config["lr"]) == [{"task": "rotation", "lr": lr} for lr in (1e-3, 5e-3)]
    assert searches.n_left == 0


def test_population_based_training_ends_every_trial_and_reports_no_step_twice(study: Any):
    space = {"lr": {"loguniform": [1e-4, 1e-2]}, "augmentation_strength": {"uniform": [0.5, 1.0]}}
    search = {"algorithm": "random", "scheduler": "pbt", "num_samples": 4, "grace_period": 3, "space": space}
    ran = study(budget_steps=12, search=search)
    ran.executor.search("rotation")
    records = ran.searched()
    assert {record.trial for record in records} == set(ran.plan.enumerated("rotation"))
    for record in records:
        kinds = ran.kinds(record.trial.trial_id)
        assert (kinds[:2], kinds[-1], kinds.count("trial_ended")) == (["trial_started", "facts"], "trial_ended", 1)
        steps = ran.steps(record.trial.trial_id)
        assert steps == sorted(set(steps))
        assert (record.status, steps[-1]) == (FINISHED, 12)


def test_population_based_training_never_leaves_the_space(study: Any):
    space = {"lr": {"loguniform": [1e-3, 1e-2]}, "augmentation_strength": {"uniform": [0.9, 1.0]}}
    ran = study(search={"scheduler": "pbt", "space": space | {"weight_decay": [1e-4, 1e-3]}})
    domains = ran.config.space("rotation")
    scheduler = population(domains, grace_period=3)
    config = {"trial": {"lr": 1e-2, "augmentation_strength": 0.99, "weight_decay": 1e-3, "batch_size": 8}}
    for _ in range(50):
        changed, _ = scheduler._get_new_config(None, FakeTrial("a", config))
        assert {name: changed["trial"][name] for name in domains if changed["trial"][name] not in domains[name]} == {}
        assert changed["trial"]["batch_size"] == 8


def test_of_a_trial_that_has_ended_tune_keeps_no_statistics_of_its_metrics(tmp_path: Path):
    history, journal = History(), Journal(tmp_path)
    journal.listeners.append(history.observe)
    recorder = _Recorder(journal, history, {})
    config = TrialConfig("search", "rotation")
    trial = FakeTrial("a", {"trial": config.to_dict()})
    recorder.on_trial_start(0, [trial], trial)
    result = {"step": 1, "metrics": {"val/loss": 0.5}, "facts": {"primary_metric": "val/loss"}}
    recorder.on_trial_result(0, [trial], trial, result)
    trial.run_metadata.update_metric("metrics/val/loss", 0.5)
    recorder.on_trial_result(0, [trial], trial, {"step": 1, "results": {"probe/shapes/knn": 0.4}, "finished": True})
    recorder.on_trial_complete(0, [trial], trial)
    record = history.trials[config.trial_id]
    assert (record.status, record.step, record.results) == (FINISHED, 1, {"probe/shapes/knn": 0.4})
    kept = trial.run_metadata
    assert (kept.metric_analysis, kept.metric_n_steps, recorder._last) == ({}, {}, {})


class FakeTrial:
    """All that a scheduler or the recorder asks of a trial."""

    def __init__(self, trial_id: str, config: dict[str, Any] | None = None) -> None:
        self.trial_id, self.config, self.experiment_tag = trial_id, config or {"task": "rotation"}, ""
        self.pickled_error_file: str | None = None
        self.status, self.run_metadata = "PENDING", _TrainingRunMetadata()

    def is_finished(self) -> bool:
        return self.status in ("TERMINATED", "ERROR")


def test_a_population_needs_something_that_may_change_while_it_trains(study: Any):
    with pytest.raises(ConfigError, match="needs one of lr, weight_decay, augmentation_strength"):
        study(search={"scheduler": "pbt", "space": {"batch_size": [8, 16]}}).executor.search("rotation")


def test_baselines_train_nothing_and_a_failed_trial_has_its_traceback_and_harms_no_other(study: Any):
    ran = study()
    base = ran.plan.search_base("rotation")
    good, bad = base, base.replace(batch_size=1000)
    listed = [*ran.plan.baselines(), good, bad]
    ran.executor.run(listed, "any")
    assert {record.trial for record in ran.history.trials.values()} == set(listed)

    failed = ran.history.trials[bad.trial_id]
    assert failed.status == FAILED
    assert "trainables/loop.py" in failed.reason
    assert "ConfigError: batch_size = 1000, but shapes gives only" in failed.reason
    assert "\x1b" not in failed.reason
    assert ran.kinds(bad.trial_id) == ["trial_started", "trial_ended"]

    assert_recorded_once_and_in_order(ran, ran.history.trials[good.trial_id])
    assert ran.history.trials[good.trial_id].status == FINISHED
    baselines = ran.history.of("baselines")
    assert [record.trial.task for record in baselines] == [RANDOM_INIT, RANDOM_INIT, RAW_PIXELS]
    for record in baselines:
        assert (record.status, record.step) == (FINISHED, 0)
        assert ran.kinds(record.trial.trial_id) == ["trial_started", "trial_ended"]
        assert {"probe/shapes/linear", "probe/shapes/knn"} <= set(record.results)

    known = ran.trial_events()
    again = ran.again()
    again.executor.run(listed, "any")
    assert again.trial_events() == known


MIXED = {"lr": {"loguniform": [1e-3, 1e-2]}, "option/head_hidden": [0, 16], "augmentation/flip": {"uniform": [0, 1]}}


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
    starts = [event["trial_id"] for event in resumed.trial_events() if event["event"] == "trial_started"]
    assert [starts.count(key) for key in (*ended, running, ahead)] == [1, 1, 2, 2]
    resumed.executor.search("rotation")
    assert len(resumed.searched()) == 5


def cut_off(folder: Path, last_steps: dict[str, int]) -> None:
    """Take all out of a study's journal but the trials named, and of each what came after its last step."""
    kept = []
    for event in read(folder):
        last = last_steps.get(event.get("trial_id", ""), -1)
        late = event.get("step", 0) > last or (event["event"] == "trial_ended" and event["steps"] > last)
        if "trial_id" not in event or (last >= 0 and not late):
            kept.append(event)
    (folder / FILE_NAME).write_text("".join(json.dumps(event) + "\n" for event in kept))


def test_a_trial_still_at_chance_after_its_patience_is_stopped_with_that_reason(study: Any):
    search = {"algorithm": "grid", "scheduler": "none", "chance_patience": 3, "space": {"lr": [1e-9]}}
    ran = study(tasks=["context_prediction"], search=search)
    ran.executor.search("context_prediction")
    (record,) = ran.searched("context_prediction")
    assert (record.status, record.step) == (STOPPED, 3)
    assert record.reason.startswith("at chance after 3 steps: val/accuracy 0.1")
    assert "chance 0.1250" in record.reason
    assert_recorded_once_and_in_order(ran, record)


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


def test_a_place_that_takes_no_checkpoints_ends_the_phase_and_is_no_failure_of_a_trial(study: Any):
    ran = study(max_failures=1)
    trial = ran.plan.search_base("rotation")
    place = ran.folder / "checkpoints" / trial.trial_id
    place.write_text("in the way")
    with pytest.raises(StorageError, match=rf"^{place}: Not a directory; see to that, and the same command goes on"):
        ran.executor.run([trial], "any")
    assert ran.kinds(trial.trial_id) == ["trial_started"]
    place.unlink()
    again = ran.again()
    again.executor.run([trial], "any")
    assert again.history.trials[trial.trial_id].status == FINISHED


FULL = StorageError("/disk/step-000000003.pt: No space left on device")
OF_A_WORKER = WorkerGroupError("rank 1", {1: UserExceptionWithTraceback(FULL, "Traceback")})
OF_A_NODE = OSError(errno.ENOSPC, "No space left on device", "/tmp/torch")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FULL, "/disk/step-000000003.pt: No space"),
        (OF_A_WORKER, "/disk/step-000000003.pt: No space"),
        (OF_A_NODE, "/tmp/torch: No space"),
        (ConfigError("batch_size"), None),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), None),
    ],
    ids=["checkpoint", "checkpoint of a worker group", "a node's disk", "configuration", "another file"],
)
def test_what_a_trial_could_not_write_is_found_in_what_ray_makes_of_it(
    tmp_path: Path, error: Exception, told: str | None
):
    raised = RayTaskError("train", "Traceback", error, "ray::train", 1, "127.0.0.1").as_instanceof_cause()
    (tmp_path / "error.pkl").write_bytes(ray.cloudpickle.dumps(raised))
    trial = FakeTrial("a")
    trial.pickled_error_file = str(tmp_path / "error.pkl")
    found = _refusal(trial)
    assert (found is None) if told is None else str(found).startswith(told)


def test_more_workers_than_the_cluster_has_are_refused(study: Any):
    ran = study(workers=3)
    with pytest.raises(
        ConfigError, match=r"^workers = 3 of 1 CPU each need more than the cluster has, which is room for 2; use fewer$"
    ):
        ran.executor.run([ran.plan.search_base("rotation")], "search")


def result(step: int, value: float, **facts: Any) -> dict[str, Any]:
    """A report of a four-way task with 400 validation predictions."""
    known = {"primary_metric": "val/accuracy", "primary_mode": "max", "n_validation": 400, "chance": {}} | facts
    known["chance"] = {"val/accuracy": 0.25, "val/loss": 1.386}
    return {"step": step, "facts": known, "metrics": {known["primary_metric"]: value, "val/loss_se": 0.01}}


def test_the_stopper_waits_for_its_patience():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(99, 0.25))
    assert stopper("a", result(100, 0.25))
    assert stopper.reasons == {"a": "at chance after 100 steps: val/accuracy 0.2500, chance 0.2500, 400 predictions"}


def test_the_stopper_leaves_alone_who_has_once_cleared_chance():
    stopper = ChanceStopper(patience=100)
    assert not stopper("a", result(50, 0.5))
    assert not stopper("a", result(200, 0.25))


def test_the_stopper_wants_more_than_luck_to_let_a_trial_go_on():
    assert ChanceStopper(patience=10)("a", result(10, 0.28))  # 1.4 standard errors of 400 guesses
    assert not ChanceStopper(patience=10)("a", result(10, 0.36))


def test_the_stopper_judges_a_loss_by_its_standard_error():
    loss = {"primary_metric": "val/loss", "primary_mode": "min"}
    assert ChanceStopper(patience=10)("a", result(10, 1.380, **loss))
    assert not ChanceStopper(patience=10)("a", result(10, 1.2, **loss))


def test_the_stopper_judges_a_trial_that_goes_on_by_its_whole_curve():
    def curve(*values: float) -> dict[str, Any]:
        known = [result(10 * look, value) for look, value in enumerate(values, start=1)]
        reports = [{"step": each["step"], "metrics": each["metrics"]} for each in known]
        return {"step": reports[-1]["step"], "facts": known[0]["facts"], "repeated": reports}

    assert not ChanceStopper(patience=10)("cleared long ago", curve(0.9, 0.25))
    assert ChanceStopper(patience=10)("at chance", curve(0.25, 0.25))
    # The more looks, the more a look must show: what clears chance at the second does not at the hundredth.
    lucky = 0.35
    assert not ChanceStopper(patience=10)("second look", curve(0.25, lucky))
    assert ChanceStopper(patience=10)("hundredth look", curve(*[0.25] * 99, lucky))


def test_the_stopper_keeps_trials_apart_and_never_stops_all():
    stopper = ChanceStopper(patience=10)
    assert not stopper("good", result(10, 0.9))
    assert stopper("bad", result(10, 0.25))
    assert not stopper("good", result(20, 0.25))
    assert not stopper.stop_all()


@pytest.mark.parametrize(
    "harmless",
    [
        {"step": 0, **{key: result(0, 0.25)[key] for key in ("facts", "metrics")}},
        {"step": 100, "results": {}, "finished": True},
    ],
    ids=["before the first step", "final results"],
)
def test_the_stopper_passes_over_what_says_nothing_of_learning(harmless: dict[str, Any]):
    assert not ChanceStopper(patience=1)("a", harmless)


def test_a_patience_of_nought_never_stops():
    assert not ChanceStopper(patience=0)("a", result(10_000, 0.25))


def test_a_trial_is_its_configuration_wherever_it_comes_from():
    trial = TrialConfig(phase="search", task="rotation", lr=0.1)
    assert TrialConfig.from_dict(json.loads(trial.to_json())).trial_id == trial.trial_id


@pytest.mark.parametrize("preset", preset_names())
def test_a_search_begins_inside_its_space_also_where_the_space_excludes_the_default(preset: str):
    config = load_config(preset)
    for task in config.tasks:
        space, base = config.space(task), config.base_trial(task, "search")
        first = default_values(task, base, space)
        assert set(first) == set(space)  # Ray's OptunaSearch refuses a point that leaves one out
        assert all(value in space[name] for name, value in first.items())
        kept = {name for name in ("lr", "batch_size") if getattr(base, name) in space[name]}
        assert all(first[name] == getattr(base, name) for name in kept)


def test_storage_is_absolute_and_a_folder_of_the_study_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    began = datetime(2026, 11, 25, 19, 30, 5, 250, UTC).timestamp()
    own = "20261125-193005-000250"
    assert storage_of(tiny(), Path("studies/tiny"), began) == str(tmp_path / "studies" / "tiny")
    assert storage_of(tiny(storage="shared"), Path("x"), began) == str(tmp_path / "shared" / "tiny" / own)
    assert storage_of(tiny(storage="s3://bucket/studies"), Path("x"), began) == f"s3://bucket/studies/tiny/{own}"
