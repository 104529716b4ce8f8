"""Costs of a trial, timed on this machine: its setup, its optimizer steps, its reports and its final probes.

Only the parts that repeat are timed, on the study's own images, and multiplied by how often a trial repeats them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from trainables.data import Splits
from trainables.devices import CPU, free_memory, seconds_of, synchronized_time
from trainables.encoders import Encoder
from trainables.probes.evaluation import baseline_encoder, evaluate, few_label_probes
from trainables.probes.few_labels import N_VALIDATIONS
from trainables.tasks import TASKS
from trainables.training.loop import TrialRun, Worker
from trainables.training.step import TrainingStep
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

# The final probes are timed on so many images per split, then on GROWTH times as many, until that takes ENOUGH_PROBES_S
# or all images are timed. Much of a fit does not depend on their number, so two sizes tell what more images add.
FIRST_IMAGES, GROWTH, ENOUGH_PROBES_S = 50, 4, 2.0
FEW_IMAGES = 100  # for few labels, for which a network is validated many times while it is fine-tuned
ENOUGH_S, MOST_STEPS = 0.2, 5  # steps are timed until one of these is reached
# Two lengths of fine-tuning with as many validations, whose difference is the time of its steps.
FINE_TUNE_STEPS = (N_VALIDATIONS, 2 * N_VALIDATIONS)


@dataclass(frozen=True)
class TrainingCost:
    """Seconds of the parts of a trial that trains.

    Attributes:
        setup: Building the network, the optimizer and the measurements.
        step: One optimizer step.
        report: One report of the losses.
        features: The online probes and the health of those reports that have them.
    """

    setup: float
    step: float
    report: float
    features: float


class TrialCosts:
    """Seconds that trials take, without what Ray, the journal and MLflow add.

    Trials that differ only in what does not change their computation, such as the learning rate and the seed, are timed
    once. Batch sizes between the smallest and the largest of such trials are interpolated.

    Args:
        datasets: Splits by name.
        device: Device that the trials will use.
        cores: Cores that each trial reserves.
    """

    def __init__(self, datasets: Mapping[str, Splits], device: torch.device, cores: int = 1) -> None:
        self._datasets, self._device, self._cores = datasets, device, cores
        self._batches: dict[TrialConfig, tuple[TrialConfig, TrialConfig]] = {}  # smallest and largest, by computation
        self._training: dict[TrialConfig, TrainingCost] = {}
        self._reports: dict[TrialConfig, float] = {}
        self._features: dict[TrialConfig, float] = {}
        self._probes: dict[TrialConfig, float] = {}

    def include(self, trials: Iterable[TrialConfig]) -> None:
        """Note the smallest and the largest batch of each computation among these trials, which will be timed."""
        for trial in (each for each in trials if each.trains):
            least, most = self._batches.get(_timed_alike(trial), (trial, trial))
            self._batches[_timed_alike(trial)] = min(least, trial, key=_batch_size), max(most, trial, key=_batch_size)

    def seconds(self, trial: TrialConfig, share: float = 1.0) -> float:
        """Return the time of a trial.

        Args:
            trial: A trial that is included.
            share: Share of its steps after which it is stopped, without final probes; 1 for a trial that finishes.
        """
        probes = self._probe_seconds(trial) if trial.probe_datasets and share == 1 else 0.0
        if not trial.trains:
            return probes
        cost = self._training_cost(trial)
        reports = 1 + math.ceil(share * trial.budget_steps / trial.report_every)
        steps = (min(i * trial.report_every, trial.budget_steps) for i in range(reports))
        features = sum(map(trial.measures_features, steps))
        steps_s = share * trial.budget_steps * cost.step
        return cost.setup + steps_s + reports * cost.report + features * cost.features + probes

    def _training_cost(self, trial: TrialConfig) -> TrainingCost:
        least, most = self._batches[_timed_alike(trial)]
        small = self._timed(least)
        if least.batch_size == most.batch_size:
            return small
        share = (trial.batch_size - least.batch_size) / (most.batch_size - least.batch_size)
        return replace(small, step=small.step + share * (self._timed(most).step - small.step))

    def _timed(self, trial: TrialConfig) -> TrainingCost:
        """Return the cost of a trial's parts, timed once.

        Trials of one task and encoder share the time of a report. Trials of one encoder share the time of the features.
        """
        key = _timed_alike(trial).replace(batch_size=trial.batch_size)
        reported = key.replace(batch_size=1, augmentation={}, options={})
        featured = reported.replace(task="")
        if key not in self._training:
            known = self._reports.get(reported), self._features.get(featured)
            with _threads(self._cores):
                timed = _time_training(trial, self._datasets[trial.dataset], self._device, *known)
                free_memory(self._device)  # for the trials that are about to start on it
            self._training[key] = timed
            self._reports[reported], self._features[featured] = timed.report, timed.features
        return self._training[key]

    def _probe_seconds(self, trial: TrialConfig) -> float:
        """Return the time of the final probes, timed on the test split and, for a trained encoder, untrained."""
        task = RAW_PIXELS if trial.task == RAW_PIXELS else RANDOM_INIT
        encoder = {name: getattr(trial, name) for name in ("encoder", "width", "input_size", "mean", "std")}
        probes = ("probe_datasets", "probe_layers", "labels_per_class", "fine_tune_steps", "dataset")
        own = encoder | {name: getattr(trial, name) for name in probes}
        key = TrialConfig("", task, budget_steps=0, probe_split="test", **own)
        if key not in self._probes:
            with _threads(self._cores):
                self._probes[key] = _time_probes(key, self._datasets, self._device)
                free_memory(self._device)
        return self._probes[key]


def _time_training(
    trial: TrialConfig, splits: Splits, device: torch.device, report: float | None, features: float | None
) -> TrainingCost:
    """Return the cost of a trial's parts; of several workers, each takes its share of a batch.

    Args:
        trial: The trial.
        splits: Data set to train on.
        device: Device to compute on.
        report: Time of a report of the losses, if it is known.
        features: Time of measuring the features, if it is known.
    """
    seldom = None if trial.probe_every is None else trial.budget_steps  # decides how many images probes are fitted to
    own = trial.replace(batch_size=trial.batch_size // trial.workers, workers=1, weights="", probe_every=seldom)
    began = synchronized_time(device)
    run = TrialRun(own, splits, lambda _: None, Worker(device), resume=None)
    built = synchronized_time(device)
    if features is None:
        features = seconds_of(run.monitor.features, device)
    if report is None:
        measured = seconds_of(lambda: run.monitor.validate(1), device)
        report = max(0.0, measured - features) if own.measures_features(1) else measured
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=run.replay)
    warm_up = min(own.budget_steps - 1, 1 if device.type == CPU else 3)  # a GPU records the step's graph first
    for _ in range(warm_up):
        take_step(run.draw(), run.lr)
    steps, most, start = 0, min(MOST_STEPS, own.budget_steps - warm_up), synchronized_time(device)
    while not steps or (steps < most and synchronized_time(device) - start < ENOUGH_S):
        take_step(run.draw(), run.lr)
        steps += 1
    return TrainingCost(built - began, (synchronized_time(device) - start) / steps, report, features)


def _time_probes(trial: TrialConfig, datasets: Mapping[str, Splits], device: torch.device) -> float:
    """Return the time of an untrained encoder's probes, extrapolated to all images if there are many."""
    seconds = 0.0
    table = datasets[trial.dataset].pretext_train
    encoder = baseline_encoder(trial, table.image_size, table.n_channels)
    for name in trial.probe_datasets:
        splits = datasets[name]
        own = trial.replace(probe_datasets=(name,), labels_per_class=())
        all_labels = _evaluation_seconds(own, encoder, splits, device)
        seconds += all_labels
        if trial.labels_per_class and splits.labeled:  # a fit to raw pixels takes about as long with few labels
            n_fits = len(trial.labels_per_class)
            seconds += n_fits * all_labels if encoder is None else _few_label_seconds(trial, encoder, splits, device)
    return seconds


def _evaluation_seconds(trial: TrialConfig, encoder: Encoder | None, splits: Splits, device: torch.device) -> float:
    """Return the time of the probes on one data set, extrapolated from two sizes of it if all images take long."""
    [name] = trial.probe_datasets

    def timed(most: int) -> tuple[float, float]:
        few, share = _first_images(splits, most)
        return seconds_of(lambda: evaluate(trial, encoder, {name: few}, device), device), share

    timed(FIRST_IMAGES)  # loads what only probes need
    most, (seconds, share) = FIRST_IMAGES, timed(FIRST_IMAGES)
    while share < 1:
        most, less, less_share = GROWTH * most, seconds, share
        seconds, share = timed(most)
        if seconds >= ENOUGH_PROBES_S:
            return seconds + (1 - share) * max(0.0, seconds - less) / (share - less_share)
    return seconds


def _few_label_seconds(trial: TrialConfig, encoder: Encoder, splits: Splits, device: torch.device) -> float:
    """Return the time of the probes with few labels: steps of fine-tuning, and what grows with the images."""
    few, share = _first_images(splits, FEW_IMAGES)

    def timed(steps: int) -> float:
        return seconds_of(lambda: few_label_probes(trial.replace(fine_tune_steps=steps), encoder, few, device), device)

    low, high = map(timed, FINE_TUNE_STEPS)
    step = max(0.0, high - low) / (FINE_TUNE_STEPS[1] - FINE_TUNE_STEPS[0])
    return max(0.0, low - FINE_TUNE_STEPS[0] * step) / share + trial.fine_tune_steps * step


def _first_images(splits: Splits, most: int) -> tuple[Splits, float]:
    """Return splits of at most this many images each for the probes, and their share of all probed images."""
    names = [name for name in ("probe_train", "probe_validation", "test") if getattr(splits, name) is not None]
    tables = {name: getattr(splits, name) for name in names}
    few = {name: table.take(torch.arange(min(len(table), most)).numpy()) for name, table in tables.items()}
    share = sum(map(len, few.values())) / max(1, sum(map(len, tables.values())))
    return (splits, 1.0) if share == 1 else (replace(splits, **few), share)


def _batch_size(trial: TrialConfig) -> int:
    return trial.batch_size


def _timed_alike(trial: TrialConfig) -> TrialConfig:
    """Return a trial in which all fields that do not change what a step computes, and its batch size, are equal."""
    policy = {op: 1.0 for op, magnitude in dict(trial.augmentation).items() if magnitude * trial.augmentation_strength}
    options = _options_that_cost(trial)
    trained = {name: getattr(trial, name) for name in ("task", "dataset", "encoder", "width", "optimizer", "workers")}
    trained |= {name: getattr(trial, name) for name in ("input_size", "mean", "std")}
    trained["probe_every"] = None if trial.probe_every is None else 1  # decides how many images probes are fitted to
    return TrialConfig("", augmentation=policy, options=options, batch_size=1, **trained)


def _options_that_cost(trial: TrialConfig) -> dict[str, Any]:
    """Return the options that change what a step computes; of most real numbers, whether they are 0."""
    kept = dict(trial.options)
    for field in dataclasses.fields(TASKS[trial.task].Options):
        if field.type in (float, "float") and field.name in kept:
            value = float(kept[field.name])
            kept[field.name] = round(value, 1) if field.metadata.get("changes_sizes") else float(value != 0)
    return kept


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Compute with this many threads inside the block, as trials do that reserve as many cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
