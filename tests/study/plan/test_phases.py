"""The plan: the trials of each phase, and the configurations that are chosen."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from analysis.records import FAILED, FINISHED, STOPPED, Facts, StudyStarted, TrialChanged
from analysis.records.phases import FRESH_SEEDS
from study.plan.feasibility import check_plan
from study.plan.history import History
from study.plan.phases import Plan
from tests.study.studies import add, plan_of, tiny
from trainables.data.table import ImageTable
from trainables.tasks import TASKS
from trainables.trial import BASELINES, RANDOM_INIT, RAW_PIXELS, TrialConfig

TWO_TASKS = {"tasks": ["rotation", "simclr"]}


def searched(history: History, plan, lr: float, *values: float, status: str = FINISHED, **where: str) -> str:
    task = where.get("task", "rotation")
    return add(history, plan.search_base(task).replace(lr=lr), *values, status=status)


def rates(records) -> list[float]:
    return [record.trial.lr for record in records]


def confirmed(history: History, plan, rank: int, *values: float, status: str = FINISHED) -> None:
    """Record a candidate's seeds with these last values, each after a first report that is better than all of them."""
    for seed, value in zip(plan.fresh_seeds(), values, strict=False):
        trial = plan.search_base("rotation").replace(phase="confirm", cell=f"candidate-{rank}", seed=seed, lr=rank / 10)
        add(history, trial, 0.99, value, status=status)


def whole_history(plan) -> History:
    """Return the history of a study whose trials all finished, each a little better than the one before."""
    history = History()
    for i, trial in enumerate(
        [*plan.baselines(), *(trial for task in plan.config.tasks for trial in searches(plan, task))]
    ):
        add(history, trial, 0.1 + i / 100)
    for i, trial in enumerate(plan.confirm(history)):
        add(history, trial, 0.5 + i / 100)
    return history


def searches(plan, task: str) -> list[TrialConfig]:
    return [plan.search_base(task).replace(lr=lr) for lr in (0.001, 0.002, 0.003)]


def test_trials_of_a_search_are_ranked_by_their_last_report_not_by_their_best():
    plan, history = plan_of(tiny(confirm={"top_k": 2})), History()
    searched(history, plan, 0.001, 0.9, 0.2)
    searched(history, plan, 0.002, 0.1, 0.4)
    searched(history, plan, 0.003, 0.1, 0.3)
    assert rates(plan.best_searched(history, "rotation")) == [0.002, 0.003]


def test_a_trial_of_a_population_is_confirmed_with_the_values_that_it_ended_with():
    plan, history = plan_of(tiny(confirm={"top_k": 1})), History()
    searched(history, plan, 0.001, 0.1, 0.4)
    (record,) = history.trials.values()
    history.observe(TrialChanged(trial_id=record.trial.trial_id, config=record.trial.replace(lr=0.002)))
    assert {trial.lr for trial in plan.confirm(history)} == {0.002}


def test_a_lower_loss_is_better():
    plan, history = plan_of(tiny(confirm={"top_k": 2}, search={"metric": "val/loss"})), History()
    for lr, loss in ((0.001, 1.0), (0.002, 0.5), (0.003, 2.0)):
        add(history, plan.search_base("rotation").replace(lr=lr), loss, metric="val/loss")
    assert rates(plan.best_searched(history, "rotation")) == [0.002, 0.001]


def test_a_stopped_trial_is_confirmed_only_where_too_few_finished():
    history = History()
    plan = plan_of(tiny(confirm={"top_k": 2}))
    searched(history, plan, 0.001, 0.2)
    searched(history, plan, 0.002, 0.8, status=STOPPED)
    searched(history, plan, 0.003, 0.9, status=STOPPED)
    assert rates(plan.best_searched(history, "rotation")) == [0.001, 0.003]
    searched(history, plan, 0.004, 0.1)
    assert rates(plan.best_searched(history, "rotation")) == [0.001, 0.004]


def test_failed_trials_and_values_that_are_not_finite_are_never_confirmed():
    plan, history = plan_of(tiny(confirm={"top_k": 3})), History()
    searched(history, plan, 0.001, 0.9, status=FAILED)
    searched(history, plan, 0.002, 0.9, math.nan)
    searched(history, plan, 0.003, 0.1)
    assert rates(plan.best_searched(history, "rotation")) == [0.003]


def test_ties_are_ranked_by_the_tasks_own_metric_whichever_started_first():
    plan, rankings = plan_of(tiny(confirm={"top_k": 3})), []
    for order in itertools.permutations([(0.001, 1.0), (0.002, 0.5), (0.003, 1.0)]):
        history = History()
        for lr, loss in order:
            record = history.trials[searched(history, plan, lr, 0.4)]
            facts = Facts(trial_id=record.trial.trial_id, primary_metric="val/loss", primary_mode="min")
            record.facts = facts
            record.metrics["val/loss"] = loss
        rankings.append(rates(plan.best_searched(history, "rotation")))
    assert rankings[0][0] == 0.002
    assert rankings == [rankings[0]] * 6


@pytest.mark.parametrize("first", [1, 2])
def test_of_candidates_with_equal_means_the_better_ranked_is_chosen_whichever_began_first(first: int):
    plan, history = plan_of(tiny(confirm={"top_k": 2, "seeds": 2})), History()
    for rank in (first, 3 - first):
        confirmed(history, plan, rank, 0.4, 0.6)
    assert plan.chosen(history)["rotation"]["config"]["cell"] == "candidate-1"


def test_a_search_of_one_task_says_nothing_of_another():
    plan, history = plan_of(tiny(**TWO_TASKS)), History()
    searched(history, plan, 0.001, 0.9, task="simclr")
    assert plan.best_searched(history, "rotation") == []


def test_each_candidate_is_confirmed_with_every_fresh_seed_and_nothing_else_changed():
    plan, history = plan_of(tiny(confirm={"top_k": 2, "seeds": 3})), History()
    searched(history, plan, 0.001, 0.5)
    searched(history, plan, 0.002, 0.6)
    trials = plan.confirm(history)
    cells = [(trial.cell, trial.lr, trial.seed) for trial in trials]
    assert cells == [
        (f"candidate-{rank}", lr, seed) for rank, lr in ((1, 0.002), (2, 0.001)) for seed in plan.fresh_seeds()
    ]
    for trial in trials:
        searched_as = trial.replace(phase="search", cell="", seed=plan.config.seed, probe_datasets=())
        assert searched_as.trial_id in history.trials


@pytest.mark.parametrize("seed", [0, 7, 2**20 - 1])
def test_fresh_seeds_are_seeds_that_no_search_uses_and_differ_between_studies(seed: int):
    plan, other = plan_of(tiny(seed=seed, max_train=150)), plan_of(tiny(seed=8))
    assert all(FRESH_SEEDS <= fresh < 2**31 for fresh in plan.fresh_seeds())
    assert not set(plan.fresh_seeds()) & set(other.fresh_seeds())


def test_all_tasks_cells_and_baselines_share_the_fresh_seeds():
    plan = plan_of(tiny(**TWO_TASKS, confirm={"top_k": 2, "seeds": 2}))
    history, fresh = whole_history(plan), set(plan.fresh_seeds())
    groups: dict[tuple[str, str], set[int]] = {}
    for trial in plan.confirm(history):
        groups.setdefault((trial.task, trial.cell), set()).add(trial.seed)
    assert groups == {(task, f"candidate-{rank}"): fresh for task in plan.config.tasks for rank in (1, 2)}
    for baselines in (plan.baselines(), plan.evaluate(history)):
        assert {trial.seed for trial in baselines if trial.task == RANDOM_INIT} == fresh


def test_the_winner_has_the_best_mean_over_fresh_seeds_at_the_last_report():
    plan, history = plan_of(tiny(confirm={"top_k": 2, "seeds": 3})), History()
    confirmed(history, plan, 1, 0.1, 0.2, 0.9)
    confirmed(history, plan, 2, 0.5, 0.5, 0.5)
    choice = plan.chosen(history)["rotation"]
    assert choice["config"]["cell"] == "candidate-2"
    assert choice["mean"] == pytest.approx(0.5)
    assert (choice["values"], choice["seeds"]) == ([0.5, 0.5, 0.5], plan.fresh_seeds())
    assert all(history.trials[key].trial.cell == "candidate-2" for key in choice["trial_ids"])


def test_the_choice_does_not_depend_on_which_seed_came_first():
    plan, history, other_way = plan_of(tiny(confirm={"top_k": 1, "seeds": 3})), History(), History()
    confirmed(history, plan, 1, 0.1, 0.2, 0.3)
    other_way.trials = dict(reversed(history.trials.items()))
    assert plan.chosen(other_way) == plan.chosen(history)


def test_a_candidate_that_often_fails_does_not_win_by_a_lucky_seed():
    plan, history = plan_of(tiny(confirm={"top_k": 2, "seeds": 3})), History()
    confirmed(history, plan, 1, 0.4, 0.4, 0.4)
    confirmed(history, plan, 2, 0.9, math.nan, math.nan)
    assert plan.chosen(history)["rotation"]["config"]["cell"] == "candidate-1"


def test_a_task_without_confirmed_trials_has_no_choice():
    plan, history = plan_of(tiny(confirm={"top_k": 1, "seeds": 2})), History()
    assert plan.chosen(history) == {}
    confirmed(history, plan, 1, 0.4, 0.4, status=FAILED)
    assert plan.chosen(history) == {}


def test_only_the_evaluation_reads_the_test_split_and_only_it_starts_from_trained_encoders():
    plan = plan_of(tiny(**TWO_TASKS))
    history = whole_history(plan)
    earlier = [*plan.baselines(), *plan.confirm(history)]
    for task in plan.config.tasks:
        earlier += [plan.search_base(task), *plan.enumerated(task)]
    assert {trial.probe_split for trial in earlier} == {"validation"}
    assert {trial.init_from for trial in earlier} == {""}
    evaluated = plan.evaluate(history)
    assert {trial.probe_split for trial in evaluated} == {"test"}
    for trial in evaluated:
        assert (trial.init_from == "") == (trial.task in BASELINES)


def test_the_evaluation_takes_the_chosen_encoders_and_every_baseline():
    plan = plan_of(tiny(**TWO_TASKS, confirm={"seeds": 2}))
    history = whole_history(plan)
    evaluated, chosen = plan.evaluate(history), plan.chosen(history)
    trained = [key for choice in chosen.values() for key in choice["trial_ids"]]
    assert [trial.init_from for trial in evaluated if trial.init_from] == trained
    for trial in evaluated:
        if trial.init_from:
            source = history.trials[trial.init_from].trial
            assert (trial.task, trial.seed, trial.lr) == (source.task, source.seed, source.lr)
    assert [trial.task for trial in evaluated if not trial.init_from] == [RANDOM_INIT, RANDOM_INIT, RAW_PIXELS]


def test_baselines_are_probed_on_every_data_set_of_the_evaluation():
    plan = plan_of(tiny(evaluate={"datasets": ["shapes", "others"]}))
    assert [trial.probe_datasets for trial in plan.baselines()] == [("shapes", "others")] * 3


def test_with_few_labels_every_baseline_is_probed_on_the_labels_of_each_seed():
    plan = plan_of(tiny(confirm={"seeds": 3}, evaluate={"labels_per_class": [5]}))
    evaluated = plan.evaluate(whole_history(plan))
    seeds = {task: [trial.seed for trial in evaluated if trial.task == task] for task in BASELINES}
    assert seeds == dict.fromkeys(BASELINES, plan.fresh_seeds())
    (pixels,) = [trial for trial in plan.baselines() if trial.task == RAW_PIXELS]
    assert pixels.seed == 0


def test_an_unlabeled_data_set_is_searched_by_each_tasks_own_metric_and_has_no_probes():
    plan = plan_of(tiny(dataset="unlabeled", tasks=list(TASKS)))
    for task, kind in TASKS.items():
        assert plan.metric(task) == (kind.primary_metric, kind.primary_mode)
    history = whole_history(plan)
    assert plan.baselines() == plan.evaluate(history) == []
    assert all(trial.probe_datasets == () for trial in plan.confirm(history))
    check_plan(plan)


def test_a_labeled_data_set_is_searched_by_the_probe():
    assert plan_of(tiny()).metric("context_encoder") == ("probe/linear", "max")


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ({"metric": "val/accuracy"}, ("val/accuracy", "max")),
        ({"metric": "val/loss"}, ("val/loss", "min")),
        ({"metric": "health/alignment"}, ("health/alignment", "min")),
        ({"metric": "health/rankme"}, ("health/rankme", "max")),
        ({"metric": "health/rankme", "mode": "min"}, ("health/rankme", "min")),
    ],
)
def test_a_named_metric_has_its_direction(search: dict, expected: tuple[str, str]):
    assert plan_of(tiny(search=search)).metric("rotation") == expected


def test_a_random_search_lists_the_same_trials_every_time_and_others_for_another_seed_or_task():
    config = tiny(**TWO_TASKS, search={"algorithm": "random", "num_samples": 5})
    trials = plan_of(config).enumerated("rotation")
    assert trials == plan_of(config).enumerated("rotation")
    assert len({trial.trial_id for trial in trials}) == 5
    assert rates_of(trials) != rates_of(plan_of(config).enumerated("simclr"))
    again = tiny(**TWO_TASKS, search={"algorithm": "random", "num_samples": 5}, seed=1)
    assert rates_of(trials) != rates_of(plan_of(again).enumerated("rotation"))


def rates_of(trials: list[TrialConfig]) -> list[float]:
    return [trial.lr for trial in trials]


def test_more_random_samples_begin_with_the_fewer():
    few, many = (plan_of(tiny(search={"algorithm": "random", "num_samples": n})).enumerated("rotation") for n in (3, 6))
    assert many[:3] == few


def test_a_grid_is_every_combination():
    space = {"lr": {"loguniform": [0.001, 0.1]}, "batch_size": [8, 16], "option/head_hidden": [0, 32]}
    trials = plan_of(tiny(search={"algorithm": "grid", "num_samples": 3, "space": space})).enumerated("rotation")
    points = [(trial.lr, trial.batch_size, dict(trial.options)["head_hidden"]) for trial in trials]
    assert points == [(lr, size, head) for lr in (0.001, 0.01, 0.1) for size in (8, 16) for head in (0, 32)]


@pytest.mark.parametrize("algorithm", ["random", "grid"])
def test_no_trial_is_listed_twice(algorithm: str):
    space = {"batch_size": [8, 8, 16]}
    trials = plan_of(tiny(search={"algorithm": algorithm, "num_samples": 9, "space": space})).enumerated("rotation")
    assert len(trials) == len(set(trials)) == 2


def test_values_by_name_reach_fields_options_and_the_policy_and_leave_the_rest():
    base = TrialConfig(
        phase="search", task="simclr", augmentation={"flip": 0.5, "gray": 0.1}, options={"projection_dim": 8}
    )
    trial = base.with_values({"lr": 0.5, "option/temperature": 0.2, "augmentation/flip": 1.0})
    assert trial.lr == 0.5
    assert dict(trial.options) == {"projection_dim": 8, "temperature": 0.2}
    assert dict(trial.augmentation) == {"flip": 1.0, "gray": 0.1}
    assert base.lr != 0.5


ABLATION = {"designs": ["cures", "strength"], "seeds": 3, "cures": {"lr": [0.5], "width": [2]}, "strengths": [0.0, 1.0]}


def test_every_cell_of_an_ablation_runs_with_every_seed_and_a_seed_shares_its_draws():
    plan = plan_of(tiny(**TWO_TASKS, ablate=ABLATION))
    trials = plan.ablate(whole_history(plan))
    cells = {}
    for trial in trials:
        assert trial.phase == "ablate"
        if trial.task != RANDOM_INIT:
            assert trial.data_seed == trial.seed
            assert trial.probe_datasets == ("shapes",)
        cells.setdefault((trial.task, trial.cell), []).append(trial.seed)
    names = ["base", "lr=0.5", "width=2", "augmentation_strength=0", "augmentation_strength=1"]
    assert set(cells) == {(task, name) for task in plan.config.tasks for name in names} | {(RANDOM_INIT, RANDOM_INIT)}
    assert all(seeds == plan.ablation_seeds() for seeds in cells.values())
    assert [trial.seed for trial in trials] == sorted(trial.seed for trial in trials)


def test_cells_of_one_seed_differ_in_what_their_name_says_alone():
    plan = plan_of(tiny(ablate=ABLATION))
    trials = {trial.cell: trial for trial in plan.ablate(whole_history(plan)) if trial.seed == plan.ablation_seeds()[0]}
    assert trials["lr=0.5"].replace(lr=trials["base"].lr, cell="base") == trials["base"]
    strong = trials["augmentation_strength=1"]
    changed = strong.replace(augmentation_strength=trials["base"].augmentation_strength, cell="base")
    assert changed == trials["base"]


def test_an_ablation_stands_around_the_chosen_configuration_with_its_base_values():
    plan = plan_of(tiny(**TWO_TASKS, ablate={**ABLATION, "base": {"n_images": 50, "simclr": {"width": 3}}}))
    history = whole_history(plan)
    bases = {trial.task: trial for trial in plan.ablate(history) if trial.cell == "base"}
    for task, choice in plan.chosen(history).items():
        assert bases[task].lr == choice["config"]["lr"]
        assert bases[task].n_images == 50
    assert bases["rotation"].width == 4
    assert bases["simclr"].width == 3


def test_ablation_seeds_are_none_of_those_that_chose_the_configuration():
    plan = plan_of(tiny(confirm={"seeds": 400}, ablate={"seeds": 400}))
    assert not set(plan.ablation_seeds()) & set(plan.fresh_seeds())
    assert len(set(plan.ablation_seeds())) == 400


def test_every_compared_cell_runs():
    plan = plan_of(tiny(**TWO_TASKS, ablate=ABLATION))
    history = whole_history(plan)
    run = {(trial.task, trial.cell) for trial in plan.ablate(history)}
    rows = plan.designs(history)
    assert {row["design"] for row in rows} == {"cures", "strength"}
    for row in rows:
        assert {(row["task"], row["cell"]), (row["task"], row["baseline"])} <= run


def test_where_the_images_have_no_labels_cells_are_probed_where_the_evaluation_probes():
    searched_for = {"metric": "probe/linear"}  # the metric of `whole_history`
    plan = plan_of(tiny(dataset="unlabeled", evaluate={"datasets": ["shapes"]}, ablate=ABLATION, search=searched_for))
    trials = plan.ablate(whole_history(plan))
    assert {trial.probe_datasets for trial in trials} == {("shapes",)}
    assert {trial.probe_split for trial in trials} == {"validation"}
    assert "random_init" in {trial.task for trial in trials}


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_policy_is_not_ablated_where_the_chosen_strength_is_0(strength: float):
    plan, history = plan_of(tiny(ablate={"designs": ["leave_one_out", "cures"], "cures": {"lr": [0.5]}})), History()
    add(history, plan.search_base("rotation").replace(augmentation_strength=strength), 0.5)
    for trial in plan.confirm(history):
        add(history, trial, 0.5)
    assert {row["design"] for row in plan.designs(history)} == {"cures", *(["leave_one_out"] if strength else [])}
    assert plan.without_augmentation(history) == ([] if strength else ["rotation"])


def test_without_a_design_nothing_is_ablated():
    plan = plan_of(tiny())
    assert plan.ablate(whole_history(plan)) == plan.designs(whole_history(plan)) == []


def test_every_stage_is_probed_in_the_evaluation_alone():
    plan = plan_of(tiny(evaluate={"probe_layers": "all"}))
    history = whole_history(plan)
    assert {trial.probe_layers for trial in plan.evaluate(history)} == {"all"}
    assert {trial.probe_layers for trial in [*plan.baselines(), *plan.confirm(history)]} == {"last"}
    assert {trial.probe_layers for trial in plan_of(tiny()).evaluate(history)} == {"last"}


def test_few_labels_are_asked_of_the_evaluation_alone():
    plan = plan_of(tiny(evaluate={"labels_per_class": [2, None], "fine_tune_steps": 7}))
    check_plan(plan)
    history = whole_history(plan)
    assert {(trial.labels_per_class, trial.fine_tune_steps) for trial in plan.evaluate(history)} == {((2, None), 7)}
    assert {trial.labels_per_class for trial in [*plan.baselines(), *plan.confirm(history)]} == {()}
    assert {trial.labels_per_class for trial in plan_of(tiny()).evaluate(history)} == {()}


# --- imbalanced classes --------------------------------------------------------------------------------------------


def imbalanced_plan(**changes) -> Plan:
    """Return a plan on generated images of which nine of ten have the same class."""
    plan = plan_of(tiny(**TWO_TASKS, **changes))
    names = ("common", "rare")

    def relabeled(table: ImageTable) -> ImageTable:
        labels = (np.arange(len(table)) % 10 == 0).astype(np.int64)
        return dataclasses.replace(table, labels=labels, class_names=names)

    made = plan.datasets["shapes"]
    changed = {name: relabeled(table) for name, table in vars(made).items() if isinstance(table, ImageTable)}
    return dataclasses.replace(plan, datasets={"shapes": dataclasses.replace(made, **changed)})


def test_configurations_are_chosen_by_balanced_accuracy_where_classes_are_imbalanced():
    plan = imbalanced_plan()
    assert plan.metric("rotation") == ("probe/linear_balanced_accuracy", "max")
    assert plan_of(tiny()).metric("rotation") == ("probe/linear", "max")
    check_plan(plan)
    named = imbalanced_plan(search={"metric": "probe/linear"})
    assert named.metric("rotation") == ("probe/linear", "max")


def test_a_study_that_began_with_another_default_keeps_it():
    history = History()
    history.observe(StudyStarted(study="old", objectives={"rotation": ["probe/linear", "max"]}))
    history.observe(StudyStarted(study="old", objectives={"rotation": ["probe/knn", "max"]}))
    plan = dataclasses.replace(imbalanced_plan(), objectives=history.objectives)
    assert plan.metric("rotation") == ("probe/linear", "max")
    assert plan.metric("simclr") == ("probe/linear_balanced_accuracy", "max")
