"""By how much near duplicates in the training images flatter a probe, on real images.

python tests/benchmarks/leak_flattery.py --data-root DIR

docs/studies.md has the result. Probes are fitted twice and scored on the same test images: once with near copies of
test images among the training images, once with other images of the same classes in their places. For CIFAR-10 the
copies are planted (each shifted by 1 px and 10% brighter), for Fashion-MNIST they are its own look-alikes. Intervals
are over test images, of differences paired by image.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from search_spaces import SPECS
from trainables.data import ImageTable, Splits, load_splits
from trainables.data.near_duplicates import near_duplicates
from trainables.encoders import Encoder, build_encoder, calibration_images, recalibrated
from trainables.probes.features import labeled_features
from trainables.probes.knn import knn_probe
from trainables.probes.linear import linear_probe
from trainables.training.loop import fit
from trainables.trial import TrialConfig

CPU = torch.device("cpu")
N_TRAIN, N_VALIDATION = 2000, 500
SHARES = (0.1, 0.5)  # of the test images that have a planted copy
STEPS = 100


def planted(train: ImageTable, test: ImageTable, rows: np.ndarray) -> ImageTable:
    """Return the training images with copies of test images in the place of images of the same class."""
    assert train.labels is not None
    assert test.labels is not None
    images, free = train.images.copy(), np.ones(len(train), bool)
    for row in rows:
        place = np.flatnonzero(free & (train.labels == test.labels[row]))[0]
        shifted = np.roll(test.images[row], 1, axis=2) * 1.1
        images[place], free[place] = np.rint(shifted).clip(0, 255), False
    return dataclasses.replace(train, images=images)


def without(train: ImageTable, spare: ImageTable, leaked: np.ndarray) -> ImageTable:
    """Return the training images with other images of the same class in the place of those at the rows `leaked`."""
    assert train.labels is not None
    assert spare.labels is not None
    images, free = train.images.copy(), np.ones(len(spare), bool)
    for row in leaked:
        place = np.flatnonzero(free & (spare.labels == train.labels[row]))[0]
        images[row], free[place] = spare.images[place], False
    return dataclasses.replace(train, images=images)


def probes(encoder: Encoder, train: ImageTable, splits: Splits) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each probe and whether it classifies each test image correctly, float64 [N]."""
    assert splits.probe_validation is not None
    held_out = splits.probe_validation.take(np.arange(N_VALIDATION))
    features = [labeled_features(encoder, table, CPU) for table in (train, held_out, splits.test)]
    linear = linear_probe(*features[0], *features[1], *features[2], n_classes=train.n_classes).test
    knn = knn_probe(*features[0], *features[2], n_classes=train.n_classes).accuracy
    for name, found in (("linear", linear), ("knn", knn)):
        assert found is not None
        assert found.correct is not None
        yield name, found.correct.double().numpy()


def encoders(splits: Splits, name: str) -> dict[str, Encoder]:
    """Return an untrained encoder and one that SimCLR has trained."""
    fields = {**SPECS["simclr"].defaults, "batch_size": 64, "lr": 4e-3}
    trial = TrialConfig(phase="search", task="simclr", dataset=name, width=16, **fields)
    trial = trial.replace(budget_steps=STEPS, report_every=STEPS)
    untrained = build_encoder(trial.encoder, width=16, image_size=splits.test.image_size, in_channels=3, seed=0)
    images = calibration_images(splits, CPU)
    trained = fit(trial, splits, lambda report: None)
    return {"untrained": recalibrated(untrained, images), "SimCLR": recalibrated(trained, images)}


def compare(name: str, splits: Splits, tables: dict[str, tuple[ImageTable, ImageTable, np.ndarray]]) -> None:
    """Print, for each pair of training tables with and without copies, the accuracies and their difference.

    Args:
        name: Name of the data set.
        splits: Its splits.
        tables: By what they are: the table with copies, the one without, and which test images have a copy, bool [N].
    """
    for encoder_name, encoder in encoders(splits, name).items():
        for what, (leaky, clean, mask) in tables.items():
            pairs = zip(probes(encoder, leaky, splits), probes(encoder, clean, splits), strict=True)
            for (probe, flattered), (_, honest) in pairs:
                gain = flattered - honest
                ends = gain.mean() + np.array([-1.96, 1.96]) * gain.std(ddof=1) / len(gain) ** 0.5
                print(
                    f"{name} | {what} ({mask.sum()} of {len(mask)}) | {encoder_name} | {probe} | "
                    f"with {flattered.mean():.3f} | without {honest.mean():.3f} | {gain.mean():+.3f} "
                    f"[{ends[0]:.3f}, {ends[1]:.3f}] | on those with a copy {gain[mask].mean():+.3f} | "
                    f"the report's estimate {flattered.mean() - flattered[~mask].mean():+.3f}",
                    flush=True,
                )


def main() -> None:
    """Print the comparison for planted copies in CIFAR-10 and the look-alikes of Fashion-MNIST."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    root = parser.parse_args().data_root
    torch.set_num_threads(1)

    splits = load_splits("cifar10", root=root, leak="move")
    assert splits.probe_train is not None
    train, order = splits.probe_train.take(np.arange(N_TRAIN)), np.random.default_rng(0).permutation(len(splits.test))
    tables = {}
    for share in SHARES:
        rows = order[: round(share * len(order))]
        tables[f"planted {share:.0%}"] = planted(train, splits.test, rows), train, np.isin(np.arange(len(order)), rows)
    compare("CIFAR-10", splits, tables)

    splits = load_splits("fashion_mnist", root=root, leak="allow")
    assert splits.probe_train is not None
    pairs = near_duplicates(splits.probe_train.images, splits.test.images)
    clean = np.setdiff1d(np.arange(len(splits.probe_train)), pairs[:, 0])
    leaked, spare = np.unique(pairs[:, 0]), splits.probe_train.take(clean[N_TRAIN:])
    leaky = splits.probe_train.take(np.concatenate([leaked, clean[: N_TRAIN - len(leaked)]]))
    honest = without(leaky, spare, np.arange(len(leaked)))
    mask = np.isin(np.arange(len(splits.test)), pairs[:, 1])
    compare("Fashion-MNIST", splits, {"its look-alikes": (leaky, honest, mask)})


if __name__ == "__main__":
    main()
