"""A configuration that the data cannot satisfy is refused before anything runs; one that it can satisfy passes."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from torch import Tensor, nn

from study.plan.feasibility import check_plan
from tests.study.studies import plan_of, tiny
from trainables.encoders import ENCODERS
from trainables.errors import ConfigError
from trainables.tasks import TASKS

SELDOM = {"probe_every": 4}  # of 6 steps; the scheduler first decides after 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_images": 1000}, r"n_images = 1000, but shapes has \d+ training images"),
        (
            {"defaults": {"rotation": {"batch_size": 500}}},
            "rotation: batch_size 500 is more than the .* training images",
        ),
        ({"n_images": 20, "search": {"space": {"batch_size": [8, 32]}}}, "batch_size 32 is more than the 20 training"),
        ({"defaults": {"rotation": {"batch_size": 1}}}, "BatchNorm needs at least 2"),
        ({"workers": 3}, "batch_size 8 cannot be shared by workers = 3"),
        ({"workers": 8}, "batch_size 8 cannot be shared by workers = 8"),
        ({"evaluate": {"datasets": ["shapes", "unlabeled"]}}, "evaluate.datasets: unlabeled has neither labels"),
        (
            {"search": {"metric": "val/acuracy"}},
            "search.metric = 'val/acuracy': .* did you mean 'val/accuracy'[?] known: probe/linear, probe/knn, ",
        ),
        ({"dataset": "unlabeled", "search": {"metric": "probe/knn"}}, "search.metric = 'probe/knn': no such metric"),
        (
            {"dataset": "five_channels", "evaluate": {"datasets": ["shapes"]}},
            "evaluate.datasets: shapes has 3 channels, but the encoder trains on the 5 of five_channels",
        ),
        (
            {"dataset": "five_channels", "ablate": {"designs": ["add_one_in"], "ops": ["gray"]}},
            "rotation: the op gray needs red, green and blue, but five_channels has 5 channels",
        ),
        (
            {"dataset": "five_channels", "search": {"space": {"augmentation/gray": {"uniform": [0.0, 0.5]}}}},
            "rotation: the op gray needs red, green and blue, but five_channels has 5 channels",
        ),
        (
            {"tasks": ["context_prediction"], "search": {"space": {"option/gap": {"uniform": [0.0, 0.5]}}}},
            r"context_prediction: the search cannot try option/gap = 0\.5 \(context_prediction: images of 16 px leave "
            r"patches of 3 px, .*\); leave that out of search\.space$",
        ),
        (
            {
                "tasks": ["context_prediction"],
                "search": {"space": {"option/jitter": [0.0, 0.37], "option/gap": [0.0, 0.25]}},
            },
            r"cannot try option/jitter = 0\.37, option/gap = 0\.25 \(",
        ),
        ({"search": {"metric": "probe/linear_balanced"}}, "did you mean 'probe/linear_balanced_accuracy'"),
        (
            SELDOM,
            "probe_every = 4: .* 'asha' compares trials of rotation by probe/linear after 1 step, .* at most 1,",
        ),
        (SELDOM | {"search": {"metric": "health/rankme"}}, "by health/rankme after 1 step, before their first probe"),
    ],
)
def test_what_data_and_configuration_cannot_do_together_is_refused_before_anything_runs(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        check_plan(plan_of(tiny(**changes)))


def test_a_search_may_leave_out_a_default_with_which_its_options_would_be_refused():
    space = {"option/gap": [0.25], "option/jitter": [0.0]}  # which the default jitter would not leave room for
    check_plan(plan_of(tiny(tasks=["context_prediction"], search={"space": space})))


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {"scheduler": "none"}},
        {"search": {"metric": "val/loss"}},
        {"search": {"metric": "train/loss"}},
        {"search": {"grace_period": 4}},
        {"dataset": "unlabeled"},  # chosen by a metric of the task
    ],
)
def test_probes_may_be_seldom_where_no_scheduler_compares_features(changes: dict):
    check_plan(plan_of(tiny(**SELDOM | changes)))


@pytest.mark.parametrize("task", list(TASKS))
@pytest.mark.parametrize(
    "metric",
    [
        *("auto", "probe/knn", "val/loss", "train/loss", "health/rankme"),
        *("probe/linear_balanced_accuracy", "probe/knn_macro_f1"),
    ],
)
def test_what_fits_together_passes(task: str, metric: str):
    check_plan(plan_of(tiny(tasks=[task], search={"metric": metric})))


@pytest.mark.parametrize(
    ("ablate", "message"),
    [
        (
            {"designs": ["size_by_strength"], "sizes": [5]},
            "rotation, cell 'n_images=5, augmentation_strength=0': batch_size 8 is",
        ),
        ({"designs": ["size_by_strength"], "sizes": [500]}, "n_images = 500, but shapes has"),
        (
            {"designs": ["cures"], "cures": {"batch_size": [64]}, "base": {"n_images": 20}},
            "cell 'batch_size=64': batch_size 64 is more than the 20.* leave it out of ablate$",
        ),
    ],
)
def test_cells_that_the_data_cannot_give_are_refused_before_anything_runs(ablate: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        check_plan(plan_of(tiny(ablate=ablate)))


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (
            {"labels_per_class": [10_000]},
            r"labels_per_class: 10000, but shapes has only \d+ labeled",
        ),
        ({"labels_per_class": [2], "datasets": []}, r"labels_per_class = \[2\]: no data set with labels is probed"),
    ],
)
def test_labels_that_the_data_cannot_give_are_refused_before_anything_runs(evaluate: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        check_plan(plan_of(tiny(evaluate=evaluate)))


def test_ops_that_need_color_are_left_out_where_there_is_none_and_one_line_says_so(caplog: pytest.LogCaptureFixture):
    policy = {"flip": 1.0, "color_jitter": 0.5, "gray": 0.2}
    changes = {"tasks": ["simclr"], "defaults": {"simclr": {"batch_size": 8, "augmentation": policy}}}
    without, with_color = (plan_of(tiny(dataset=name, **changes)) for name in ("five_channels", "shapes"))
    check_plan(without)
    assert dict(without.search_base("simclr").augmentation) == {"flip": 1.0, "color_jitter": 0.5}
    (said,) = [record.message for record in caplog.records if record.name == "study.plan.feasibility"]
    assert said.startswith("five_channels: 5 channels that are not red, green and blue: the op gray is left out; ")
    caplog.clear()
    check_plan(with_color)
    assert dict(with_color.search_base("simclr").augmentation) == policy
    assert not caplog.records


def test_default_batch_sizes_above_the_training_images_are_left_out_in_one_line(caplog: pytest.LogCaptureFixture):
    plan = plan_of(tiny(tasks=["rotation", "simclr"], n_images=50, defaults={}, search={"space": {}}))
    with caplog.at_level("WARNING"):
        check_plan(plan)
    assert caplog.messages == [
        "default batch sizes above the 50 training images are left out: rotation 64, 128; simclr 64, 128, 256"
    ]
    assert plan.batch_sizes("rotation") == [32]
    assert plan.batch_sizes("simclr") == [32]  # none of the defaults is left
    assert plan.search_base("rotation").batch_size == 32
    assert {trial.batch_size for task in plan.config.tasks for trial in plan.enumerated(task)} == {32}


def test_enough_images_leave_the_default_space_as_it_is(caplog: pytest.LogCaptureFixture):
    plan = plan_of(tiny(defaults={}, search={"space": {}}, max_train=None))
    check_plan(plan)
    assert plan.space("rotation") == plan.config.space("rotation")
    assert plan.search_base("rotation") == plan.config.base_trial("rotation", "search")
    assert not caplog.messages


def test_a_study_without_labels_is_told_what_it_cannot_answer(caplog: pytest.LogCaptureFixture):
    check_plan(plan_of(tiny(dataset="unlabeled")))
    (line,) = caplog.messages
    assert line.startswith("unlabeled has no labels: the study can tell whether each task is learned")
    caplog.clear()
    check_plan(plan_of(tiny(dataset="unlabeled", evaluate={"datasets": ["shapes"]})))
    assert not caplog.messages


class WithoutStages(nn.Module):
    """An encoder with features alone, as of a plug-in."""

    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(images).mean(dim=(2, 3))


@pytest.mark.parametrize("evaluate", [{"segmentation": True}, {"segmentation": False, "probe_layers": "all"}])
def test_a_probe_of_stages_is_refused_for_an_encoder_that_has_none(
    evaluate: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "without_stages", WithoutStages)
    with pytest.raises(ConfigError, match=r"encoder.name = 'without_stages': it has no `stages`"):
        check_plan(plan_of(tiny(encoder={"name": "without_stages"}, evaluate=evaluate)))
    check_plan(plan_of(tiny(encoder={"name": "without_stages"}, evaluate={"segmentation": False})))


class WholeImages(nn.Sequential):
    """An encoder that takes images of one side only."""

    feature_dim = 8

    def __init__(self, image_size: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * image_size**2, self.feature_dim))


@pytest.mark.parametrize("task", ["rotation", "context_prediction"])
def test_an_encoder_that_cannot_process_what_a_task_makes_of_images_is_refused(task: str):
    plan = plan_of(tiny(tasks=[task], evaluate={"segmentation": False}, search={"space": {"batch_size": [8]}}))
    encoder = plan.config.encoder.model_copy(update={"name": "whole_images"})
    plan = replace(plan, config=plan.config.model_copy(update={"encoder": encoder}))
    refused = pytest.raises(ConfigError, match=r"'whole_images': cannot process the inputs of context_prediction, \[")
    ENCODERS.add("whole_images", WholeImages, __name__)
    try:
        with refused if task == "context_prediction" else contextlib.nullcontext():
            check_plan(plan)
    finally:
        ENCODERS.remove("whole_images")
