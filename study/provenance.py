"""Provenance: the configuration, code, packages and data that a study's results depend on."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from analysis.records import StudyStarted
from study.plan.phases import Plan
from study.timing.phase_sizes import phase_sizes
from trainables.data import Splits
from trainables.packages import version_of
from trainables.per_image import pack

PACKAGES = ("pretext-study", "torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pandas")


def study_started(plan: Plan) -> StudyStarted:
    """Return the event by which a driver records what it is about to run."""
    config = plan.config
    return StudyStarted(
        study=config.name,
        config=config.model_dump(mode="json"),
        config_hash=config.config_hash,
        git_commit=git_commit(),
        versions={package: version_of(package) or "unknown" for package in PACKAGES}
        | {"python": platform.python_version()},
        datasets={name: describe(splits) for name, splits in plan.datasets.items()},
        plan={size.phase: {"trials": size.trials, "steps": sum(size.steps.values())} for size in phase_sizes(plan)},
        objectives={task: list(plan.metric(task)) for task in config.tasks},
    )


def describe(splits: Splits) -> dict[str, Any]:
    """Return the fingerprint, image size, classes, images per split, near duplicates and inventory of a data set.

    `leaks` is there if near duplicates were found or moved: policy, n_moved, and for test and validation which images
    have a near duplicate among the training images, as from `trainables.per_image.pack`.
    """
    tables = {
        "pretext_train": splits.pretext_train,
        "pretext_validation": splits.pretext_validation,
        "probe_train": splits.probe_train,
        "probe_validation": splits.probe_validation,
        "test": splits.test,
    }
    leaks = splits.leaks
    found = {}
    if leaks is not None and (leaks.found or leaks.n_moved):
        masks = {"test": pack(leaks.test), "validation": pack(leaks.validation)}
        found = {"leaks": {"policy": leaks.policy, "n_moved": leaks.n_moved, **masks}}
    return {
        "fingerprint": splits.fingerprint,
        "image_size": splits.pretext_train.image_size,
        "n_channels": splits.pretext_train.n_channels,
        "n_classes": splits.pretext_train.n_classes,
        "class_names": list(splits.pretext_train.class_names),
        "counts": {name: 0 if table is None else len(table) for name, table in tables.items()},
        **found,
        **({"inventory": splits.inventory.summary()} if splits.inventory is not None else {}),
    }


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, None for an installed copy.

    A copy may be installed inside of another repository, which ignores it.
    """
    file = Path(__file__).resolve()
    found = ""
    for command in (("ls-files", "--error-unmatch", file.name), ("rev-parse", "HEAD")):
        try:
            found = subprocess.run(
                ["git", "-C", str(file.parent), *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    return found.strip()
