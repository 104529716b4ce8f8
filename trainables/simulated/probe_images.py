"""Simulated results of the final probes on each image, in agreement with the simulated accuracies and mIoU."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from trainables.data.table import Splits
from trainables.per_image import LABELS, pack
from trainables.rng import stream_seed
from trainables.simulated.outcomes import identity
from trainables.trial import TrialConfig

UNION = 10_000  # pixels of every class in every image

_ACCURACY = re.compile(r"linear|knn|(linear|fine_tuned)/(\d+|all)_labels")
_IOU = "iou/"


def per_image_results(trial: TrialConfig, dataset: str, splits: Splits, results: Mapping[str, float]) -> dict[str, str]:
    """Return packed results of each image, named as by `trainables.probes.evaluation.evaluate`.

    The images that one encoder finds easiest are drawn anew for every encoder, since its accuracy is drawn as if it had
    seen images of its own. All probes of one encoder share them.

    Args:
        trial: The probed trial.
        dataset: Name of the data set.
        splits: The data set.
        results: What `probe_results` returned for it.
    """
    prefix = f"probe/{dataset}/"
    own = {name.removeprefix(prefix): value for name, value in results.items() if math.isfinite(value)}
    queries = splits.held_out(trial.probe_split)
    stream = f"simulated/probe images/{dataset}/{trial.probe_split}/{identity(trial)}"
    difficulty = np.random.default_rng(stream_seed(trial.seed, stream)).permutation(len(queries))
    found = {name: difficulty < round(value * len(queries)) for name, value in own.items() if _ACCURACY.fullmatch(name)}
    if queries.labels is not None:
        found[LABELS] = np.asarray(queries.labels)
    ious = np.array([value for name, value in own.items() if name.startswith(_IOU)])
    if len(ious):
        easy = difficulty < len(queries) // 2  # half of the images have all of the overlap that varies
        spread = np.minimum(ious, 1 - ious) / 2
        shares = np.where(easy[:, None], ious + spread, ious - spread * easy.sum() / max((~easy).sum(), 1))
        intersections = np.rint(UNION * shares).astype(np.int64)
        found["miou"] = np.stack([intersections, np.full_like(intersections, UNION)], axis=1)
    return {f"{prefix}{name}": pack(values) for name, values in found.items()}
