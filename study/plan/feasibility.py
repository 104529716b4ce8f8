"""Checks that a study's configuration and its data fit together, before anything runs.

`study.config.validation` checks the configuration by itself, without data.
"""

from __future__ import annotations

import logging

import numpy as np
import torch

from study.config.names import TaskName
from study.plan.given_weights import check_weights
from study.plan.phases import Plan
from study.plan.small_sets import left_out_batch_sizes
from study.plan.unsearched import set_but_searched_lines
from study.plan.without_effect import lines_without_effect
from trainables.augmentation import Augmentation
from trainables.augmentation.ops import color_ops
from trainables.data.table import as_tensor
from trainables.encoders import Encoder
from trainables.errors import ConfigError, first_line, suggestion
from trainables.probes.health import HEALTH_METRICS
from trainables.rng import generator
from trainables.tasks import TASKS, PretextTask, build_options
from trainables.training.batches import batch_size_problem
from trainables.training.loop import build_task
from trainables.trial import ONLINE_SCORES, TrialConfig

logger = logging.getLogger(__name__)


def check_plan(plan: Plan) -> None:
    """Check that every phase of the plan can run on its data.

    Raises:
        ConfigError: The configuration asks for images, batches, labels or a metric that the data cannot provide.
    """
    config, splits = plan.config, plan.datasets[plan.config.dataset]
    available, n_images = len(splits.pretext_train), plan.n_images
    if n_images > available:
        raise ConfigError(f"n_images = {n_images}, but {config.dataset} has {available} training images")
    _say_left_out(plan)
    for line in (*lines_without_effect(config), *set_but_searched_lines(plan)):
        logger.warning(line)
    for task in config.tasks:
        base, sizes = plan.search_base(task), plan.batch_sizes(task)
        for size in sizes:
            if problem := batch_size_problem(size, n_images=n_images, workers=config.workers):
                raise ConfigError(f"{task}: batch_size {size} {problem}, {_smaller_batches(n_images, config.workers)}")
        _check_cells(plan, task, sizes, available)
        network = _task_of(plan, base)
        _check_metric(plan, network)
        _check_probes(plan, task)
        _check_stages(plan, network.encoder)
        _check_inputs(plan, base, network)
        _check_options(plan, base, network)
    for name in plan.probed:
        if not plan.datasets[name].annotated:
            unused = "" if config.evaluate.segmentation else "; evaluate.segmentation: false leaves masks out"
            raise ConfigError(f"evaluate.datasets: {name} has neither labels nor masks to probe with{unused}")
    check_weights(config, splits.pretext_train)
    _check_labels(plan)
    _say_without_labels(plan)
    _check_channels(plan)


def _say_left_out(plan: Plan) -> None:
    """Log one line about the default batch sizes that are not tried."""
    left_out = {task: left_out_batch_sizes(plan.config, task, plan.n_images) for task in plan.config.tasks}
    if any(left_out.values()):
        listed = "; ".join(f"{task} {', '.join(map(str, sizes))}" for task, sizes in left_out.items() if sizes)
        logger.warning("default batch sizes above the %d training images are left out: %s", plan.n_images, listed)


def _smaller_batches(n_images: int, workers: int) -> str:
    size = max(2 * workers, n_images // 4 // workers * workers)
    return f"for example --set 'search.space.batch_size=[{size}]'"


def _task_of(plan: Plan, trial: TrialConfig) -> PretextTask:
    table = plan.datasets[trial.dataset].pretext_train
    return build_task(trial, table.image_size, table.n_channels)


def _check_channels(plan: Plan) -> None:
    """Raise ConfigError if a probed data set has other channels, or the study varies an op that needs color.

    One line of the log says which ops are off.
    """
    config = plan.config
    n_channels = plan.datasets[config.dataset].pretext_train.n_channels
    for name in plan.probed:
        if (other := plan.datasets[name].pretext_train.n_channels) != n_channels:
            raise ConfigError(
                f"evaluate.datasets: {name} has {other} channels, but the encoder trains on the {n_channels} of "
                f"{config.dataset}; leave it out"
            )
    if plan.in_color:
        return
    off = color_ops()
    for task in config.tasks:
        varied = [*(config.ablate.ops or []), *(name.removeprefix("augmentation/") for name in config.space(task))]
        for op in off:
            if op in varied:
                raise ConfigError(
                    f"{task}: the op {op} needs red, green and blue, but {config.dataset} has {n_channels} channels; "
                    "take it out of ablate.ops and search.space"
                )
    logger.warning(
        "%s: %d channels that are not red, green and blue: %s left out; color_jitter changes brightness and contrast "
        "only; gray patches of context prediction are the mean of the channels",
        config.dataset,
        n_channels,
        " and ".join(f"the op {op} is" for op in off),
    )


def _say_without_labels(plan: Plan) -> None:
    """Log one line about what a study without labels can tell, and what it cannot."""
    if not plan.probed:
        logger.warning(
            "%s has no labels: the study can tell whether each task is learned and which settings learn it best, but "
            "not which task or encoder is best for your classes; for that, put images into one folder per class, or "
            "name a labeled data set in evaluate.datasets",
            plan.config.dataset,
        )


def _check_stages(plan: Plan, encoder: Encoder) -> None:
    """Raise ConfigError if a probe needs the feature maps of an encoder that has no stages."""
    evaluate = plan.config.evaluate
    masked = evaluate.segmentation and any(plan.datasets[name].masked for name in plan.probed)
    if not plan.config.simulate and (masked or evaluate.probe_layers == "all"):
        encoder.check_stages()


@torch.no_grad()
def _check_inputs(plan: Plan, trial: TrialConfig, network: PretextTask) -> None:
    """Raise ConfigError if an encoder from outside this package cannot process what a task makes of two images."""
    table = plan.datasets[trial.dataset].pretext_train
    if plan.config.simulate or network.encoder.pools_last_stage or len(table) < 2:
        return
    augmentation = Augmentation(dict(trial.augmentation), trial.augmentation_strength)
    batch = network.eval().draw(as_tensor(table.images[:2]), augmentation, generator("cpu", trial.seed, "check"))
    try:
        network(batch)
    except Exception as error:
        raise ConfigError(
            f"encoder.name = {trial.encoder!r}: cannot process the inputs of {trial.task}, {list(batch.inputs.shape)}, "
            f"made of images of {table.image_size} px ({first_line(error)}); set a larger image_size"
        ) from error


def _check_options(plan: Plan, base: TrialConfig, network: PretextTask) -> None:
    """Raise ConfigError if a task cannot be built with options that its search may draw.

    These are each value, or both ends of a range, beside the first of all other options, and the last of all options.
    """
    kind = type(network)
    ends = {name: domain.grid(2) for name, domain in plan.space(base.task).items() if name.startswith("option/")}
    first, last = ({name: values[place] for name, values in ends.items()} for place in (0, -1))
    one_by_one = ({name: value} for name, values in ends.items() for value in values[1:])
    points = {base.with_values(first | values): values for values in (first, *one_by_one, last)}
    points.pop(base, None)  # the base is `network` already
    for trial, values in points.items():
        try:
            with TASKS.errors_in_one_line(base.task):
                kind(network.encoder, build_options(kind, dict(trial.options)), network.image_size, base.seed)
        except ConfigError as error:
            shown = ", ".join(f"{name} = {value}" for name, value in values.items())
            raise ConfigError(
                f"{base.task}: the search cannot try {shown} ({error}); leave that out of search.space"
            ) from error


def _check_labels(plan: Plan) -> None:
    """Raise ConfigError if the final evaluation needs labels and there are none, or too few of a class."""
    asked = plan.config.evaluate.labels_per_class
    labeled = [name for name in plan.probed if plan.datasets[name].labeled]
    if asked and not labeled:
        raise ConfigError(
            f"evaluate.labels_per_class = {asked}: no data set with labels is probed; name one, for example "
            "--set 'evaluate.datasets=[cifar10]'"
        )
    most = max((number or 0 for number in asked), default=0)
    for table in (plan.datasets[name].probe_train for name in labeled):
        assert table is not None
        assert table.labels is not None
        counts = np.bincount(table.labels, minlength=table.n_classes)
        if most > counts.min():
            raise ConfigError(
                f"evaluate.labels_per_class: {most}, but {table.name} has only {counts.min()} labeled training "
                f"images of {table.class_names[counts.argmin()]}; use at most that, or null for all"
            )


def _check_cells(plan: Plan, task: TaskName, batch_sizes: list[int], available: int) -> None:
    """Raise ConfigError if a cell needs more images than there are, or has fewer images than a batch needs."""
    base = plan.search_base(task).replace(batch_size=max(batch_sizes))
    for cell in plan.config.ablation(base)[0]:
        if (cell.n_images or 0) > available:
            raise ConfigError(
                f"ablate: {task}, cell {cell.cell!r}: n_images = {cell.n_images}, but {cell.dataset} has "
                f"{available} training images"
            )
        n_images = cell.n_images or available
        if problem := batch_size_problem(cell.batch_size, n_images=n_images, workers=cell.workers):
            own = cell.batch_size != base.batch_size
            remedy = "leave it out of ablate" if own else _smaller_batches(n_images, cell.workers)
            raise ConfigError(f"ablate: {task}, cell {cell.cell!r}: batch_size {cell.batch_size} {problem}, {remedy}")
        _task_of(plan, cell)


def _check_metric(plan: Plan, network: PretextTask) -> None:
    """Raise ConfigError if trials of this task do not report the metric that the search optimizes."""
    parts = [f"{part}/{name}" for part in ("val", "train") for name in network.chance(1, training=True)]
    labeled = plan.datasets[plan.config.dataset].labeled
    known = [*(ONLINE_SCORES if labeled else []), *parts, *HEALTH_METRICS]
    metric, _ = plan.metric(network.name)
    if metric not in known:
        raise ConfigError(
            f"search.metric = {metric!r}: no such metric of {network.name} on {plan.config.dataset}; "
            f"{suggestion(metric, known)}"
        )


def _check_probes(plan: Plan, task: TaskName) -> None:
    """Raise ConfigError if a scheduler compares trials by their features before their first probe."""
    config, (metric, _) = plan.config, plan.metric(task)
    every, scheduler = config.steps_between_probes, config.search.scheduler
    if scheduler == "none" or metric.startswith(("val/", "train/")):  # every report has these
        return
    if every and every > config.grace_period:
        raise ConfigError(
            f"probe_every = {every}: search.scheduler = {scheduler!r} compares trials of {task} by {metric} after "
            f"{config.grace_period} step{'s' * (config.grace_period > 1)}, before their first probe; use at most "
            f"{config.grace_period}, or a longer search.grace_period"
        )
