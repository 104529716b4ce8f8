"""Outcomes: what becomes of one trial under the declared truth, and what becomes of it on average.

Every random number is a function of configuration and seed, by hashing: nothing depends on the order of trials, on the
process or on the clock. Phase, cell, `init_from` and the probes asked for do not count, nor does what would train the
same network: an op at magnitude 0, an option at its default, the interval of the reports.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainables import spelling
from trainables.data.table import Splits
from trainables.errors import ConfigError, suggestion
from trainables.rng import stream_seed
from trainables.simulated import response
from trainables.simulated.curves import Curve, expected_curve, knn_accuracy, measured, shares
from trainables.simulated.data import is_labeled, load_splits, mask_names
from trainables.simulated.measurement import Instrument, task_facts
from trainables.simulated.trajectories import (
    AT_CHANCE,
    COLLAPSED,
    CONVERGED,
    DIVERGED,
    KINDS,
    LOST_PROBE,
    N_CLASSES,
    OVERFIT,
    STILL_IMPROVING,
    Course,
)
from trainables.simulated.truth import TRUTH, Truth
from trainables.tasks import TASKS, build_options
from trainables.training.monitor import PROBE_QUERIES, VALIDATION_BATCH, VALIDATION_IMAGES
from trainables.trial import BASELINES, NON_TRAINING_FIELDS, RANDOM_INIT, RAW_PIXELS, TrialConfig, labels_name

FAILED = "failed"
WEIGHT_DECAY = 1e-2  # what every linear probe chooses
BACKGROUND = 0.75  # share of the pixels of every mask
OVERLAP = 0.4  # IoU of a foreground class, for each share of right answers above chance
STAGE_SHARES = (0.7, 0.85, 0.95, 1.0)  # of the last stage's result, for each stage of an encoder
DIVERGED_FOR_GOOD = 16.0  # times the optimal lr, from which a diverging loss is NaN; below it grows to GROWTH
GROWTH = 1.7
HALF_LABELS = 30.0  # labeled images of a class from which a probe reaches half of what all of them give
FINE_TUNING = 0.3  # of the errors that a probe makes with all labels, those that fine-tuning takes away

_IDENTITY_WITHOUT = {*NON_TRAINING_FIELDS, "report_every"} - {"task", "data_seed"}


class Shifts(NamedTuple):
    """How far one trial lies from the mean of its configuration; all 0 on average.

    validation: in progress; probe, untrained: in accuracy on a data set of scale 1, of the trained encoder and of the
    encoder before training.
    """

    validation: float = 0.0
    probe: float = 0.0
    untrained: float = 0.0


def kind(trial: TrialConfig, truth: Truth = TRUTH) -> str:
    """Return the true verdict on a trial that trains: one of KINDS, or `failed`."""
    return FAILED if fails(trial, truth) else _kind(trial, truth)


def fails(trial: TrialConfig, truth: Truth = TRUTH) -> bool:
    """Return whether the trial raises an error midway."""
    draw = np.random.default_rng(stream_seed(trial.seed, f"simulated/failure/{identity(trial)}"))
    return bool(draw.random() < response.failure_rate(trial, truth))


def simulated_curve(trial: TrialConfig, splits: Splits, truth: Truth = TRUTH) -> Curve:
    """Return all reports that the trial would make if nothing stopped it."""
    rng = np.random.default_rng(stream_seed(trial.seed, f"simulated/curve/{identity(trial)}"))
    course = course_of(trial, _kind(trial, truth), truth, labeled=splits.labeled, shifts=_shifts(trial, truth))
    return measured(course, _instrument(trial, splits), rng)


def results(trial: TrialConfig, dataset: str, splits: Splits, truth: Truth = TRUTH) -> dict[str, float]:
    """Return the results of the final probes on one data set, named as `trainables.probes.evaluation` names them.

    The images that are probed are shared by all probes, so their results go up and down together.
    """
    assert splits.probe_train is not None
    assert splits.probe_validation is not None
    queries = splits.test if trial.probe_split == "test" else splits.probe_validation
    trained = trial.task not in BASELINES
    accuracy = _accuracy(trial, _kind(trial, truth) if trained else "", dataset, truth, _shifts(trial, truth))
    rng = np.random.default_rng(
        stream_seed(trial.seed, f"simulated/probe/{dataset}/{trial.probe_split}/{identity(trial)}")
    )
    means = _result_means(accuracy, truth) if splits.labeled else {}
    for on_train, size in ((True, len(splits.probe_train)), (False, len(queries))):
        names = [name for name in means if name != "weight_decay" and ("train" in name) == on_train]
        seen = shares(np.array([means[name] for name in names]), size, 1.0, rng)
        means |= dict(zip(names, seen.tolist(), strict=True))
    if splits.labeled:
        means |= _few_labels(trial, means["linear"])
    if splits.masked:
        means |= _mask_means(float(shares(np.array([accuracy]), len(queries), 1.0, rng)[0]), queries.mask_names)
    if trial.probe_layers == "all" and trial.task != RAW_PIXELS:
        probes = [probe for probe in ("linear", "miou") if probe in means]
        for stage, share in enumerate(STAGE_SHARES, start=1):
            means |= {f"{probe}/stage{stage}": share * means[probe] for probe in probes}
    return {f"probe/{dataset}/{name}": value for name, value in means.items()}


def expected(trial: TrialConfig, metric: str, truth: Truth = TRUTH) -> float:
    """Return the mean over seeds of a metric at the trial's last report, or of a final result.

    Of those seeds whose value is finite and whose trial does not fail; NaN where there is none. Seeds that differ in
    kind (`kind_rates`) are weighted by it. Raises ConfigError for a metric that the trial does not have.
    """
    if trial.task in BASELINES:
        return _expected_of(trial, "", metric, truth)
    rates = response.kind_rates(trial, truth)
    values = {kind: _expected_of(trial, kind, metric, truth) for kind in KINDS if rates[kind]}
    finite = {kind: value for kind, value in values.items() if math.isfinite(value)}
    if not finite:
        return math.nan
    return math.fsum(rates[kind] * value for kind, value in finite.items()) / math.fsum(rates[kind] for kind in finite)


def course_of(
    trial: TrialConfig, kind: str, truth: Truth = TRUTH, *, labeled: bool, shifts: Shifts | None = None
) -> Course:
    """Return the course of a trial of this kind; without shifts, the mean over seeds."""
    shifts = shifts or Shifts()
    task, base = truth.tasks[trial.task], truth.dataset(trial.dataset)
    untrained = base.random_init + base.scale * (response.by_encoder(trial, truth) + shifts.untrained)
    ratio = response.lr_ratio(trial, truth)
    return Course(
        kind,
        start=0.0 if kind == AT_CHANCE else task.untrained,
        end=min(0.97, response.solved(trial, truth) + shifts.validation),
        takeoff=min(response.takeoff_share(trial, truth), 0.4 if kind == STILL_IMPROVING else 0.2),
        pace=1.0 if kind == STILL_IMPROVING else 0.07,
        turn=0.35,
        drop=0.35,
        growth=math.inf if ratio >= DIVERGED_FOR_GOOD else GROWTH,
        probe_start=untrained + truth.online * base.scale,
        probe_end=_accuracy(trial, kind, trial.dataset, truth, shifts) + truth.online * base.scale,
        flat_loss=kind == STILL_IMPROVING and labeled and response.trapped(trial, truth),
    )


@functools.lru_cache(maxsize=256)
def identity(trial: TrialConfig) -> str:
    """Return what a trial's network depends on besides the seed, as canonical JSON."""
    if trial.task == RAW_PIXELS:
        return RAW_PIXELS
    if trial.task == RANDOM_INIT:
        return f"{RANDOM_INIT}/{trial.encoder}/{trial.width}"
    values = trial.to_dict() | {
        "augmentation": response.magnitudes(trial),
        "augmentation_strength": None,
        "options": vars(build_options(TASKS[trial.task], dict(trial.options))),
    }
    values = spelling.former(values)  # the streams of existing simulated studies are named by it
    return json.dumps({name: value for name, value in values.items() if name not in _IDENTITY_WITHOUT}, sort_keys=True)


def _kind(trial: TrialConfig, truth: Truth) -> str:
    """Return the kind of a trial that does not fail, drawn with its declared rate; cells of a seed draw alike."""
    normal = _normal(trial, "kind", truth)
    uniform = 0.5 * math.erfc(-normal / math.sqrt(2))
    for name, rate in response.kind_rates(trial, truth).items():
        uniform -= rate
        if uniform < 0:
            return name
    return CONVERGED


def _shifts(trial: TrialConfig, truth: Truth) -> Shifts:
    if trial.task == RAW_PIXELS:
        return Shifts()
    seed = stream_seed(trial.seed, f"simulated/untrained/{trial.encoder}/{trial.width}")
    untrained = truth.random_init_sd * np.random.default_rng(seed).standard_normal()
    if trial.task == RANDOM_INIT:
        return Shifts(untrained=untrained)
    validation = truth.validation_sd * _normal(trial, "validation", truth)
    return Shifts(validation, truth.probe_sd * _normal(trial, "probe", truth), untrained)


def _normal(trial: TrialConfig, what: str, truth: Truth) -> float:
    """Return a standard normal of which `seed_share` of the variance is shared by all cells of a task and seed."""
    seeds = (stream_seed(trial.seed, f"simulated/{what}/{key}") for key in (trial.task, identity(trial)))
    shared, own = (np.random.default_rng(seed).standard_normal() for seed in seeds)
    return math.sqrt(truth.seed_share) * shared + math.sqrt(1 - truth.seed_share) * own


def _accuracy(trial: TrialConfig, kind: str, dataset: str, truth: Truth, shifts: Shifts) -> float:
    """Return the accuracy that a linear probe on all annotated images would have on infinitely many."""
    base = truth.dataset(dataset)
    if trial.task == RAW_PIXELS:
        return base.raw_pixels
    untrained = base.random_init + base.scale * (response.by_encoder(trial, truth) + shifts.untrained)
    if trial.task == RANDOM_INIT:
        return untrained
    if kind == DIVERGED and response.lr_ratio(trial, truth) >= DIVERGED_FOR_GOOD:
        return math.nan
    if kind in (DIVERGED, COLLAPSED):
        return LOST_PROBE
    if kind == AT_CHANCE:
        return untrained + base.scale * truth.nothing_learned
    assert kind in (OVERFIT, STILL_IMPROVING, CONVERGED)
    return base.random_init + base.scale * (response.gain(trial, truth) + shifts.probe)


def _expected_of(trial: TrialConfig, kind: str, metric: str, truth: Truth) -> float:
    """Return the mean of a metric over the seeds of one kind."""
    if metric.startswith("probe/") and metric.count("/") > 1:  # else an online probe's; a data set's name may hold any
        dataset, _, name = metric.removeprefix("probe/").rpartition("/")
        accuracy = _accuracy(trial, kind, dataset, truth, Shifts())
        means = _result_means(accuracy, truth) if is_labeled(dataset) else {}
        if names := mask_names(dataset):
            means |= _mask_means(accuracy, names)
        if name in means:
            return means[name]
        raise ConfigError(f"no result {metric!r}; {suggestion(name, means)}")
    if kind:
        course = course_of(trial, kind, truth, labeled=is_labeled(trial.dataset))
        metrics = expected_curve(course, _instrument(trial, _default_splits(trial.dataset))).metrics
        if metric in metrics:
            return float(metrics[metric][-1])
        raise ConfigError(f"{trial.task} on {trial.dataset} reports no {metric!r}; {suggestion(metric, metrics)}")
    raise ConfigError(f"{trial.task} is only probed and reports no {metric!r}")


def _result_means(accuracy: float, truth: Truth) -> dict[str, float]:
    """Return the mean of each final result of an encoder on which a linear probe has this accuracy."""
    train, knn = min(1.0, accuracy + truth.train_gap), knn_accuracy(accuracy)
    return {
        "linear": accuracy,
        "linear_top5": _top5(accuracy),
        "linear_train": train,
        "linear_train_top5": _top5(train),
        "weight_decay": WEIGHT_DECAY,
        "knn": knn,
        "knn_top5": _top5(knn),
    }


def _few_labels(trial: TrialConfig, accuracy: float) -> dict[str, float]:
    """Return what a probe and fine-tuning make of few labels where a probe on all labels has this accuracy."""
    found = {}
    for per_class in trial.labels_per_class:
        share = 1.0 if per_class is None else per_class / (per_class + HALF_LABELS)
        name, frozen = f"{labels_name(per_class)}_labels", 1 / N_CLASSES + (accuracy - 1 / N_CLASSES) * share
        found[f"linear/{name}"] = frozen
        if trial.task != RAW_PIXELS:
            found[f"fine_tuned/{name}"] = frozen + FINE_TUNING * share**2 * (1 - frozen)
            found[f"fine_tuned/{name}_step"] = float(trial.fine_tune_steps)
    return found


def _mask_means(accuracy: float, names: Sequence[str]) -> dict[str, float]:
    """Return what the segmentation probe says of an encoder on which a linear probe has this accuracy.

    All foreground classes have one IoU, which grows with the accuracy from 0 where that is chance.
    """
    foreground = OVERLAP * max(0.0, accuracy - 1 / N_CLASSES) if math.isfinite(accuracy) else math.nan
    background = BACKGROUND + (1 - BACKGROUND) * foreground
    ious = {name: foreground if index else background for index, name in enumerate(names)}
    miou = math.fsum(ious.values()) / len(names)
    return {
        "miou": miou,
        "pixel_accuracy": background,
        "miou_chance": BACKGROUND / len(names),
        "pixel_accuracy_chance": BACKGROUND,
        "miou_train": miou,
        "miou_weight_decay": WEIGHT_DECAY,
        **({} if math.isnan(miou) else {f"iou/{name}": iou for name, iou in ious.items()}),
    }


def _top5(top1: float) -> float:
    """Return a top-5 accuracy: 5 / K where top-1 is 1 / K, 1 where it is 1."""
    return 1 - (1 - top1) * (N_CLASSES - 5) / (N_CLASSES - 1)


def _instrument(trial: TrialConfig, splits: Splits) -> Instrument:
    """Return how the real Monitor would look at the trial."""
    batch = min(VALIDATION_BATCH, len(splits.pretext_validation))
    n_images = min(VALIDATION_IMAGES, len(splits.pretext_validation)) // batch * batch
    queries = splits.probe_validation if splits.labeled else None
    image_size = splits.pretext_train.image_size
    return Instrument(
        trial,
        n_train=trial.n_images or len(splits.pretext_train),
        n_validation=n_images * task_facts(trial, batch, image_size).samples_per_image,
        n_queries=0 if queries is None else min(PROBE_QUERIES, len(queries)),
        validation_batch=batch,
        image_size=image_size,
    )


@functools.lru_cache(maxsize=64)
def _default_splits(dataset: str) -> Splits:
    return load_splits(dataset)
