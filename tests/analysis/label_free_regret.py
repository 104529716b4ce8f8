"""What choosing a configuration by a label-free measure costs, from the library of real trials with labels."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from analysis.comparisons.label_free import AT_RANDOM, MEASURES, PRETEXT, Regret
from tests.analysis import trial_library

PROBE = "probe/linear"  # the online probe, on few validation images, by which a study with labels chooses
ONE_SEARCH = ["dataset", "task", "n_images", "width"]  # what the trials of one search have in common
DRAWS = 5000


def labeled_trials() -> pd.DataFrame:
    """Return one row per trial with labels: what one search has in common, its last measures, and `truth`.

    `truth` is the accuracy of the linear probe of the trained encoder on 1,000 images that the trial never saw.
    """
    library = trial_library.load()
    library = library[library["probe/end"].notna()]
    trials, last = library["trial"].map(json.loads), library["reports"].map(lambda text: json.loads(text)[-1])
    found = pd.DataFrame({name: trials.str[name] for name in ONE_SEARCH})
    for name, mode in MEASURES.items():
        found[name] = last.str[name] * (1 if mode == "max" else -1)
    found[PRETEXT] = last.str["val/accuracy"].fillna(-last.str["val/loss"])
    found[PROBE] = last.str[PROBE]
    found["truth"] = [np.unpackbits(np.frombuffer(bits, np.uint8)).mean() for bits in library["probe/end"]]
    return found


def choices(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the truth of the trial that each way chooses, one row per search with at least two trials."""
    rows = []
    for names, own in trials.groupby(ONE_SEARCH):
        if len(own) > 1:
            chosen = {way: own.loc[own[way] == own[way].max(), "truth"].mean() for way in (*MEASURES, PRETEXT, PROBE)}
            rows.append(dict(zip(ONE_SEARCH, names, strict=True)) | chosen | {AT_RANDOM: own["truth"].mean()})
    return pd.DataFrame(rows)


def regrets(chosen: pd.DataFrame) -> dict[str, Regret]:
    """Return by way of choosing what it costs, with a bootstrap over pairs of data set and task."""
    clusters = list(chosen.groupby(["dataset", "task"]).indices.values())
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([clusters[i] for i in rng.integers(len(clusters), size=len(clusters))]) for _ in range(DRAWS)
    ]
    found = {}
    for way in (PRETEXT, *MEASURES, AT_RANDOM):
        cost = (chosen[PROBE] - chosen[way]).to_numpy()
        low, high = np.quantile([cost[rows].mean() for rows in draws], [0.025, 0.975])
        found[way] = Regret(cost.mean(), low, high)
    return found
