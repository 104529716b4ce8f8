"""Training of reference recipes, in pieces: each trial continues from its checkpoint and is run only once."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from trainables import files
from trainables.allocator import keep_freed_memory
from trainables.data.readers.folders import load_folder
from trainables.data.request import Request
from trainables.data.splits import make_splits
from trainables.data.table import Splits
from trainables.devices import CUDA
from trainables.encoders import Encoder, encoder_of
from trainables.errors import CheckpointError, DataError
from trainables.reference import lightly_task
from trainables.reference.probes import probe_accuracy
from trainables.reference.recipes import LIGHTLY_TASK, Recipe
from trainables.training import checkpoint
from trainables.training.loop import Report, TrialRun, Worker
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig, is_baseline

HELD_OUT = 0.02  # share of the training images, for the validation of the pretext task
CHECKPOINT_S = 120.0  # least time between two checkpoints of a trial

Say = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """Accuracy of one trial of a recipe.

    Attributes:
        trial_id: Id of the trial.
        task: Task of the trial.
        seed: Seed of the trial.
        accuracy: Accuracy of the recipe's probe on the test images.
        train_s: Seconds of training, over all pieces.
    """

    trial_id: str
    task: str
    seed: int
    accuracy: float
    train_s: float


def load_images(folder: Path) -> Splits:
    """Return the splits of CIFAR-10 in a folder with train/CLASS and test/CLASS.

    Raises:
        DataError: The folder is not of this form.
    """
    tables = load_folder(Request("cifar10", None, 32), folder)
    if not len(tables.test) or tables.test_is_drawn:
        raise DataError(f"cifar10: {folder} has no test folder; the recipes need train/CLASS and test/CLASS")
    return make_splits(tables.train, tables.test, validation_fraction=HELD_OUT)


def obstacle(recipe: Recipe, splits: Splits, device: torch.device) -> str:
    """Return why a recipe cannot be run here, and what to do; empty if it can."""
    found = len(splits.pretext_train) + len(splits.pretext_validation)
    if found < recipe.n_images:
        return f"needs {recipe.n_images:,} training images, and there are {found:,}"
    if recipe.needs == CUDA:
        return "" if device.type == CUDA else f"needs an NVIDIA GPU, and the device is {device.type}"
    if recipe.needs and importlib.util.find_spec(recipe.needs) is None:
        return f"needs the library {recipe.needs}: pip install 'pretext-study[reference]'"
    return ""


def results(recipe: Recipe, folder: Path) -> list[Result]:
    """Return the results of a recipe that a folder has, by trial and seed."""
    trials = [trial.replace(seed=seed) for trial in recipe.trials for seed in recipe.seeds]
    return [read_result(path) for trial in trials if (path := _files(recipe, trial, folder)[0]).exists()]


def read_result(path: Path) -> Result:
    """Return the result in a file.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return Result(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a readable result; delete it to run the trial again") from error


def run_recipe(recipe: Recipe, splits: Splits, folder: Path, device: torch.device, say: Say) -> list[Result]:
    """Run those trials of a recipe that have no result yet, and return all results.

    Args:
        recipe: The recipe.
        splits: Images of CIFAR-10.
        folder: Folder of results and checkpoints.
        device: Device to compute on.
        say: Called with a line about the progress.
    """
    keep_freed_memory()
    if any(trial.task == LIGHTLY_TASK for trial in recipe.trials):
        lightly_task.register()
    for seed in recipe.seeds:
        for trial in recipe.trials:
            _run_trial(recipe, trial.replace(seed=seed), splits, folder, device, say)
    return results(recipe, folder)


def _run_trial(
    recipe: Recipe, trial: TrialConfig, splits: Splits, folder: Path, device: torch.device, say: Say
) -> None:
    done, saved = _files(recipe, trial, folder)
    if done.exists():
        return
    encoder, seconds = train(recipe, trial, splits, saved, device, say)
    accuracy = probe_accuracy(recipe.probe, encoder, splits, trial.seed, device)
    result = Result(trial.trial_id, trial.task, trial.seed, accuracy, round(seconds, 1))
    files.write(done, json.dumps(vars(result)).encode())
    saved.unlink(missing_ok=True)
    say(f"{recipe.name}: {trial.task}, seed {trial.seed}: {accuracy:.4f}")


def train(
    recipe: Recipe, trial: TrialConfig, splits: Splits, saved: Path, device: torch.device, say: Say
) -> tuple[Encoder, float]:
    """Train one trial, from its checkpoint if there is one, and return its encoder and the seconds of training.

    Args:
        recipe: The recipe.
        trial: The trial, with its seed.
        splits: Images of CIFAR-10.
        saved: File of the checkpoint.
        device: Device to compute on.
        say: Called with a line at each report.

    Raises:
        CheckpointError: The checkpoint is damaged or belongs to another trial.
    """
    table = splits.pretext_train
    if is_baseline(trial.task):
        return encoder_of(trial, table.image_size, table.n_channels), 0.0
    state = _state(saved, trial) if saved.exists() else {}
    before, began, written = float(state.pop("train_s", 0.0)), time.monotonic(), time.monotonic()

    def report(found: Report) -> None:
        nonlocal written
        now = time.monotonic()
        metric = found.facts["primary_metric"]
        say(
            f"{recipe.name}: {trial.task}, seed {trial.seed}, step {found.step:,}: {metric} {found.metrics[metric]:.4f}"
        )
        if now - written >= CHECKPOINT_S:
            files.write(saved, checkpoint.to_bytes(found.state() | {"train_s": before + now - began}))
            written = now

    run = TrialRun(trial, splits, report, Worker(device), state or None)
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=run.replay)
    run.start()
    while run.unfinished:
        with run.seeded():
            means = take_step(run.draw(), trial.lr if recipe.constant_lr else run.lr)
        run.count(means)
        run.report_if_due()
    return run.task.encoder, before + time.monotonic() - began


def _state(saved: Path, trial: TrialConfig) -> dict[str, Any]:
    try:
        return checkpoint.from_bytes(saved.read_bytes(), where=str(saved), trial_id=trial.trial_id)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; delete it to train from the start") from error


def with_seeds(recipes: Sequence[Recipe], seeds: int | None) -> list[Recipe]:
    """Return the recipes with seeds 0 .. `seeds` - 1; None leaves them as they are."""
    return list(recipes) if seeds is None else [replace(recipe, seeds=tuple(range(seeds))) for recipe in recipes]


def _files(recipe: Recipe, trial: TrialConfig, folder: Path) -> tuple[Path, Path]:
    """Return the files of a trial's result and of its checkpoint."""
    name = f"{recipe.name}-{trial.task}-seed{trial.seed}-{trial.trial_id}"
    return folder / f"{name}.json", folder / f"{name}.pt"
