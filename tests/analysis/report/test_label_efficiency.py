"""The section on few labels: what it says about fine-tuning that may need more steps."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.comparisons.few_labels import FROZEN, TUNED
from analysis.report.sections.label_efficiency import _still_improving


def results(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    """Return results with ten labels a class: dataset, task, way, and the step of the best validation."""
    frame = pd.DataFrame(rows, columns=["dataset", "task", "way", "step"])
    return frame.assign(labels=pd.array([10] * len(rows), "Int64"))


@pytest.mark.parametrize("steps", [(90.0, 60.0, 30.0), (300.0, 90.0, 60.0)])
def test_fine_tuning_that_was_best_before_its_last_step_needs_no_more_steps(steps: tuple[float, ...]):
    found = results(*(("cifar10", "rotation", TUNED, step) for step in steps))
    assert not list(_still_improving(found, 300))
    assert not list(_still_improving(found, None))


def test_the_cells_that_are_best_at_their_last_step_are_named_with_their_data_set():
    late = [("cifar10", "rotation", TUNED, 300.0)] * 3
    early = [("fashion_mnist", "rotation", TUNED, 90.0)] * 3
    [said] = _still_improving(results(*late, *early, ("cifar10", "rotation", FROZEN, float("nan"))), 300)
    assert said.text.endswith("fine-tuned rotation, 10 labels a class on cifar10.")
