"""The final evaluation: probes refitted per data set, baselines, and a test split that is read last."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.tiny import SIDE, splits, trial, with_unreadable_test
from trainables.data.shapes import MASK_NAMES
from trainables.data.table import ImageTable, Splits
from trainables.encoders import Encoder, build_encoder
from trainables.errors import ConfigError
from trainables.per_image import unpack
from trainables.probes import evaluation, segmentation
from trainables.probes.evaluation import baseline_encoder
from trainables.probes.features import raw_pixels
from trainables.probes.linear import linear_probe
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

CPU = torch.device("cpu")
AVERAGES = ("balanced_accuracy", "macro_f1")
WHAT = (
    *("linear", "linear_top5", "linear_train", "linear_train_top5", "weight_decay", "knn", "knn_top5"),
    *(f"{probe}_{average}" for probe in ("linear", "knn") for average in AVERAGES),
    *("chance", "largest_class"),
)
SEGMENTED = ("miou", "pixel_accuracy", "miou_chance", "pixel_accuracy_chance", "miou_train", "miou_weight_decay")
ENCODER = build_encoder("conv4", width=4)


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "N_PIXELS", 400)


def evaluate(*arguments: Any) -> dict[str, float]:
    """Return the results of an evaluation by name."""
    return evaluation.evaluate(*arguments).results


def probing(task: str = "rotation", *, datasets: tuple[str, ...] = ("shapes",), **changes: Any) -> TrialConfig:
    return trial(task, probe_datasets=datasets, **changes)


def scenes() -> Splits:
    return splits(n_train=200, n_validation=100, n_test=100)


def brightness() -> Splits:
    """Return splits of a data set of two classes that any features tell apart: dark and bright images."""
    stream = np.random.default_rng(0)

    def table(n: int) -> ImageTable:
        labels = np.arange(n) % 2
        images = stream.integers(0, 60, (n, 3, SIDE, SIDE)) + 180 * labels[:, None, None, None]
        return ImageTable("brightness", images.astype(np.uint8), labels, class_names=("dark", "bright"))

    train, validation, test = table(60), table(40), table(40)
    return Splits(train, validation, train, validation, test)


def test_results_are_named_by_data_set_and_probe() -> None:
    datasets = {"shapes": scenes(), "brightness": brightness(), "unused": scenes()}
    results = evaluate(probing(datasets=("shapes", "brightness")), ENCODER, datasets, CPU)
    of_masks = {f"probe/shapes/{what}" for what in (*SEGMENTED, *(f"iou/{name}" for name in MASK_NAMES))}
    named = {f"probe/{name}/{what}" for name in ("shapes", "brightness") for what in WHAT}
    assert results.keys() == named | of_masks
    shares = [value for name, value in results.items() if not name.endswith("weight_decay")]
    assert all(0 <= share <= 1 for share in shares)
    assert evaluate(probing(datasets=()), ENCODER, datasets, CPU) == {}


def test_the_probe_is_refitted_on_another_data_set() -> None:
    results = evaluate(probing(datasets=("brightness",)), ENCODER, {"brightness": brightness()}, CPU)
    assert results["probe/brightness/linear"] == 1
    assert results["probe/brightness/knn"] == 1


def test_validation_never_reads_the_test_split() -> None:
    guarded = with_unreadable_test(scenes())
    for encoder in (ENCODER, None):
        results = evaluate(probing(), encoder, {"shapes": guarded}, CPU)
        assert results == evaluate(probing(), encoder, {"shapes": scenes()}, CPU)
    with pytest.raises(AssertionError, match="of the test split was read"):
        evaluate(probing(probe_split="test"), ENCODER, {"shapes": guarded}, CPU)


def test_the_test_split_is_scored_only_on_request() -> None:
    turned = brightness()
    assert turned.test.labels is not None
    wrong = dataclasses.replace(turned, test=dataclasses.replace(turned.test, labels=1 - turned.test.labels))
    for split, expected in (("validation", 1), ("test", 0)):
        config = probing(datasets=("brightness",), probe_split=split)
        results = evaluate(config, ENCODER, {"brightness": wrong}, CPU)
        assert results["probe/brightness/linear"] == expected
        assert results["probe/brightness/knn"] == expected
        assert results["probe/brightness/linear_train"] == 1


def test_the_weight_decay_is_chosen_on_validation_for_the_test_too() -> None:
    on_validation, on_test = (
        evaluate(probing(probe_split=split), ENCODER, {"shapes": scenes()}, CPU) for split in ("validation", "test")
    )
    assert on_validation["probe/shapes/weight_decay"] == on_test["probe/shapes/weight_decay"]
    assert on_validation["probe/shapes/linear_train"] == on_test["probe/shapes/linear_train"]


def test_raw_pixels_are_probed_as_they_are() -> None:
    data = scenes()
    tables = (data.probe_train, data.probe_validation)
    parts = [part for table in tables for part in (raw_pixels(table.images), torch.tensor(table.labels))]  # type: ignore[union-attr]
    expected = linear_probe(*parts, n_classes=10)
    assert baseline_encoder(probing(RAW_PIXELS), SIDE) is None
    results = evaluate(probing(RAW_PIXELS), None, {"shapes": data}, CPU)
    assert results["probe/shapes/linear"] == expected.validation.top1
    assert results["probe/shapes/linear_train"] == expected.train.top1


def test_the_random_init_baseline_is_the_network_that_training_starts_from() -> None:
    config = probing(RANDOM_INIT, seed=3)
    baseline, expected = baseline_encoder(config, SIDE), build_encoder("conv4", width=4, image_size=SIDE, seed=3)
    assert baseline is not None
    weights = zip(baseline.state_dict().values(), expected.state_dict().values(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in weights)
    other = baseline_encoder(config.replace(seed=4), SIDE)
    assert other is not None
    data = {"shapes": scenes()}
    assert evaluate(config, baseline, data, CPU) == evaluate(config, expected, data, CPU)
    assert evaluate(config, baseline, data, CPU) != evaluate(config, other, data, CPU)


def test_what_batchnorm_saw_in_training_does_not_matter() -> None:
    dark = build_encoder("conv4", width=4)
    dark(torch.rand(64, 3, SIDE, SIDE) * 0.01)  # as a pretext task on other images would leave it
    data = {"shapes": scenes()}
    assert evaluate(probing(), dark, data, CPU) == evaluate(probing(), ENCODER, data, CPU)


def test_probing_leaves_the_encoder_as_it_was() -> None:
    before = {key: value.clone() for key, value in ENCODER.state_dict().items()}
    evaluate(probing(), ENCODER, {"shapes": scenes()}, CPU)
    assert all(torch.equal(value, before[key]) for key, value in ENCODER.state_dict().items())


def without(data: Splits, *fields: str) -> Splits:
    """Return the splits with tables that lack labels or masks."""
    bare = dict.fromkeys(fields)
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(Splits)}
    tables = {name: table for name, table in values.items() if isinstance(table, ImageTable)}
    return dataclasses.replace(data, **{name: dataclasses.replace(table, **bare) for name, table in tables.items()})


@pytest.mark.parametrize("encoder", [ENCODER, None])
def test_a_data_set_of_masks_alone_gets_the_segmentation_probe_alone(encoder: Encoder | None) -> None:
    both = evaluate(probing(), encoder, {"shapes": scenes()}, CPU)
    masks = evaluate(probing(), encoder, {"shapes": without(scenes(), "labels")}, CPU)
    labels = evaluate(probing(), encoder, {"shapes": without(scenes(), "masks")}, CPU)
    assert labels.keys() == {f"probe/shapes/{what}" for what in WHAT}
    assert both == labels | masks
    assert not labels.keys() & masks.keys()


@pytest.mark.parametrize("missing", ["annotations", "probe_train"])
def test_a_data_set_without_labels_and_masks_is_refused_by_name(missing: str) -> None:
    data = scenes()
    if missing == "annotations":
        data = dataclasses.replace(data, test=without(data, "labels", "masks").test)
    else:
        data = dataclasses.replace(data, probe_train=None)
    with pytest.raises(ConfigError, match=r"evaluate.datasets: shapes has neither labels nor masks"):
        evaluate(probing(), ENCODER, {"shapes": data}, CPU)


@pytest.mark.core
@pytest.mark.slow
def test_every_stage_is_probed_where_that_is_asked_for() -> None:
    data = {"shapes": scenes()}
    last, every = (evaluate(probing(probe_layers=layers), ENCODER, data, CPU) for layers in ("last", "all"))
    ends = {"linear": ("", *(f"_{average}" for average in AVERAGES)), "miou": ("",)}
    added = {
        f"probe/shapes/{probe}/stage{stage}{end}" for probe in ends for stage in (1, 2, 3, 4) for end in ends[probe]
    }
    assert every.keys() - last.keys() == added
    assert last.items() <= every.items()
    for probe in ("linear", "miou"):
        assert every[f"probe/shapes/{probe}/stage4"] == every[f"probe/shapes/{probe}"]
    first = evaluate(probing(), ENCODER.up_to(1), data, CPU)
    assert every["probe/shapes/linear/stage1"] == first["probe/shapes/linear"]
    assert every["probe/shapes/miou/stage1"] == first["probe/shapes/miou"]
    assert evaluate(probing(RAW_PIXELS, probe_layers="all"), None, data, CPU).keys() == last.keys()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_every_accuracy_is_the_mean_over_the_images_of_its_split(split: str) -> None:
    data = scenes()
    config = probing(probe_split=split, labels_per_class=(2, None), fine_tune_steps=2)
    found = evaluation.evaluate(config, ENCODER, {"shapes": data}, CPU)
    table = data.test if split == "test" else data.probe_validation
    assert table is not None
    correct = {name.removeprefix("probe/shapes/"): unpack(text) for name, text in found.per_image.items()}
    labels, overlaps = correct.pop("labels"), correct.pop("miou")
    assert np.array_equal(labels, table.labels)
    ways = ("linear", "knn", "linear/2_labels", "linear/all_labels", "fine_tuned/2_labels", "fine_tuned/all_labels")
    assert set(correct) == set(ways)
    for name, answers in correct.items():
        assert (answers.dtype, answers.shape) == (bool, (len(table),))
        assert answers.mean() == pytest.approx(found.results[f"probe/shapes/{name}"], abs=1e-6)
    recalls = [correct["linear"][labels == label].mean() for label in np.unique(labels)]
    assert np.mean(recalls) == pytest.approx(found.results["probe/shapes/linear_balanced_accuracy"], abs=1e-6)
    intersection, union = overlaps.astype(np.int64).sum(axis=0)
    assert overlaps.shape == (len(table), 2, len(union))
    assert (intersection / union).mean() == pytest.approx(found.results["probe/shapes/miou"])


def test_an_encoder_that_diverged_has_no_results_of_images() -> None:
    broken = build_encoder("conv4", width=4)
    with torch.no_grad():
        next(iter(broken.parameters())).fill_(math.nan)
    found = evaluation.evaluate(probing(), broken, {"shapes": scenes()}, CPU)
    assert math.isnan(found.results["probe/shapes/linear"])
    assert set(found.per_image) == {"probe/shapes/labels"}
