"""Time of a study, estimated before it runs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.records import FINISHED, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted
from study.config.validation import check_config
from study.driver import load_datasets
from study.plan.phases import Plan
from study.timing import costs as costs_module
from study.timing import rehearsal
from study.timing.costs import TrainingCost, TrialCosts, _timed_alike
from study.timing.estimate import (
    StudyEstimate,
    _trial_seconds,
    asha_share,
    estimate,
    makespan,
    time_range,
    trial_costs,
)
from study.timing.expected import Part
from study.timing.machine import Machine, machine_of
from study.timing.phase_sizes import phase_sizes
from tests.study.studies import KnownCosts
from trainables.data import Splits, load_splits
from trainables.errors import UserError
from trainables.trial import TrialConfig

MACHINE = Machine(start=10, phase=4, warm_up=3, trial=0.5, end=6)


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.timing.estimate.n_cores", lambda: 2)


def plan_of(**settings) -> Plan:
    small = {"name": "sized", "tasks": ["rotation", "simclr"], "max_train": 400, "encoder": {"width": 4}}
    config = check_config({**small, "budget_steps": 10, "search": {"num_samples": 3}, **settings})
    return Plan(config, load_datasets(config))


def sizes_of(**settings) -> dict[str, tuple[int, int]]:
    return {size.phase: (size.trials, sum(size.steps.values())) for size in phase_sizes(plan_of(**settings))}


def test_trials_and_steps_are_those_of_the_plan():
    found = sizes_of(confirm={"top_k": 2, "seeds": 3})
    assert found == {"baselines": (4, 0), "search": (6, 60), "confirm": (12, 120), "evaluate": (10, 0)}


def test_a_grid_counts_its_points():
    space = {"lr": {"loguniform": [1e-3, 1e-2]}, "batch_size": [32, 64]}
    found = sizes_of(search={"num_samples": 3, "algorithm": "grid", "space": space})
    assert found["search"][0] == 2 * 3 * 2


@pytest.mark.parametrize("evaluate", [{}, {"datasets": []}], ids=["evaluated", "not evaluated"])
def test_an_ablation_counts_every_cell_with_every_seed_at_its_own_budget(evaluate: dict[str, list[str]]):
    cures = {"lr": [0.5], "budget_steps": [40]}
    found = sizes_of(ablate={"designs": ["cures"], "seeds": 5, "cures": cures}, evaluate=evaluate)
    assert found["ablate"] == (5 * (2 * 3 + 1), 5 * 2 * (10 + 10 + 40))  # base and two cures of two tasks; untrained


def test_the_parts_of_an_estimate_add_up_and_grow_with_steps_and_seeds():
    plan = plan_of(search={"num_samples": 8})

    def estimated(**settings) -> StudyEstimate:
        config = check_config(plan.config.model_dump(mode="json") | settings)
        return estimate(dataclasses.replace(plan, config=config), MACHINE, KnownCosts())

    first = estimated()
    assert [row.phase for row in first.phases] == ["start", "baselines", "search", "confirm", "evaluate", "report"]
    assert first.low < first.seconds < first.high
    assert estimated(budget_steps=1000).seconds > 2 * first.seconds
    assert estimated(confirm={"top_k": 2, "seeds": 9}).low > first.low


def test_of_a_simulated_study_only_what_ray_and_the_report_take_is_left(two_cores: None):
    plan = plan_of(simulate=True)
    found = {row.phase: row.seconds for row in estimate(plan, MACHINE, trial_costs(plan)).phases}
    assert (found["start"], found["report"]) == (10, 6)
    assert found["baselines"] == 4 + makespan([0.5] * 4, 2) == 5
    assert found["search"] == 4 + makespan([0.5] * 6, 2) == 5.5


class RatedCosts(KnownCosts):
    """Costs of trials that take as many seconds as their learning rate says."""

    def seconds(self, trial: TrialConfig, share: float = 1.0) -> float:
        return trial.lr * share


def test_the_ends_of_a_part_are_one_standard_deviation_of_its_alternatives_from_their_mean():
    trials = [TrialConfig("confirm", "rotation", lr=seconds) for seconds in (1.0, 2.0, 6.0)]
    alternatives = tuple((trial, trial) for trial in trials)  # 2, 4 and 12 seconds: 6 on average
    spread = math.sqrt((4**2 + 2**2 + 6**2) / 3)
    for end in (-1, 1):
        found = _trial_seconds(Part("confirm", alternatives, repeats=3), RatedCosts(), 1.0, end)
        assert found == pytest.approx([(6 + end * spread) / 2] * 6)
    assert _trial_seconds(Part("search", (tuple(trials),)), RatedCosts(), 0.5, 1) == pytest.approx([0.5, 1.0, 3.0])
    assert _trial_seconds(Part("confirm", alternatives, repeats=3), None, 1.0, 1) == [0.0] * 6


def test_a_step_is_timed_with_the_batches_that_trials_have_and_between_them_it_is_interpolated(
    monkeypatch: pytest.MonkeyPatch,
):
    timed: list[int] = []

    def time_training(trial: TrialConfig, *others: object) -> TrainingCost:
        timed.append(trial.batch_size)
        return TrainingCost(setup=1.0, step=0.001 * trial.batch_size, report=0.25, features=4.0)

    monkeypatch.setattr(costs_module, "_time_training", time_training)
    plan = plan_of()
    costs = TrialCosts(plan.datasets, torch.device("cpu"))
    small, middle, large = (
        plan.search_base("rotation").replace(batch_size=size, budget_steps=1000, report_every=100, probe_every=100)
        for size in (8, 132, 256)
    )
    costs.include([small, large, middle])
    beside_steps = 1.0 + 11 * (0.25 + 4.0)
    for trial, step in ((small, 0.008), (middle, 0.132), (large, 0.256)):
        assert costs.seconds(trial) == pytest.approx(beside_steps + 1000 * step)
        assert costs.seconds(trial, share=0.25) == pytest.approx(1.0 + 4 * 4.25 + 250 * step)  # 4 reports: 0 to 300
    assert sorted(timed) == [8, 256]
    assert costs.seconds(small.replace(lr=0.5, seed=7)) == costs.seconds(small), "neither changes what a step computes"
    often, seldom = (small.replace(budget_steps=200, report_every=10, probe_every=every) for every in (10, 100))
    costs.include([often])
    assert costs.seconds(often) - costs.seconds(seldom) == pytest.approx(18 * 4.0), "measured 3 times instead of 21"


@pytest.mark.slow
def test_a_larger_batch_takes_more_time():
    plan = plan_of()
    costs = TrialCosts(plan.datasets, torch.device("cpu"))
    small, large = (plan.search_base("rotation").replace(batch_size=size, budget_steps=1000) for size in (8, 256))
    costs.include([small, large])
    assert costs.seconds(large) > costs.seconds(small)


@pytest.mark.parametrize(
    ("fixed", "each", "most_timed"), [(0.0, 0.001, 3200), (1.0, 0.001, 3200), (0.0, 0.011, 200), (0.1, 0.0, 6000)]
)
def test_the_time_of_probes_is_extrapolated_from_two_sizes(
    monkeypatch: pytest.MonkeyPatch, fixed: float, each: float, most_timed: int
):
    """A fit has a part that does not depend on the number of images."""
    clock, timed = [0.0], []

    def evaluate(trial: TrialConfig, encoder: object, datasets: dict[str, Splits], device: torch.device) -> None:
        [splits] = datasets.values()
        timed.append(len(splits.test))
        clock[0] += fixed + each * len(splits.test) + 5.0 * (len(timed) == 1)  # the first call loads what it needs

    table = dataclasses.replace(load_splits("shapes", root=None, max_train=100).test, masks=None)
    images = table.take(np.arange(6000) % len(table))
    splits = Splits(images, images, images, images, images)
    monkeypatch.setattr(costs_module, "evaluate", evaluate)
    monkeypatch.setattr("trainables.devices.time.perf_counter", lambda: clock[0])
    trial = TrialConfig("", "random_init", budget_steps=0, probe_datasets=("shapes",))
    found = costs_module._evaluation_seconds(trial, None, splits, torch.device("cpu"))
    assert found == pytest.approx(fixed + each * 6000)
    assert max(timed) == most_timed


def test_trials_take_the_slot_that_is_free_first():
    assert makespan([3, 1, 1, 1], slots=2) == 3
    assert makespan([1, 1, 3], slots=2) == 4  # one slot idles while the last trial runs
    assert makespan([1, 1], slots=2, first=5) == 6
    assert makespan([], slots=2) == 0


def test_asha_runs_the_expected_share_of_steps():
    assert asha_share(1, 100, 25, 2) == 1, "a trial that is alone is never stopped"
    assert asha_share(8, 100, 100, 2) == 1
    # 8 trials to 25 steps, 1 + 7/2 = 4.5 to 50, and 1 + 3.5/2 = 2.75 to the end
    assert asha_share(8, 100, 25, 2) == pytest.approx((8 * 25 + 4.5 * 25 + 2.75 * 50) / 800)


def test_a_range_is_said_in_the_unit_that_suits_it():
    assert time_range(41.2, 49.5) == "41 to 50 seconds"
    assert time_range(185, 236) == "3 to 4 minutes"
    assert time_range(181, 235.9) == "3 to 4 minutes"
    assert time_range(5400, 7300) == "1.5 to 2.1 hours"
    assert time_range(30, 30) == "30 seconds"


def test_a_rehearsal_that_fails_says_its_error_not_a_warning_before_it(tmp_path, monkeypatch: pytest.MonkeyPatch):
    lines = ["WARNING ray: old", "error: no room", ""]
    (tmp_path / "study.py").write_text(f"import sys\nprint(*{lines}, sep='\\n', file=sys.stderr)\nsys.exit(2)")
    monkeypatch.setattr(rehearsal, "COMMAND", tmp_path / "study.py")
    with pytest.raises(UserError, match=r"^it ended with code 2: error: no room$"):
        rehearsal._run([], str(tmp_path))


def test_a_rehearsal_leaves_nothing_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked, temporary = tmp_path / "asked", tmp_path / "temporary"
    asked.mkdir()
    temporary.mkdir()
    (tmp_path / "study.py").write_text("import os\nos.mkdir('mlruns')")
    monkeypatch.setattr(rehearsal, "COMMAND", tmp_path / "study.py")
    monkeypatch.chdir(asked)
    rehearsal._run([], str(temporary))
    assert (list(asked.iterdir()), list(temporary.iterdir())) == ([], [temporary / "mlruns"])


def test_a_phase_takes_what_is_left_of_it_before_its_first_trial_and_after_its_last():
    trial = TrialConfig("confirm", "rotation")
    events = [
        PhaseStarted(phase="confirm", time=10),
        TrialStarted.of(trial, time=13),
        TrialEnded(trial_id=trial.trial_id, status=FINISHED, time=20),
        PhaseEnded(phase="confirm", time=22),
    ]
    (phase,) = rehearsal._phases(iter(events))
    assert (phase.name, phase.trials) == ("confirm", [(trial, 13, 20)])
    assert rehearsal._around_trials(phase) == 5


def test_a_machine_is_measured_once(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PRETEXT_STUDY_CACHE", str(tmp_path))
    measured = []

    def measure() -> Machine:
        measured.append(1)
        return MACHINE

    assert [machine_of(measure), machine_of(measure)] == [MACHINE, MACHINE]
    assert len(measured) == 1


def test_options_that_change_what_a_step_computes_are_timed_apart():
    def key(task: str, **options: float) -> TrialConfig:
        return _timed_alike(TrialConfig("", task, options=options))

    assert key("context_prediction", jitter=0.0) != key("context_prediction", jitter=0.35), "patches of other sizes"
    assert key("context_prediction", gray=0.5) == key("context_prediction", gray=0.6)
    assert key("context_encoder", adversarial_weight=0) != key("context_encoder", adversarial_weight=0.001)
    assert key("simclr", temperature=0.2) == key("simclr", temperature=0.5)


def test_trials_are_counted_on_the_cores_that_ray_finds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ray._private.utils.get_num_cpus", lambda **options: 3.0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(64), raising=False)
    assert estimate(plan_of(), MACHINE, KnownCosts()).words().endswith("on 3 cores, 3 trials at a time")


def test_of_the_cores_of_a_node_only_those_of_the_job_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ray._private.utils.get_num_cpus", lambda **options: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {8, 9, 10}, raising=False)
    assert estimate(plan_of(), MACHINE, KnownCosts()).words().endswith("on 3 cores, 3 trials at a time")
    monkeypatch.delattr("os.sched_getaffinity")  # as on a Mac
    assert estimate(plan_of(), MACHINE, KnownCosts()).slots == 64


def test_on_a_running_cluster_as_many_trials_run_at_once_as_it_has_room_for(two_cores: None):
    plan = plan_of(simulate=True, confirm={"seeds": 20})
    found = estimate(plan, MACHINE, None, slots=8)
    assert found.words().endswith("on the running Ray cluster, 8 trials at a time")
    assert found.seconds < estimate(plan, MACHINE, None).seconds
