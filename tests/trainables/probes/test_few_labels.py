"""Few labels: which images are labeled, and what frozen features and fine-tuning make of them."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.tiny import splits, trial, with_unreadable_test
from trainables.data.table import ImageTable, Splits, as_tensor
from trainables.distributed import CrossWorkerBatchNorm, synchronize_batchnorm
from trainables.encoders import Encoder, build_encoder, recalibrated
from trainables.probes import evaluation, few_labels
from trainables.probes.accuracy import Accuracy
from trainables.probes.features import extract_features
from trainables.probes.few_labels import Classifier, classification_accuracy, fine_tune, frozen_probe, labeled_subset
from trainables.trial import RAW_PIXELS, TrialConfig

CPU = torch.device("cpu")
MASKED = splits(n_train=300, n_validation=120, n_test=200)


def evaluate(*arguments: Any) -> dict[str, float]:
    """Return the results of an evaluation by name."""
    return evaluation.evaluate(*arguments).results


def labeled(table: ImageTable | None) -> tuple[ImageTable, np.ndarray]:
    assert table is not None
    assert table.labels is not None
    return table, table.labels


def without_masks(table: ImageTable | None) -> ImageTable:
    return dataclasses.replace(labeled(table)[0], masks=None)  # which would be probed, too


TRAIN, VALIDATION, TEST = map(without_masks, (MASKED.probe_train, MASKED.probe_validation, MASKED.test))
DATA = Splits(TRAIN, VALIDATION, TRAIN, VALIDATION, TEST)
N_CLASSES = TEST.n_classes


def untrained() -> Encoder:
    return recalibrated(build_encoder("conv4", width=8, seed=1), as_tensor(TRAIN.images))


def classifier(train: ImageTable = TRAIN) -> Classifier:
    encoder = untrained()
    probe = frozen_probe(encoder, train, VALIDATION, CPU)
    assert probe is not None
    return Classifier(encoder, probe)


def tuning(**changes: Any) -> TrialConfig:
    return trial(**({"fine_tune_steps": 60, "seed": 3} | changes))


def test_each_class_has_its_number_of_labels_and_small_subsets_lie_in_large_ones() -> None:
    names = {}
    for per_class in (2, 10):
        subset, labels = labeled(labeled_subset(TRAIN, per_class, seed=5))
        assert np.bincount(labels, minlength=N_CLASSES).tolist() == [per_class] * N_CLASSES
        names[per_class] = {image.tobytes() for image in subset.images}
    assert names[2] < names[10]
    other = labeled_subset(TRAIN, 2, seed=6)
    assert {image.tobytes() for image in other.images} != names[2]
    assert labeled_subset(TRAIN, None, seed=5) is TRAIN
    most = labeled_subset(TRAIN, 10_000, seed=5)
    assert len(most) == len(TRAIN)


def test_a_classifier_begins_with_the_scores_of_the_probe_on_frozen_features() -> None:
    encoder = untrained()
    probe = frozen_probe(encoder, TRAIN, VALIDATION, CPU)
    assert probe is not None
    images = as_tensor(TEST.images)
    scores = extract_features(Classifier(encoder, probe), images, device=CPU)
    torch.testing.assert_close(scores, probe(extract_features(encoder, images, device=CPU)), rtol=1e-4, atol=1e-4)


def test_the_classifier_of_one_worker_of_a_group_waits_for_no_other() -> None:
    encoder = untrained()
    probe = frozen_probe(encoder, TRAIN, VALIDATION, CPU)
    assert probe is not None
    of_a_group = synchronize_batchnorm(encoder)
    for network, shared in ((of_a_group, True), (Classifier(of_a_group, probe), False)):
        found = {module.shared for module in network.modules() if isinstance(module, CrossWorkerBatchNorm)}
        assert found == {shared}


@pytest.mark.core
@pytest.mark.slow
def test_fine_tuning_learns_what_frozen_features_do_not_tell_and_leaves_the_encoder_alone() -> None:
    many = splits(n_train=1500, n_validation=200, n_test=400)
    train, validation = labeled(many.probe_train)[0], labeled(many.probe_validation)[0]
    encoder = untrained()
    before = copy.deepcopy(encoder.state_dict())
    probe = frozen_probe(encoder, train, validation, CPU)
    assert probe is not None
    model = Classifier(encoder, probe)
    frozen = classification_accuracy(model, many.test, CPU).top1
    assert fine_tune(tuning(fine_tune_steps=300), model, train, validation, CPU) > 0
    assert (
        classification_accuracy(model, many.test, CPU).top1 > frozen + 0.05
    )  # of 0.135 when this was written, to 0.215
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_labels_that_say_nothing_of_the_images_teach_nothing() -> None:
    table, labels = labeled(TRAIN)
    shuffled = dataclasses.replace(table, labels=np.random.default_rng(0).permutation(labels))
    model = classifier(shuffled)
    fine_tune(tuning(), model, shuffled, VALIDATION, CPU)
    # 5 standard errors of guessing on 200 images, and what choosing among eleven looks can add
    bound = 1 / N_CLASSES + 5 * math.sqrt((1 - 1 / N_CLASSES) / N_CLASSES / len(TEST))
    assert classification_accuracy(model, TEST, CPU).top1 < bound


def test_what_only_gets_worse_by_training_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(few_labels, "LR", 100.0)
    model = classifier()
    before = copy.deepcopy(model.state_dict())
    assert fine_tune(tuning(fine_tune_steps=20), model, TRAIN, VALIDATION, CPU) == 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_dropout_of_a_fine_tuned_encoder_draws_what_the_seed_of_its_trial_determines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, better = classifier(), itertools.count()
    model.encoder.blocks.append(nn.Dropout(0.5))
    monkeypatch.setattr(few_labels, "classification_accuracy", lambda *_: Accuracy(top1=next(better)))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        tuned = copy.deepcopy(model)
        fine_tune(tuning(fine_tune_steps=20), tuned, TRAIN, VALIDATION, CPU)
        found.append(tuned.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


@pytest.mark.parametrize(("largest", "expected"), [(0.9, 2), (0.0, 0)])
def test_the_step_is_chosen_by_balanced_accuracy_where_classes_are_imbalanced(
    largest: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(len(VALIDATION)) % N_CLASSES
    labels[: round(largest * len(labels))] = 0
    seen = iter([Accuracy(top1=0.9, balanced_accuracy=0.5), *[Accuracy(top1=0.8, balanced_accuracy=0.7)] * 10])
    monkeypatch.setattr(few_labels, "classification_accuracy", lambda *_: next(seen))
    validation = dataclasses.replace(VALIDATION, labels=labels)
    assert fine_tune(tuning(fine_tune_steps=20), classifier(), TRAIN, validation, CPU) == expected


def test_the_same_trial_gives_the_same_to_the_bit_and_another_seed_other_labels() -> None:
    def results(**changes: Any) -> dict[str, float]:
        asked = tuning(labels_per_class=(3, None), fine_tune_steps=10, probe_datasets=("shapes",), **changes)
        found = evaluate(asked, untrained(), {"shapes": with_unreadable_test(DATA)}, CPU)
        return {name: value for name, value in found.items() if "_labels" in name}

    first = results()
    ways = [f"{way}/{n}_labels" for n in (3, "all") for way in ("linear", "fine_tuned")]
    steps = [f"{way}_step" for way in ways if way.startswith("fine")]
    averages = [f"{way}_{average}" for way in ways for average in ("balanced_accuracy", "macro_f1")]
    assert first.keys() == {f"probe/shapes/{name}" for name in (*ways, *steps, *averages)}
    assert results() == first
    other = results(seed=4)
    assert other["probe/shapes/linear/3_labels"] != first["probe/shapes/linear/3_labels"]
    assert other["probe/shapes/linear/all_labels"] == first["probe/shapes/linear/all_labels"]


def test_all_labels_and_frozen_features_are_the_usual_linear_probe() -> None:
    asked = tuning(labels_per_class=(None,), fine_tune_steps=1, probe_datasets=("shapes",), probe_split="test")
    found = evaluate(asked, untrained(), {"shapes": DATA}, CPU)
    assert found["probe/shapes/linear/all_labels"] == pytest.approx(found["probe/shapes/linear"])


def test_raw_pixels_are_probed_and_features_that_are_not_finite_have_no_accuracy() -> None:
    asked = tuning(labels_per_class=(3,), probe_datasets=("shapes",))
    pixels = evaluate(asked.replace(task=RAW_PIXELS), None, {"shapes": DATA}, CPU)
    ends = ("", "_balanced_accuracy", "_macro_f1")
    assert [name for name in pixels if "3_labels" in name] == [f"probe/shapes/linear/3_labels{end}" for end in ends]
    broken = untrained()
    torch.nn.init.constant_(broken.blocks[0][0].weight, math.nan)
    found = evaluate(asked, broken, {"shapes": DATA}, CPU)
    assert math.isnan(found["probe/shapes/linear/3_labels"])
    assert math.isnan(found["probe/shapes/fine_tuned/3_labels"])
