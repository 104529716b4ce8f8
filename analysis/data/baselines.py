"""Which rows of a frame are baselines: encoders that the study has not trained, and raw pixels."""

from __future__ import annotations

import pandas as pd

from trainables.trial import is_baseline


def are_baselines(tasks: pd.Series) -> pd.Series:
    """Return whether each task is a baseline, bool [N] with the index of `tasks`."""
    return tasks.map(is_baseline).astype(bool)
