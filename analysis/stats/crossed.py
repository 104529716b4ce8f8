"""Mean paired difference over new seeds and new images: its error, interval and tests.

Both encoders of every seed are evaluated on the same images, so the difference d[s, i] of seed s on image i has three
sources of variance: seeds, images, and the rest. The error of the mean is

    variance = seeds / S + images / N + rest / (S N)

with components estimated by moments from the two-way table (Searle, Casella and McCulloch 1992, section 4.5). An
interval over seeds alone holds for these N images: where the choice of images is the only source of variance, it covers
the difference on new images in 30 to 70% of the cases, not 95%.

The critical value is the average of t at S - 1 and at the images' degrees of freedom, weighted by the two variances
(Cochran and Cox 1957, section 4.14), expressed as the degrees of freedom at which t has this quantile. With the degrees
of freedom of Satterthwaite (1946), intervals cover 92% at 3 seeds where 95% are claimed, since a variance estimated
from 2 degrees of freedom is squared. tests/benchmarks/crossed_coverage.py prints the coverage that was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from analysis.stats import paired
from analysis.stats.significance import ALPHA

CROSSED_T: paired.Test = "crossed t"
MAX_SEEDS_NEEDED = 10_000
MIN_CROSSED_SEEDS = 3  # fewer are not tested, and in a family of several comparisons fewer than `paired.MIN_SEEDS`
MIN_SEEDS_WITH_IMAGES = 2  # seeds with per-image results that separate the variance of images from the rest


@dataclass(frozen=True)
class CrossedMean:
    """Mean of paired differences, with its error over new seeds and new images.

    Attributes:
        mean: Mean difference, float64 [...].
        n_seeds: Number of seeds S.
        seeds: Variance between seeds without the rest, float64 [...].
        rest: Variance of one seed's mean due to the interaction of seed and image, rest / N, float64 [...].
        images: Variance of the mean due to the choice of images, images / N, float64 [...].
        df_images: Degrees of freedom of `images`, float64 [...].
    """

    mean: np.ndarray
    n_seeds: int
    seeds: np.ndarray
    rest: np.ndarray
    images: np.ndarray
    df_images: np.ndarray

    @property
    def error(self) -> np.ndarray:
        """Standard error of the mean [...]; NaN without any variance."""
        variance = (self.seeds + self.rest) / self.n_seeds + self.images
        return np.sqrt(np.where(variance > 0, variance, np.nan))

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom [...] at which t has the weighted critical value of a 95% interval."""
        between = self.seeds / self.n_seeds
        with np.errstate(invalid="ignore"):
            weight = np.nan_to_num(between / (between + self.images))
        at_seeds, at_images = (stats.t.isf(ALPHA / 2, df) for df in (self.n_seeds - 1, self.df_images))
        return special.stdtridf(1 - ALPHA / 2, weight * at_seeds + (1 - weight) * at_images)

    def interval(self, confidence: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the interval (low [...], high [...]) of the mean."""
        half = stats.t.ppf((1 + confidence) / 2, self.df) * self.error
        return self.mean - half, self.mean + half

    def p_value(self, null: float = 0.0, alternative: paired.Alternative = "two-sided") -> np.ndarray:
        """Return p-values [...] of the hypothesis that the mean is `null`."""
        t = (self.mean - null) / self.error
        if alternative == "two-sided":
            return 2 * stats.t.sf(np.abs(t), self.df)
        return stats.t.sf(t if alternative == "greater" else -t, self.df)

    def equivalence_p(self, margin: float) -> np.ndarray:
        """Return p-values [...] of two one-sided tests against a mean of `margin` or more (Schuirmann 1987)."""
        return np.maximum(self.p_value(-margin, "greater"), self.p_value(margin, "less"))

    def smallest_detectable(self, alpha: float) -> np.ndarray:
        """Return the mean [...] that a two-sided test at level alpha detects with probability POWER.

        The error is taken as the true one.
        """
        return paired.detectable_noncentrality(float(self.df), alpha) * self.error

    def seeds_needed(self, difference: float, alpha: float) -> int | None:
        """Return how many seeds a test needs to detect a mean on these images with probability POWER.

        Args:
            difference: Mean to detect.
            alpha: Level of the test.

        Returns:
            A number from MIN_SEEDS to MAX_SEEDS_NEEDED. None without any variance, and if no number of seeds is enough
            because the images alone leave the difference open.
        """

        def enough(n_seeds: int) -> bool:
            return bool(replace(self, n_seeds=n_seeds).smallest_detectable(alpha) <= difference)

        if np.isnan(self.error):
            return None
        if not enough(MAX_SEEDS_NEEDED):
            return None if self._detectable_by_images(alpha) > difference else MAX_SEEDS_NEEDED
        low, high = paired.MIN_SEEDS - 1, MAX_SEEDS_NEEDED  # not enough or not allowed, and enough
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def least_images(self, difference: float, alpha: float, n_images: int) -> int:
        """Return the number of images below which no number of seeds detects a mean with probability POWER.

        Args:
            difference: Mean to detect.
            alpha: Level of the test.
            n_images: Number of images that this estimate is made of.
        """
        return math.ceil(n_images * (self._detectable_by_images(alpha) / difference) ** 2)

    def _detectable_by_images(self, alpha: float) -> float:
        """Return the mean that infinitely many seeds detect on these images with probability POWER."""
        return float(paired.detectable_noncentrality(float(self.df_images), alpha) * np.sqrt(self.images))


@dataclass(frozen=True)
class PairedTest:
    """Test of one mean paired difference.

    Attributes:
        differences: Difference of each seed, float64 [S].
        estimate: Their mean, over seeds and images if `n_images` is given.
        test: CROSSED_T over seeds and images, and otherwise what `paired.choose_test` chose.
        n_images: Number of images; None for an estimate over seeds alone.
    """

    differences: np.ndarray
    estimate: CrossedMean
    test: paired.Test
    n_images: int | None

    def p_value(self) -> float:
        """Return the p-value of the hypothesis of no difference."""
        if self.n_images is not None:
            return float(self.estimate.p_value())
        return float(paired.p_value(self.differences, self.test))

    def equivalence_p(self, margin: float) -> float:
        """Return the p-value of two one-sided tests against a mean difference of `margin` or more."""
        if self.n_images is not None:
            return float(self.estimate.equivalence_p(margin))
        return float(paired.equivalence_p(self.differences, margin, self.test))

    def conservative_p(self, crossed: np.ndarray | float, alone: np.ndarray | float) -> float:
        """Return the larger of a p-value over seeds and images and one over seeds alone, for Holm's correction.

        Far below 5%, the weights of few seeds make the first too small: with 5 seeds, up to 2 times at 0.05 / 20. The
        larger of both is at most 1.2 times too small.
        """
        return float(crossed if self.n_images is None else np.fmax(crossed, alone))


def least_seeds(n_seeds: int, images: np.ndarray | None, n_comparisons: int) -> int:
    """Return how many seeds a test needs: fewer for a comparison alone whose seeds all have per-image results.

    At 3 seeds, intervals cover about as often as they claim at 95%, and less often at the levels of Holm's correction:
    with 2,000 images and much variance between seeds, 17% of families of 6 comparisons had a false difference by the
    test over seeds and images alone. A family with one comparison of each task is corrected with the conservative p,
    with which some of four tasks is falsely better than untrained in at most 3.2% of studies (1,000 studies, 200 and
    2,000 images, all variance between seeds or none).

    Args:
        n_seeds: Number of seeds.
        images: Difference of each image at the seeds that have per-image results, [S1, N]; None without them.
        n_comparisons: Number of comparisons of the same task in the family.
    """
    complete = images is not None and len(images) == n_seeds
    return MIN_CROSSED_SEEDS if complete and n_comparisons == 1 else paired.MIN_SEEDS


def paired_test(
    differences: np.ndarray, images: np.ndarray | None, n_comparisons: int, alpha: float = ALPHA
) -> PairedTest:
    """Return the test of a mean paired difference, over seeds and images where that is possible.

    Args:
        differences: Difference of each seed, float64 [S].
        images: Difference of each image, as `crossed_mean` takes them; None if they are not known.
        n_comparisons: Number of comparisons tested in the family.
        alpha: Level of the family.
    """
    if images is not None and not np.isnan((estimate := crossed_mean(differences, images)).error):
        return PairedTest(differences, estimate, CROSSED_T, images.shape[1])
    test = paired.choose_test(len(differences), n_comparisons, alpha)
    return PairedTest(differences, seeds_mean(differences), test, None)


def seeds_mean(differences: np.ndarray) -> CrossedMean:
    """Return the mean of paired differences, float64 [..., S], with its error over new seeds on the same images.

    Its interval and p-value are those of the paired t-test.
    """
    differences = np.asarray(differences, np.float64)
    variance = np.nan_to_num(paired.sd(differences)) ** 2
    none = np.zeros_like(variance)
    return CrossedMean(differences.mean(axis=-1), differences.shape[-1], variance, none, none, none + 1)


def crossed_mean(differences: np.ndarray, images: np.ndarray) -> CrossedMean:
    """Estimate the mean of paired differences and its components of variance.

    Negative components are set to 0. The degrees of freedom of the images are those of a variance estimated from N
    values of their kurtosis (Box 1953, Biometrika 40:318): with few images on which the encoders differ, they are about
    twice the number of these images instead of N - 1.

    Args:
        differences: Difference of each seed, cell minus baseline, float64 [..., S], S >= 2.
        images: Difference of each image at the seeds that have per-image results, float [..., S1, N], S1 from
            MIN_SEEDS_WITH_IMAGES to S. Only their deviations from the mean are used.

    Raises:
        ValueError: There are too few seeds or images.
    """
    n_rows, n_images = images.shape[-2:]
    if differences.shape[-1] < 2 or n_rows < MIN_SEEDS_WITH_IMAGES or n_images < 2:
        raise ValueError(f"{n_rows} seeds x {n_images} images: a crossed mean needs at least 2 of each")
    table = np.asarray(images, np.float64)
    table = table - table.mean(axis=(-2, -1), keepdims=True)
    by_image, by_seed = table.mean(axis=-2), table.mean(axis=-1)
    square = (by_image**2).mean(axis=-1)
    total = (table**2).sum(axis=(-2, -1))
    explained = n_rows * n_images * square + n_images * (by_seed**2).sum(axis=-1)
    rest = np.maximum(total - explained, 0.0) / ((n_rows - 1) * (n_images - 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.nan_to_num((by_image**4).mean(axis=-1) / square**2 - 3)
    return CrossedMean(
        mean=differences.mean(axis=-1),
        n_seeds=differences.shape[-1],
        seeds=np.maximum(seeds_mean(differences).seeds - rest / n_images, 0.0),
        rest=rest / n_images,
        images=np.maximum(square * n_images / (n_images - 1) - rest / n_rows, 0.0) / n_images,
        df_images=2 / (2 / (n_images - 1) + np.maximum(excess, 0.0) / n_images),
    )
