"""Frames of simulated trials with known verdicts, on which the rules of convergence are tested."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.frames import FrameBuilder
from analysis.records import FAILED, FINISHED
from trainables.simulated.curves import Curve, draw_curve

FAILED_KIND = "failed"  # an exception midway through a healthy curve


def frames_of(
    kinds: Iterable[str],
    *,
    rng: np.random.Generator,
    tasks: Sequence[str] = ("rotation",),
    each: int = 1,
    **arguments: Any,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Return `(runs, curves, truth)` of `each` trials for every kind and task.

    arguments: of `trainables.simulated.curves.draw_curve`, the same for all, for example n_validation=200, noise=0.02.
    truth: the true verdict, str, indexed by trial_id.
    """
    builder, truth = FrameBuilder(), {}
    for kind in kinds:
        for task in tasks:
            for _ in range(each):
                failed = kind == FAILED_KIND
                made = draw_curve("converged" if failed else kind, rng=rng, task=task, **arguments)
                trial_id = add_trial(builder, made, seed=len(truth), failed=failed)
                truth[trial_id] = kind
    runs, curves = builder.build()
    return runs, curves, pd.Series(truth, name="truth", dtype="str").rename_axis("trial_id")


def add_trial(builder: FrameBuilder, made: Curve, *, seed: int = 0, failed: bool = False, **changes: Any) -> str:
    """Add one simulated trial to the frames and return its id; a failed one stops halfway through its reports.

    changes: fields of the trial's configuration, for example phase="ablate", cell="base".
    """
    trial = made.measurement.trial.replace(seed=seed, dataset="cifar10", **changes)
    facts, reports = made.facts, len(made.steps) // 2 if failed else len(made.steps)
    builder.trial(
        trial.trial_id,
        study="simulated",
        status=FAILED if failed else FINISHED,
        reason="RuntimeError: simulated failure" if failed else "",
        steps=int(made.steps[reports - 1]),
        wall_s=1.0,
        primary_metric=facts["primary_metric"],
        primary_mode=facts["primary_mode"],
        chance=facts["chance"][facts["primary_metric"]],
        n_validation=facts["n_validation"],
        **{f"chance/{name}": level for name, level in facts["chance"].items()},
        **{f"chance/{probe}": 0.1 for probe in ("probe/linear", "probe/knn") if probe in made.metrics},
        **trial.to_columns(),
    )
    for index in range(reports):
        builder.report(trial.trial_id, int(made.steps[index]), made.report(index))
    return trial.trial_id
