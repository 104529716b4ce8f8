"""Accuracies of class scores against scikit-learn, and on a real folder of imbalanced classes."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score
from torch import Tensor

from tests.trainables.imbalanced_images import N_TEST, SHARE, imbalanced_splits
from tests.trainables.tiny import trial
from trainables.data import Splits
from trainables.encoders import build_encoder
from trainables.objective import is_imbalanced
from trainables.per_image import unpack
from trainables.probes.accuracy import Accuracy, largest_class, selection_measure, top_accuracy
from trainables.probes.evaluation import evaluate
from trainables.probes.knn import knn_probe
from trainables.probes.linear import linear_probe
from trainables.training import loop
from trainables.training.loop import Report
from trainables.trial import ONLINE_SCORES, RAW_PIXELS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return imbalanced_splits(tmp_path_factory.mktemp("images"))


def constant_scores(n: int, n_classes: int, label: int) -> Tensor:
    """Return the scores of a predictor that gives every image the same class."""
    return torch.eye(n_classes)[label].expand(n, -1)


@pytest.mark.parametrize("n_classes", [2, 5, 30])
@pytest.mark.parametrize("n", [3, 40, 500])
def test_averages_over_classes_are_those_of_scikit_learn(n: int, n_classes: int) -> None:
    rng = np.random.default_rng(n + n_classes)
    for _ in range(20):
        shares = rng.dirichlet(np.full(n_classes, 0.5))  # few images in many classes, none in some
        labels = rng.choice(n_classes, n, p=shares)
        scores = torch.from_numpy(rng.normal(size=(n, n_classes))) + 1.5 * torch.eye(n_classes)[labels]
        predicted = scores.argmax(dim=1).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scikit-learn, about classes that only predictions have
            expected = balanced_accuracy_score(labels, predicted), f1_score(labels, predicted, average="macro")
        found = top_accuracy(scores, torch.from_numpy(labels))
        assert (found.balanced_accuracy, found.macro_f1) == pytest.approx(expected)


def test_averages_equal_the_accuracy_of_classes_that_are_equally_large_and_equally_hard() -> None:
    labels = torch.arange(40) % 4
    predicted = torch.where(torch.arange(40) < 8, (labels + 1) % 4, labels)  # two errors per class, one into each
    found = top_accuracy(torch.eye(4)[predicted], labels)
    assert (found.top1, found.balanced_accuracy) == (pytest.approx(0.8), pytest.approx(0.8))
    assert found.macro_f1 == pytest.approx(0.8)


def test_scores_that_are_not_finite_have_no_accuracy_at_all() -> None:
    found = top_accuracy(torch.full((3, 2), math.nan), torch.zeros(3, dtype=torch.int64))
    assert all(map(math.isnan, (found.top1, found.top5, found.balanced_accuracy, found.macro_f1)))
    assert Accuracy().correct is None


def test_predicting_the_largest_class_has_its_share_as_accuracy_and_chance_as_balanced_accuracy(splits: Splits) -> None:
    for table in (splits.probe_validation, splits.test):
        assert table is not None
        assert table.labels is not None
        labels = torch.from_numpy(table.labels)
        found = top_accuracy(constant_scores(len(labels), 2, 0), labels)
        assert found.top1 == pytest.approx(largest_class(table.labels)) == pytest.approx(SHARE)
        assert found.balanced_accuracy == 0.5
        assert found.macro_f1 == pytest.approx(2 * SHARE / (1 + SHARE) / 2)


def test_both_probes_of_features_without_information_predict_the_largest_class(splits: Splits) -> None:
    tables = (splits.probe_train, splits.probe_validation, splits.test)
    same = [(torch.ones(len(table), 3), torch.from_numpy(table.labels)) for table in tables if table is not None]
    linear = linear_probe(*same[0], *same[1], *same[2], n_classes=2).test
    assert linear is not None
    for found in (linear, knn_probe(*same[0], *same[2], n_classes=2).accuracy):
        assert (found.top1, found.balanced_accuracy) == (pytest.approx(SHARE), 0.5)


@pytest.mark.parametrize(
    ("share", "n_classes", "expected"),
    [
        (0.9, 2, True),  # 9 : 1
        (0.75, 2, True),  # 3 : 1
        (0.74, 2, False),
        (0.5, 2, False),
        (0.25, 10, True),  # 3 times the 0.083 of the others
        (0.196, 10, False),  # SVHN
        (0.1, 10, False),
        (0.0387, 102, True),  # Flowers-102
        (1.0, 1, False),
        (math.nan, 10, False),
    ],
)
def test_classes_are_imbalanced_if_the_largest_is_three_times_the_mean_of_the_others(
    share: float, n_classes: int, expected: bool
) -> None:
    assert is_imbalanced(share, n_classes) is expected


def test_images_of_equal_classes_are_rarely_called_imbalanced() -> None:
    draws = np.random.default_rng(0).multinomial(50, [0.1] * 10, size=10_000).max(axis=1) / 50
    assert np.mean([is_imbalanced(share, 10) for share in draws]) < 0.02


def weak_signal(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return 64 features for classes with 90% and 10% of the images; only the first feature is informative, weakly."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) % 10 == 0).long()
    features = torch.randn(n, 64, generator=generator)
    features[:, 0] += 1.5 * labels
    return features, labels


def test_a_probe_of_imbalanced_classes_is_selected_by_balanced_accuracy() -> None:
    for seed in range(5):
        found = linear_probe(*weak_signal(300, seed), *weak_signal(2000, seed + 100), n_classes=2)
        assert found.validation.balanced_accuracy > 0.55, "always predicting the larger class has 0.5"
    balanced = torch.arange(100) % 10
    assert selection_measure(balanced, n_classes=10) == "top1"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_evaluation_names_the_levels_of_its_own_split(splits: Splits, split: str) -> None:
    asked = trial(probe_datasets=(splits.name,), probe_split=split, labels_per_class=(3,), fine_tune_steps=2)
    encoder = build_encoder("conv4", width=4, image_size=16)
    found = evaluate(asked, encoder, {splits.name: splits}, CPU)
    own = {name.removeprefix(f"probe/{splits.name}/"): value for name, value in found.results.items()}
    table = splits.test if split == "test" else splits.probe_validation
    assert table is not None
    assert table.labels is not None
    assert own["chance"] == 0.5
    assert own["largest_class"] == np.bincount(table.labels).max() / len(table)
    for probe in ("linear", "knn", "linear/3_labels", "fine_tuned/3_labels"):
        correct = unpack(found.per_image[f"probe/{splits.name}/{probe}"])
        recalls = [correct[table.labels == label].mean() for label in (0, 1)]
        assert own[f"{probe}_balanced_accuracy"] == pytest.approx(np.mean(recalls))
        assert own[probe] == pytest.approx(correct.mean())


def test_every_report_has_the_averages_and_the_facts_have_the_share_of_the_largest_class(splits: Splits) -> None:
    reports: list[Report] = []
    small: dict[str, Any] = {"budget_steps": 2, "batch_size": 8, "dataset": splits.name}
    loop.fit(trial("rotation", **small), splits, reports.append)
    assert len(reports) == 2
    for report in reports:
        assert set(ONLINE_SCORES) <= report.metrics.keys()
        assert report.facts["largest_class"] == pytest.approx(SHARE)
        assert report.metrics["probe/linear_balanced_accuracy"] <= report.metrics["probe/linear"] + 0.05
    pixels = evaluate(trial(RAW_PIXELS, probe_datasets=(splits.name,)), None, {splits.name: splits}, CPU)
    assert len(splits.test) == N_TEST
    assert f"probe/{splits.name}/knn_macro_f1" in pixels.results
