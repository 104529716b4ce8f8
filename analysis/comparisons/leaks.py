"""Near duplicates across splits: how much better a probe is on test images that have one among the training images."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.data.baselines import are_baselines
from analysis.data.study import Study
from analysis.stats.binomial import difference_interval
from trainables.errors import UserError
from trainables.per_image import unpack

PROBE = "linear"
_COLUMNS = ["dataset", "task", "n_seeds", "n_leaked", "n_others", "leaked", "others", "accuracy"]


def leaked_images(study: Study, dataset: str, split: str = "test") -> np.ndarray | None:
    """Return which images of a split have a near duplicate among the training images, bool [N]; None if not known.

    Args:
        study: The study.
        dataset: Name of the data set.
        split: `test` or `validation`.

    Raises:
        UserError: What was recorded is damaged.
    """
    leaks = study.datasets.get(dataset, {}).get("leaks")
    if not leaks:
        return None
    try:
        return unpack(leaks[split]).astype(bool)
    except ValueError as error:
        raise UserError(f"near duplicates of {dataset}: {error}; restore the study from a copy") from error


def leak_effects(study: Study, runs: pd.DataFrame) -> pd.DataFrame:
    """Compare the linear probe on test images with and without a near duplicate among the training images.

    The same trials are scored on both kinds of images; nothing is trained again. The 95% interval holds for other
    images and not for new seeds: each image counts once, with its mean over seeds.

    Args:
        study: The study, with the results of each image.
        runs: Runs on the test split, of one configuration per task.

    Returns:
        One row per data set with near duplicates and task, the baselines last: dataset, task, n_seeds, the numbers of
        images n_leaked and n_others, the accuracies leaked, others and accuracy (of all images), difference of leaked
        and others, and the ends ci_low and ci_high of its interval. Trials without results of images are left out.
    """
    rows = []
    for dataset in study.datasets:
        mask, name = leaked_images(study, dataset), f"probe/{dataset}/{PROBE}"
        if mask is None or not mask.any() or mask.all() or name not in runs:
            continue
        for task, own in runs.loc[runs[name].notna()].groupby("task", sort=False):
            arrays = [study.per_image.array(trial_id, name) for trial_id in own["trial_id"]]
            known = [array for array in arrays if array is not None and array.shape == mask.shape]
            if known:
                correct = np.mean(known, axis=0)
                means = correct[mask].mean(), correct[~mask].mean(), correct.mean()
                rows.append((dataset, task, len(known), int(mask.sum()), int((~mask).sum()), *map(float, means)))
    found = pd.DataFrame(rows, columns=_COLUMNS)
    found = found.sort_values("task", key=are_baselines, kind="stable", ignore_index=True)
    ends = [difference_interval(row.leaked, row.n_leaked, row.others, row.n_others) for row in found.itertuples()]
    found["difference"] = found["leaked"] - found["others"]
    found[["ci_low", "ci_high"]] = np.array(ends, np.float64).reshape(-1, 2)
    return found
