"""Error rates of the report's sentences: how often each appears in simulated studies in which it is false.

python tests/benchmarks/sentence_rates.py [--studies 4000]

The table is the one in docs/statistics.md. Every study has several comparisons of one family. Their true differences
make the sentence false and are as hard to tell from true ones as possible: 0 for "better" and "worse", and exactly the
margin for "equivalent" and "no better". Sentences that only say what is not shown cannot be false. Their second number
is how often they appear where every true difference is twice the margin.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.comparisons import BETTER, EQUIVALENT, INCONCLUSIVE, TOO_FEW, WORSE
from analysis.comparisons.paired_effects import _answer
from analysis.report import sentences
from analysis.report.sentences import Sentence
from analysis.stats import ALPHA, paired
from analysis.stats.binomial import mcnemar_can_reject, mcnemar_p
from analysis.stats.crossed import crossed_mean, least_seeds, seeds_mean

STUDIES = 4000
MARGIN = 0.01
SPREADS = {"seeds": 0.006, "images": 0.06, "noise": 0.08}  # standard deviations of a difference's parts
N_COMPARISONS, N_TASKS, N_TERMS = 6, 4, 7


@dataclass(frozen=True)
class Setup:
    """Seeds and images of a simulated study; without images, intervals are over seeds alone."""

    n_seeds: int
    n_images: int = 0

    @property
    def name(self) -> str:
        """Heading of the column."""
        return f"{self.n_seeds} seeds" + (f", {self.n_images} images" if self.n_images else "")


ENDS = {"base_converged": False, "base_learned": False, "converged": True}  # of the base, of a cell that may cure it
SETUPS = (Setup(5), Setup(10), Setup(3, 400), Setup(5, 400))
Select = Callable[[np.ndarray, np.ndarray], np.ndarray]  # answers and means of a study [M] -> the rows of the sentence


@functools.cache
def answers(
    truth: tuple[float, ...], setup: Setup, spread: float, studies: int, seed: int, n_of_task: int
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate studies of one family each.

    Args:
        truth: The M true differences, as multiples of the margin.
        setup: Seeds and images.
        spread: Factor of SPREADS. Where it is large, no difference is shown to be smaller than the margin.
        studies: Number of studies.
        seed: Seed of the random numbers.
        n_of_task: Number of comparisons of each task in the family.

    Returns:
        Answers [studies, M] and mean differences, float64 [studies, M].
    """
    rng = np.random.default_rng(seed)
    shape, n_seeds = (studies, len(truth)), setup.n_seeds
    table = np.empty((n_seeds, setup.n_images)) if setup.n_images else None
    if n_seeds < least_seeds(n_seeds, table, n_of_task):
        return np.full(shape, TOO_FEW, dtype=object), np.zeros(shape)
    errors = {name: spread * value for name, value in SPREADS.items()}
    differences = MARGIN * np.array(truth)[:, None] + rng.normal(0, errors["seeds"], (*shape, n_seeds))
    if setup.n_images:
        images = rng.normal(0, errors["images"], (*shape, 1, setup.n_images))
        images = images + rng.normal(0, errors["noise"], (*shape, n_seeds, setup.n_images))
        differences = differences + images.mean(axis=-1)
        found = crossed_mean(differences, images)
        p, p_equivalence = found.p_value(), found.equivalence_p(MARGIN)
        if len(truth) > 1:
            alone = seeds_mean(differences)
            p, p_equivalence = np.fmax(p, alone.p_value()), np.fmax(p_equivalence, alone.equivalence_p(MARGIN))
    else:
        found = seeds_mean(differences)
        test = paired.choose_test(n_seeds, len(truth), ALPHA)
        p, p_equivalence = paired.p_value(differences, test), paired.equivalence_p(differences, MARGIN, test)
    low, high = found.interval(1 - ALPHA)
    columns = {
        "p_holm": paired.holm(p),
        "p_equivalence_holm": paired.holm(p_equivalence),
        "mean_difference": found.mean,
    }
    columns |= {"ci_low": low, "ci_high": high}
    flat = pd.DataFrame({name: values.ravel() for name, values in columns.items()}).assign(
        n_failed=0, n_baseline_failed=0
    )
    said = [_answer(row, "max", MARGIN, ALPHA) for row in flat.to_dict("records")]
    return np.array(said, dtype=object).reshape(shape), found.mean


def everything(said: np.ndarray, means: np.ndarray) -> np.ndarray:
    """All rows, the largest mean first."""
    return np.argsort(-means, kind="stable")


def only(*wanted: str) -> Select:
    """Rows with one of these answers, the largest mean first."""
    return lambda said, means: everything(said, means)[np.isin(said[everything(said, means)], wanted)]


def largest(*wanted: str) -> Select:
    """The row with the largest mean among those with one of these answers."""
    return lambda said, means: only(*wanted)(said, means)[:1]


def unsettled(said: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Rows that are neither worse nor equivalent, the largest mean first."""
    return only(BETTER, INCONCLUSIVE, TOO_FEW)(said, means)


def rivals(said: np.ndarray, means: np.ndarray) -> np.ndarray:
    """The pairs with the leading task in the order of `queries.task_rivals`: first those that are not told apart."""
    own = slice(N_TASKS - 1)
    return np.lexsort((means[own], said[own] == BETTER))


@dataclass(frozen=True)
class Case:
    """A sentence in studies in which it is false.

    Attributes:
        sentence: The sentence.
        truth: True differences, as multiples of the margin.
        select: The rows that the report gives to the sentence.
        spread: Factor of SPREADS, as for `answers`.
        learned: Value of the column `learned`.
        of_tasks: Whether every comparison of the family is of another task, as with untrained encoders on the test
            split.
    """

    sentence: Sentence
    truth: tuple[float, ...]
    select: Select = everything
    spread: float = 1.0
    learned: bool = True
    of_tasks: bool = False

    def rate(self, setup: Setup, studies: int, seed: int) -> float:
        """Return the share of simulated studies in which the sentence appears."""
        n_of_task = 1 if self.of_tasks else len(self.truth)
        said, means = answers(self.truth, setup, self.spread, studies, seed, n_of_task)
        cache: dict[tuple[str, ...], bool] = {}
        appears = 0
        for own, mean in zip(said, means, strict=True):
            rows = tuple(own[self.select(own, mean)])
            if rows not in cache:
                frame = pd.DataFrame({"answer": list(rows), "learned": self.learned, **ENDS})
                cache[rows] = self.sentence.may(frame)
            appears += cache[rows]
        return appears / studies


_WIDE, _USUAL = 10.0, 3.0
_NULL, _EDGE, _TWICE = ((level,) * N_COMPARISONS for level in (0.0, 1.0, 2.0))
_ONE_AT_EDGE = (1.0, *[-5.0] * (N_COMPARISONS - 1))
_RIVALS = (0.0, *[100.0] * (N_COMPARISONS - 1))  # all pairs of tasks: the runner-up is as good as the leading one
_ALONE = (8.0, 1.0, -3.0)  # both changes, and each of them alone: one is as good as the margin

FALSE = (
    Case(sentences.BEST_TASK, _RIVALS, rivals, spread=_WIDE),
    Case(sentences.OVERTAKEN_TASK, _RIVALS, rivals, spread=_WIDE),
    Case(sentences.PLAIN_HELPS, _NULL[:N_TASKS], only(BETTER), spread=_WIDE, of_tasks=True),
    Case(sentences.NO_TASK_BEATS_UNTRAINED, _ONE_AT_EDGE[:N_TASKS], of_tasks=True),
    Case(sentences.NO_BETTER_THAN_UNTRAINED, _EDGE[:N_TASKS], only(WORSE, EQUIVALENT), of_tasks=True),
    Case(sentences.FEATURES_WORSE, _NULL[:1], spread=_WIDE),
    Case(sentences.FEATURES_EQUIVALENT, _EDGE[:1]),
    Case(sentences.CURES, _NULL, largest(BETTER), spread=_WIDE),
    Case(sentences.HELPS, _NULL, largest(BETTER), spread=_WIDE),
    Case(sentences.DOES_BETTER, _NULL, largest(BETTER), spread=_WIDE),
    Case(sentences.ALSO_BETTER, (100.0, *_NULL[1:]), lambda s, m: only(BETTER)(s, m)[1:], spread=_WIDE),
    Case(sentences.ABLATION_FOUND_BETTER, _NULL, only(BETTER), spread=_WIDE),
    Case(sentences.BETTER_CELLS, _NULL, only(BETTER), spread=_WIDE),
    Case(sentences.WORSE_CELLS, _NULL, only(WORSE), spread=_WIDE),
    Case(sentences.EQUIVALENT_CELLS, _EDGE, only(EQUIVALENT)),
    Case(sentences.NO_CHANGE_BETTER, _ONE_AT_EDGE),
    Case(sentences.CAUSE, _NULL, only(BETTER), spread=_WIDE),
    Case(sentences.LACKED_BOTH, _ALONE, lambda said, means: np.arange(3)),
)
NOT_SHOWN = (
    Case(sentences.LEADING_TASK, _TWICE, rivals, spread=_USUAL),
    Case(sentences.NO_TASK_SHOWN_TO_BEAT_UNTRAINED, _TWICE[:N_TASKS], spread=_USUAL, of_tasks=True),
    Case(
        sentences.NOT_SHOWN_BETTER_THAN_UNTRAINED,
        _TWICE[:N_TASKS],
        only(INCONCLUSIVE, TOO_FEW),
        spread=_USUAL,
        of_tasks=True,
    ),
    Case(sentences.FEATURES_NOT_SHOWN_BETTER, _TWICE[:1], spread=_USUAL),
    Case(sentences.NO_CHANGE_SHOWN_BETTER, _TWICE, unsettled, spread=_USUAL),
    Case(sentences.NOTHING_SHOWN_BETTER, _TWICE, spread=_USUAL),
    Case(sentences.NO_CAUSE_SHOWN, _TWICE, spread=_USUAL),
    Case(sentences.SHOWN_TOGETHER, (8.0, 2.0, 2.0), lambda said, means: np.arange(3), spread=_USUAL),
)


def leaves_chance(setup: Setup, studies: int, rng: np.random.Generator) -> float:
    """Return how often a change is said to leave chance more often though no change does; 4 changes."""
    easy = rng.normal(size=(studies, 1, setup.n_seeds))  # a seed's cells share their images and initialization
    learned = easy + rng.normal(size=(studies, 5, setup.n_seeds)) > 0
    only_cell, only_base = learned[:, 1:] & ~learned[:, :1], ~learned[:, 1:] & learned[:, :1]
    can_reject = mcnemar_can_reject(np.full(4, setup.n_seeds))
    p = np.where(can_reject, mcnemar_p(only_cell.sum(axis=-1), only_base.sum(axis=-1)), np.nan)
    gain = (only_cell.sum(axis=-1) - only_base.sum(axis=-1)).astype(float)
    first = gain.argmax(axis=-1)[:, None]
    p_first = np.take_along_axis(paired.holm(p), first, axis=-1)[:, 0]
    positive = np.take_along_axis(gain, first, axis=-1)[:, 0] > 0
    said = [sentences.LEAVES_CHANCE.may(pd.DataFrame({"p_holm": [value]})) for value in p_first]
    return float(np.mean(positive & np.array(said)))


def factors_significant(setup: Setup, studies: int, rng: np.random.Generator) -> float:
    """Return how often an effect is said to be shown though no factor has one; 7 terms."""
    estimates = rng.normal(size=(studies, N_TERMS, setup.n_seeds))
    p = paired.holm(paired.p_value(estimates, paired.choose_test(setup.n_seeds, N_TERMS, ALPHA)))
    frames = (pd.DataFrame({"p_holm": own[own <= ALPHA]}) for own in p)
    return float(np.mean([sentences.FACTORS_SIGNIFICANT.may(frame) for frame in frames]))


def rates(cases: tuple[Case, ...], studies: int, seed: int = 0) -> dict[str, list[float]]:
    """Return the rate of every case at each of SETUPS."""
    return {case.sentence.name: [case.rate(setup, studies, seed) for setup in SETUPS] for case in cases}


def false_rates(studies: int, seed: int = 0) -> dict[str, list[float]]:
    """Return how often each sentence that can be false appears where it is, at each of SETUPS."""
    rng = np.random.default_rng(seed)
    others = {"leaves_chance": leaves_chance, "factors_significant": factors_significant}
    alone = {name: [rate(setup, studies, rng) for setup in SETUPS[:2]] for name, rate in others.items()}
    return rates(FALSE, studies, seed) | alone


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    studies = parser.parse_args().studies
    head = " | ".join(setup.name for setup in SETUPS)
    for title, found in (("false", false_rates(studies)), ("appears", rates(NOT_SHOWN, studies))):
        print(f"| sentence | {title}: {head} |")
        for name, values in found.items():
            print(f"| `{name}` | {' | '.join(f'{value:.1%}' for value in values)} |")


if __name__ == "__main__":
    main()
