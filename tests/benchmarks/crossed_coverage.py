"""Coverage of the 95% interval of `analysis.stats.crossed` on simulated encoders.

python tests/benchmarks/crossed_coverage.py [--simulations 4000] [--measure accuracy|miou]

Each cell of the table has the coverage of the interval over seeds and images and, in parentheses, that of the t
interval over seeds alone. An arm's score of an image is the sum of its level, a seed's and an image's effect, each
partly shared by both arms, and noise. An answer is correct if the score is positive, and the overlap of a class is a
sigmoid of the score as a share of its area. The truth is the difference between the arms over all seeds and images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from analysis.stats import paired
from analysis.stats.crossed import crossed_mean
from analysis.stats.influence import mean_iou_images

N_SEEDS, N_IMAGES = (3, 5, 10), (40, 200, 2000)
ACCURACIES = ((0.60, 0.55), (0.80, 0.80), (0.92, 0.88))
BATCH_VALUES = 2 * 10**6
CLASS_SHARES = (1.0, 0.35, 0.35, 0.35, 0.35)  # share of the images that have each class of the masks
LEVELS = (0.2, -0.1)  # mean scores of the two arms of mIoU


@dataclass(frozen=True)
class Source:
    """Standard deviations of the effects on an answer's score.

    Attributes:
        seeds: Of the seeds' effects, half of whose variance both arms share.
        images: Of the images' effects, of whose variance both arms share 70%.
        noise: Of the noise of each seed, arm and image.
    """

    seeds: float
    images: float
    noise: float

    @property
    def total(self) -> float:
        """Standard deviation of a score."""
        return float(np.sqrt(self.seeds**2 + self.images**2 + self.noise**2))


SOURCES = {
    "seeds": Source(0.6, 0.0, 1.0),
    "images": Source(0.0, 2.0, 0.3),
    "both": Source(0.35, 1.5, 0.8),
    "both, seeds small": Source(0.1, 1.5, 0.8),
}
SMALL_SOURCES = {  # of the overlaps, whose scores have no threshold
    "seeds": Source(0.3, 0.0, 0.5),
    "images": Source(0.0, 1.0, 0.2),
    "both": Source(0.2, 1.0, 0.4),
}
Draw = Callable[[np.random.Generator, int, int, int], tuple[np.ndarray, np.ndarray, float]]


def answers(source: Source, accuracies: tuple[float, float]) -> Draw:
    """Return a function that draws differences of correct answers between two arms.

    It takes a generator and the numbers of simulations R, seeds S and images N, and returns the differences of the
    seeds, float64 [R, S], of the images, float32 [R, S, N], and their true mean.
    """

    def draw(rng: np.random.Generator, r: int, s: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
        shared = score(rng, (r, s, n), source.seeds * 0.5**0.5, source.images * 0.7**0.5, 0.0)
        arms = []
        for accuracy in accuracies:
            own = score(rng, (r, s, n), source.seeds * 0.5**0.5, source.images * 0.3**0.5, source.noise)
            arms.append(shared + own > -norm.ppf(accuracy) * source.total)
        images = arms[0].astype(np.float32) - arms[1].astype(np.float32)
        return images.mean(axis=-1, dtype=np.float64), images, accuracies[0] - accuracies[1]

    return draw


def score(
    rng: np.random.Generator, shape: tuple[int, int, int], seeds: float, images: float, noise: float
) -> np.ndarray:
    """Draw the sum of a seed's effect, an image's and noise, with these standard deviations, float32 [R, S, N]."""
    r, s, n = shape
    parts = ((seeds, (r, s, 1)), (images, (r, 1, n)), (noise, shape))
    drawn = [np.float32(sd) * rng.standard_normal(size, np.float32) for sd, size in parts if sd]
    return sum(drawn, np.zeros((1, 1, 1), np.float32))


def overlaps(source: Source) -> Draw:
    """Return a function that draws differences of mIoU between two arms, like that of `answers`."""
    scores = source.total * np.random.default_rng(0).standard_normal(10**6)
    truth = float(expit(LEVELS[0] + scores).mean() - expit(LEVELS[1] + scores).mean())

    def draw(rng: np.random.Generator, r: int, s: int, n: int) -> tuple[np.ndarray, np.ndarray, float]:
        k = len(CLASS_SHARES)
        areas = rng.lognormal(0, 0.8, (r, 1, n, k)) * (rng.random((r, 1, n, k)) < CLASS_SHARES)
        areas[:, :, 0] += areas.sum(axis=2) == 0  # every class occurs
        seeds, images = rng.standard_normal((r, s, 1, 1)), rng.standard_normal((r, 1, n, k))
        arms = []
        for level in LEVELS:
            own = source.seeds * (seeds + rng.standard_normal(seeds.shape)) * 0.5**0.5
            own = own + source.images * (0.7**0.5 * images + 0.3**0.5 * rng.standard_normal(images.shape))
            shares = expit(level + own + source.noise * rng.standard_normal((r, s, n, k)))
            arms.append(np.stack(np.broadcast_arrays(areas * shares, areas), axis=-2))
        first, second = ((arm.sum(axis=2)[..., 0, :] / arm.sum(axis=2)[..., 1, :]).mean(axis=-1) for arm in arms)
        return first - second, mean_iou_images(arms[0]) - mean_iou_images(arms[1]), truth

    return draw


def coverage(draw: Draw, n_seeds: int, n_images: int, n_simulations: int, confidence: float = 0.95) -> np.ndarray:
    """Return the share of intervals that cover the truth: over seeds and images, and over seeds alone, float64 [2].

    A difference without any variance has no interval and counts as covered if it is the truth.
    """
    rng = np.random.default_rng([n_seeds, n_images])
    covered = []
    for r in batches(n_simulations, n_seeds * n_images):
        differences, images, truth = draw(rng, r, n_seeds, n_images)
        with np.errstate(invalid="ignore"):
            intervals = (crossed_mean(differences, images).interval(confidence), paired.t_interval(differences, 0.95))
        covered.append([(low <= truth) & (truth <= high) for low, high in intervals])
    return np.concatenate(covered, axis=-1).mean(axis=-1)


def batches(n_simulations: int, n_values: int) -> Iterator[int]:
    """Yield numbers of simulations that add up to `n_simulations` and fit into memory."""
    most = max(1, BATCH_VALUES // n_values)
    for start in range(0, n_simulations, most):
        yield min(most, n_simulations - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=4000)
    parser.add_argument("--measure", choices=("accuracy", "miou"), default="accuracy")
    arguments = parser.parse_args()
    if arguments.measure == "miou":
        sizes = [(s, n) for s in N_SEEDS for n in N_IMAGES[:2]]
        rows = {("mIoU", name): overlaps(source) for name, source in SMALL_SOURCES.items()}
    else:
        sizes = [(s, n) for s in N_SEEDS for n in N_IMAGES]
        rows = {(f"{a:.2f}, {b:.2f}", name): answers(SOURCES[name], (a, b)) for a, b in ACCURACIES for name in SOURCES}
    print(f"{'result':12} {'source':18}", *(f"S={s:<2} N={n:<6}" for s, n in sizes))
    for (result, name), draw in rows.items():
        cells = []
        for s, n in sizes:
            both, alone = coverage(draw, s, n, arguments.simulations // (4 if n == max(N_IMAGES) else 1))
            cells.append(f"{both:.3f} ({alone:.2f})")
        print(f"{result:12} {name:18}", *cells, flush=True)


if __name__ == "__main__":
    main()
