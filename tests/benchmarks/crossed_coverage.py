"""Coverage of the 95 % interval of `analysis.stats.crossed` on simulated encoders.

python tests/benchmarks/crossed_coverage.py [--simulations 4000] [--measure accuracy|miou]

Each cell of the table has the coverage of the interval over seeds and images and, in parentheses, that of the t interval
over seeds alone. Correct answers are a threshold on the sum of an arm's level, a seed's and an image's effect, each
partly shared by both arms, and noise. The truth is the difference between the two arms over all seeds and images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from analysis.stats import paired
from analysis.stats.crossed import crossed_mean

N_SEEDS, N_IMAGES = (3, 5, 10), (40, 200, 2000)
ACCURACIES = ((0.60, 0.55), (0.80, 0.80), (0.92, 0.88))
BATCH_VALUES = 2 * 10**6


@dataclass(frozen=True)
class Source:
    """Standard deviations of the effects on an answer's score.

    Attributes:
        seeds: Of the seeds' effects, half of whose variance both arms share.
        images: Of the images' effects, of whose variance both arms share 70 %.
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
    n_simulations = parser.parse_args().simulations
    print(f"{'accuracies':12} {'source':18}", *(f"S={s:<2} N={n:<6}" for s in N_SEEDS for n in N_IMAGES))
    for accuracies in ACCURACIES:
        for name, source in SOURCES.items():
            cells = [
                coverage(answers(source, accuracies), s, n, n_simulations if n < 2000 else n_simulations // 4)
                for s in N_SEEDS
                for n in N_IMAGES
            ]
            row = [f"{both:.3f} ({alone:.2f})" for both, alone in cells]
            print(f"{accuracies[0]:.2f}, {accuracies[1]:.2f}   {name:18}", *row, flush=True)


if __name__ == "__main__":
    main()
