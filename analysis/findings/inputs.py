"""Inputs of a study's pretext tasks: its first training images, and each task as the study configured it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from analysis.data.study import Study
from analysis.findings import queries
from analysis.findings.compute import Findings
from trainables.errors import UserError
from trainables.trial import TrialConfig

if TYPE_CHECKING:
    from trainables.data import ImageTable
    from trainables.tasks import PretextTask

N_READ = 32  # images read from disk; a figure shows the first few


def chosen_task(findings: Findings, task: str) -> PretextTask:
    """Build the pretext task, untrained, with the options of the study's confirmed configuration.

    Raises:
        UserError: If the study has not confirmed a configuration of `task`.
    """
    from trainables.training.loop import build_task  # imports torch, which takes seconds

    chosen = queries.chosen(findings)
    if task not in chosen:
        raise UserError(f"{findings.study.name}: no configuration of {task} has been chosen yet")
    trial = TrialConfig.from_dict(chosen[task]["config"])
    about = findings.study.datasets[trial.dataset]
    return build_task(trial, about["image_size"], about.get("n_channels", 3))


def images_of(study: Study, dataset: str) -> ImageTable:
    """Read the first training images of a data set the way the study read them.

    Raises:
        UserError: If the images cannot be read on this machine, or the study was simulated.
    """
    from trainables.data import load_splits
    from trainables.data.request import FORMER

    config = study.config
    if study.simulated:
        raise UserError(f"{study.name} was simulated: it has no images")
    root = config.get("data_root")
    own = dataset == config.get("dataset")
    splits = load_splits(
        dataset,
        root=Path(root) if root else None,
        image_size=config.get("image_size") if own else None,
        max_train=N_READ,
        seed=config.get("seed", 0),
        resize=config.get("resize", "crop") if own else "crop",
        stack=config.get("stack", "first"),
        window=config.get("window") if own else None,
        on_bad_image=config.get("on_bad_image", "stop"),
        on_small_image=config.get("on_small_image", "stop"),
        group_pattern=config.get("group_pattern") if own else None,
        split_rules=config.get("split_rules", FORMER),
    )
    return splits.pretext_train
