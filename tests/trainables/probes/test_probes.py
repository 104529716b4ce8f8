"""Probes on features whose right answer is known from elsewhere."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import binom
from torch import Tensor, nn

from trainables.probes.features import extract_features, raw_pixels
from trainables.probes.knn import knn_probe
from trainables.probes.linear import PATIENCE, WEIGHT_DECAYS, linear_probe, logistic_regression

CLASSES = 4


def clusters(n: int, *, spread: float = 1.0, dim: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features of Gaussian classes whose centers are the same for every seed, and their labels."""
    centers = torch.randn(CLASSES, dim, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return centers[labels] + spread * torch.randn(n, dim, generator=generator), labels


def noise(n: int, dim: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features that know nothing of their labels."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


# --- the linear probe --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("correlated", [False, True])
def test_logistic_regression_finds_the_minimum_that_scipy_finds(weight_decay: float, correlated: bool) -> None:
    x, y = clusters(300)
    if correlated:  # scales from 1e-3 to 1, as neighboring pixels have
        x = x @ torch.diag(torch.logspace(-3, 0, 8)) @ torch.linalg.qr(torch.randn(8, 8, generator=_seeded(3)))[0]
    x = x - x.mean(dim=0)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = parameters[:-CLASSES].reshape(CLASSES, -1), parameters[-CLASSES:]
        log_p = log_softmax(x.numpy() @ weight.T + bias, axis=1)
        residual = (np.exp(log_p) - np.eye(CLASSES)[y]) / len(y)
        loss = -log_p[np.arange(len(y)), y].mean() + 0.5 * weight_decay * (weight**2).sum()
        slope = residual.T @ x.numpy() + weight_decay * weight
        return loss, np.concatenate([slope.ravel(), residual.sum(axis=0)])

    n_parameters = CLASSES * (x.shape[1] + 1)
    reference = minimize(objective, np.zeros(n_parameters), jac=True, options={"gtol": 1e-9, "maxiter": 10_000})
    start = torch.zeros(CLASSES, 8), torch.zeros(CLASSES)
    weight, bias = logistic_regression(x, y, weight_decay, start, x.t() @ x / len(x))
    ours = np.concatenate([weight.numpy().ravel(), bias.numpy()]).astype(float)
    assert objective(ours)[0] == pytest.approx(reference.fun, rel=1e-5)
    probability, expected = (_probabilities(x.numpy(), parameters) for parameters in (ours, reference.x))
    np.testing.assert_allclose(probability, expected, atol=5e-3)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _probabilities(x: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(x @ parameters[:-CLASSES].reshape(CLASSES, -1).T + parameters[-CLASSES:], axis=1))


def test_the_linear_probe_reaches_the_bayes_rate_on_gaussian_classes() -> None:
    train, validation, test = clusters(2000), clusters(500, seed=1), clusters(2000, seed=2)
    result = linear_probe(*train, *validation, *test, n_classes=CLASSES)
    centers = torch.randn(CLASSES, 8, generator=_seeded(99))
    bayes = (torch.cdist(test[0], centers).argmin(dim=1) == test[1]).float().mean().item()
    assert result.test is not None
    assert result.test.top1 == pytest.approx(bayes, abs=0.02)
    assert result.test.top5 == 1.0  # with four classes the first five guesses hold them all


def test_the_linear_probe_ignores_shift_and_scale_of_the_features() -> None:
    splits = clusters(400), clusters(400, seed=1), clusters(400, seed=2)
    scale, shift = torch.logspace(-3, 3, 8), torch.linspace(-50, 50, 8)
    plain = linear_probe(*(part for split in splits for part in split), n_classes=CLASSES)
    moved = linear_probe(*(part for x, y in splits for part in (x * scale + shift, y)), n_classes=CLASSES)
    assert moved.weight_decay == plain.weight_decay
    assert moved.validation.top1 == pytest.approx(plain.validation.top1, abs=0.011)
    assert moved.test is not None
    assert plain.test is not None
    assert moved.test.top1 == pytest.approx(plain.test.top1, abs=0.011)


def test_weight_decay_is_strong_for_few_noisy_features_and_weak_for_many_clear_ones() -> None:
    noisy = linear_probe(*clusters(60, spread=3, dim=64), *clusters(1000, spread=3, dim=64, seed=1), n_classes=CLASSES)
    clear = linear_probe(*ring(4000), *ring(1000, seed=1), n_classes=2)
    assert noisy.weight_decay >= 0.1
    assert noisy.train.top1 > noisy.validation.top1 + 0.05
    assert clear.weight_decay < noisy.weight_decay
    assert noisy.weight_decay in WEIGHT_DECAYS


def ring(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two classes told apart by the small difference of two large, correlated features."""
    generator = _seeded(seed)
    base, labels = torch.randn(n, generator=generator), torch.randint(2, (n,), generator=generator)
    return torch.stack([base, base + 0.02 * (2 * labels - 1)], dim=1), labels


def test_test_samples_have_no_say_in_the_choice_of_weight_decay() -> None:
    train, validation = clusters(200), clusters(200, seed=1)
    without = linear_probe(*train, *validation, n_classes=CLASSES)
    with_test = linear_probe(*train, *validation, *noise(50, seed=5), n_classes=CLASSES)
    assert without.test is None
    assert (with_test.weight_decay, with_test.train, with_test.validation) == (
        without.weight_decay,
        without.train,
        without.validation,
    )


def test_the_linear_probe_is_deterministic() -> None:
    splits = (*clusters(300), *clusters(100, seed=1), *clusters(100, seed=2))
    assert linear_probe(*splits, n_classes=CLASSES) == linear_probe(*splits, n_classes=CLASSES)


def test_shuffled_labels_stay_at_chance_under_both_probes() -> None:
    n = 4000
    (x, y), (vx, vy), (tx, ty) = noise(500), noise(500, seed=1), noise(n, seed=2)
    result = linear_probe(x, y, vx, vy, tx, ty, n_classes=CLASSES)
    assert result.test is not None
    low, high = (edge / n for edge in binom.interval(0.9999, n, 1 / CLASSES))
    assert low <= result.test.top1 <= high
    assert low <= knn_probe(x, y, tx, ty, CLASSES).accuracy.top1 <= high


def test_collapsed_features_predict_the_majority_class() -> None:
    labels = torch.tensor([0] * 30 + [2] * 70)
    constant = torch.full((100, 5), 0.1) + 1e-9 * torch.randn(100, 5, generator=_seeded(0))
    result = linear_probe(constant, labels, constant, labels, constant, labels, n_classes=CLASSES)
    assert result.train.top1 == pytest.approx(0.7)
    assert result.test is not None
    assert result.test.top1 == pytest.approx(0.7)


def test_dead_dimensions_change_nothing() -> None:
    (x, y), (vx, vy) = clusters(300), clusters(300, seed=1)
    dead, spike = torch.zeros(300, 3), torch.full((300, 3), 7.0)  # dead in training, alive at validation
    assert linear_probe(torch.cat([x, dead], 1), y, torch.cat([vx, spike], 1), vy, n_classes=CLASSES) == linear_probe(
        x, y, vx, vy, n_classes=CLASSES
    )


def test_features_of_a_diverged_encoder_give_nan() -> None:
    (x, y), (vx, vy) = clusters(50), clusters(50, seed=1)
    x[3, 2] = math.nan
    result = linear_probe(x, y, vx, vy, vx, vy, n_classes=CLASSES)
    assert result.test is not None
    assert all(map(math.isnan, (result.train.top1, result.validation.top1, result.test.top1, result.weight_decay)))
    assert math.isnan(knn_probe(x, y, vx, vy, CLASSES).accuracy.top1)
    assert math.isnan(knn_probe(vx, vy, x, y, CLASSES).accuracy.top1)


def test_features_beyond_the_dimension_of_the_data_are_no_problem() -> None:
    result = linear_probe(*clusters(20, dim=200), *clusters(50, dim=200, seed=1), n_classes=CLASSES)
    assert result.train.top1 == 1.0


def test_the_search_for_a_weight_decay_stops_when_weaker_ones_only_overfit(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def spy(x: Tensor, y: Tensor, weight_decay: float, *rest: object, **limits: int) -> tuple[Tensor, Tensor]:
        tried.append(weight_decay)
        return logistic_regression(x, y, weight_decay, *rest, **limits)  # type: ignore[arg-type]

    monkeypatch.setattr("trainables.probes.linear.logistic_regression", spy)
    result = linear_probe(*clusters(60, spread=3, dim=64), *clusters(1000, spread=3, dim=64, seed=1), n_classes=CLASSES)
    assert tried == list(WEIGHT_DECAYS[: WEIGHT_DECAYS.index(result.weight_decay) + 1 + PATIENCE])


def test_probes_without_samples_are_refused() -> None:
    x, y = clusters(10)
    with pytest.raises(ValueError, match="0 to train"):
        linear_probe(x[:0], y[:0], x, y, n_classes=CLASSES)
    with pytest.raises(ValueError, match="0 in the bank"):
        knn_probe(x[:0], y[:0], x, y, CLASSES)
    with pytest.raises(ValueError, match="features and labels"):
        linear_probe(x, y, x, y, x, None, n_classes=CLASSES)


# --- the kNN probe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 5, 17])
def test_knn_agrees_with_a_naive_loop(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.probes.knn._CHUNK_VALUES", 300 * 7)  # chunks of seven queries
    n_classes, temperature = 9, 0.1
    generator = _seeded(1)
    bank, query = torch.randn(300, 6, generator=generator), torch.randn(60, 6, generator=generator)
    bank_y, query_y = (torch.randint(n_classes, (n,), generator=generator) for n in (300, 60))
    top1 = top5 = 0
    for features, label in zip(query.double().numpy(), query_y.tolist(), strict=True):
        votes = np.zeros(n_classes)
        other = bank.double().numpy()
        cosine = other @ features / np.linalg.norm(other, axis=1) / np.linalg.norm(features)
        for i in np.argsort(-cosine)[:k]:
            votes[bank_y[i]] += np.exp(cosine[i] / temperature)
        ranking = np.argsort(-votes, kind="stable")
        top1 += ranking[0] == label
        top5 += label in ranking[:5] and votes[label] > 0
    result = knn_probe(bank, bank_y, query, query_y, n_classes, k=k, temperature=temperature)
    assert result.k == k
    assert result.accuracy.top1 == pytest.approx(top1 / 60)
    if k >= 17:  # with fewer neighbors than classes the last of five guesses are arbitrary
        assert result.accuracy.top5 == pytest.approx(top5 / 60, abs=1 / 60)


def test_knn_depends_on_direction_alone() -> None:
    (x, y), (qx, qy) = clusters(300), clusters(100, seed=1)
    scaled = x * torch.rand(300, 1, generator=_seeded(0)).add(0.5)
    assert knn_probe(scaled, y, 3 * qx, qy, CLASSES) == knn_probe(x, y, qx, qy, CLASSES)


@pytest.mark.parametrize(("size", "k"), [(50_000, 200), (400, 20), (3, 1)])
def test_a_small_bank_gives_fewer_neighbors(size: int, k: int) -> None:
    x, y = clusters(size, dim=2)
    assert knn_probe(x, y, x[:2], y[:2], CLASSES).k == k


# --- features ----------------------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """Mean color behind a BatchNorm and a dropout, which betray training mode; records what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return self.drop(self.norm(images)).mean(dim=(2, 3))


def test_features_come_in_order_from_unit_range_images_without_touching_the_encoder() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), dtype=np.uint8)
    encoder = Pooled()
    encoder.norm.eval()  # a frozen part must stay frozen
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.flags.writeable = False  # as arrays from Ray's object store are
        features = extract_features(encoder, images, batch_size=4, device="cpu")
    expected = torch.from_numpy(images.astype(np.float32) / 255).mean(dim=(2, 3)) / math.sqrt(1 + encoder.norm.eps)
    torch.testing.assert_close(features, expected)
    assert [len(batch) for batch in encoder.seen] == [4, 4, 2]
    assert all(batch.dtype == torch.float32 and batch.max() <= 1 for batch in encoder.seen)
    assert not features.requires_grad
    assert encoder.training
    assert encoder.drop.training
    assert not encoder.norm.training
    assert encoder.norm.num_batches_tracked == 0
    torch.testing.assert_close(extract_features(encoder, torch.tensor(images), device="cpu"), features)


def test_the_training_mode_comes_back_after_an_error() -> None:
    encoder = Pooled()
    with pytest.raises(RuntimeError):
        extract_features(encoder, torch.zeros(2, 5, 4, 4, dtype=torch.uint8), device="cpu")
    assert encoder.training


def test_raw_pixels_are_the_pixels_and_large_images_are_averaged_to_32() -> None:
    small = torch.randint(0, 256, (3, 3, 28, 28), dtype=torch.uint8, generator=_seeded(0))
    assert torch.equal(raw_pixels(small, batch_size=2), small.flatten(1) / 255)
    large = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8, generator=_seeded(0))
    blocks = large.float().view(2, 3, 32, 4, 32, 4).mean(dim=(3, 5)).flatten(1) / 255
    torch.testing.assert_close(raw_pixels(large), blocks)


def test_probes_on_the_pixels_of_real_photographs_are_well_above_chance(data_root) -> None:
    def read(split: str, first: int, last: int) -> tuple[Tensor, Tensor]:
        folders = sorted((data_root / "cifar10" / split).iterdir())
        files = [(path, label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())[first:last]]
        images = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1)[:, ::2, ::2] for path, _ in files])
        return raw_pixels(images), torch.tensor([label for _, label in files])

    train, validation, test = read("train", 0, 60), read("train", 60, 80), read("test", 0, 40)
    result = linear_probe(*train, *validation, *test, n_classes=10)
    assert result.test is not None
    assert 0.2 < result.test.top1 < 0.45
    assert result.test.top5 > 0.65
    assert 0.15 < knn_probe(*train, *test, n_classes=10).accuracy.top1 < 0.45
