"""The reports that are compared to see whether a curve still improves: the last quarter and the second quarter.

The trainer computes the error of this comparison, from paired images, and the analysis its amount, so both must compare
the same reports. Means over a quarter lose little of the change, since an annealed learning rate leaves the last
quarter nearly flat, and average out how the network itself fluctuates between reports.
"""

from __future__ import annotations

from collections.abc import Sequence


def quarters(steps: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the indices of the reports in the second quarter and in the last quarter of the steps so far.

    Without a report in the second quarter, the last one before it takes its place.

    Args:
        steps: Steps of all reports so far, increasing, at least two.
    """
    end = steps[-1]
    second = [i for i, step in enumerate(steps) if end < 4 * step <= 2 * end]
    before = [i for i, step in enumerate(steps) if 4 * step <= 2 * end]
    last = [i for i, step in enumerate(steps) if 4 * step > 3 * end]
    return second or before[-1:] or [0], last
