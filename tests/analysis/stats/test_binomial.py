"""The interval of a difference of proportions, and how often the sentence that rests on it is false."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from analysis.stats.binomial import difference_interval


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize(("n", "n_other"), [(5, 200), (20, 500), (60, 2000)])
def test_equal_shares_are_rarely_shown_to_differ(share: float, n: int, n_other: int) -> None:
    """`leak_flatters` may be false in 3.3%: exact over the few, at typical counts of the many."""
    few, many = np.arange(n + 1), binom.ppf(np.linspace(0.01, 0.99, 50), n_other, share)
    above = [[difference_interval(a / n, n, b / n_other, n_other)[0] > 0 for b in many] for a in few]
    false = binom.pmf(few, n, share) @ np.mean(above, axis=1)
    assert false <= 0.033


def test_the_interval_contains_the_difference_and_narrows() -> None:
    wide, narrow = difference_interval(0.8, 20, 0.5, 200), difference_interval(0.8, 200, 0.5, 2000)
    assert wide[0] < narrow[0] < 0.3 < narrow[1] < wide[1]
