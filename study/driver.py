"""Driver: runs a study from beginning to end, or resumes it where an earlier driver stopped."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from analysis.data.frames import export
from analysis.data.load import load
from analysis.findings import compute_findings, write_tables
from analysis.records import (
    ENCODERS,
    FAILED,
    FINISHED,
    KILLED,
    Event,
    PhaseEnded,
    StudyEnded,
    read,
)
from analysis.records.layout import HEADLINE_FILE
from analysis.records.phases import CONFIRM
from analysis.report import write_report
from analysis.report.plain import Answer, answer
from study.config.schema import StudyConfig
from study.execution import cluster, resources
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.execution.lock import DriverLock
from study.execution.memory import check_memory
from study.execution.sequence import run_phases
from study.export.encoders import Reading, read_metadata, write_encoder
from study.export.recommended import write_recommended
from study.folder import as_begun, check_same_study, has_begun, open_folder, warn_of_other_data
from study.plan.feasibility import check_plan
from study.plan.history import History
from study.plan.phases import Plan
from study.plan.ranking import ranked
from study.provenance import study_started
from study.timing.budget import TimeBudget, budgeted
from study.tracking.sync import MlflowTracker
from trainables import files, simulated
from trainables.data import Splits, load_splits
from trainables.data.leaks import check_other_set
from trainables.encoders import calibration_images, recalibrated
from trainables.errors import ConfigError, UserError
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import trained_encoder

N_EXAMPLES = 4  # images stored with an encoder
# Seconds to wait for MLflow at the end of a study, and after Ctrl-C.
TRACKING_PATIENCE_S, INTERRUPTED_PATIENCE_S = 60.0, 8.0

Listener = Callable[[Event], None]

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """Outcome of a study.

    Attributes:
        folder: The study's folder.
        report: Path of the report.
        chosen: Per task, the configuration that the confirm phase chose.
        failed: Ids of the trials that failed.
        tracked: Whether MLflow has received everything.
        answer: What the study answers.
        n_trials: Number of trials.
        unfinished: Phases that the end of the time budget has left unfinished, which more hours continue.
    """

    folder: Path
    report: Path
    chosen: Mapping[str, Any]
    failed: list[str] = field(default_factory=list)
    tracked: bool = True
    answer: Answer | None = None
    n_trials: int = 0
    unfinished: list[str] = field(default_factory=list)


def run_study(
    config: StudyConfig,
    output: Path,
    *,
    download: bool = False,
    fresh: bool = False,
    listeners: Sequence[Listener] = (),
    datasets: Mapping[str, Splits] | None = None,
    say: Callable[[str], object] = logger.warning,
) -> Outcome:
    """Run a study in `output/NAME`, skipping everything that its journal records as done.

    An invalid configuration, unusable data or a cluster without room raises an error before the folder is touched.

    Args:
        config: The study's configuration.
        output: Parent of the study's folder.
        download: Whether to download missing data sets.
        fresh: Whether to move an earlier study of that name aside first.
        listeners: Called on the driver with every event of the journal.
        datasets: Splits from `load_datasets`; None to load them.
        say: Shows a line to the user: how a time budget has sized the study.

    Raises:
        ConfigError: The folder belongs to a study of another configuration, another process is running it, or the time
            budget is too short.
        DataError: A data set cannot be used.
        StorageError: A file cannot be written.
    """
    began, resumed = time.time(), not fresh and has_begun(output / config.name)
    if resumed:
        config = as_begun(config, output / config.name)
    plan = Plan(config, load_datasets(config, download=download) if datasets is None else datasets)
    check_plan(plan)
    if config.simulate and (unknown := [task for task in config.tasks if task not in simulated.TRUTH.tasks]):
        logger.warning("%s: no declared truth; simulated like any other task (Truth.other_task)", ", ".join(unknown))
    slots = _cluster_slots(config)
    plan, budget = budgeted(plan, began=began, resumed=resumed, slots=slots, say=say)
    with DriverLock(output, config.name) as lock:
        if not fresh:
            check_same_study(plan.config, output / config.name)  # before Ray starts, which takes seconds
        _check_cluster(plan, output / config.name, fresh=fresh)
        return _run(plan, open_folder(plan.config, output, fresh=fresh), lock, listeners, budget)


def _cluster_slots(config: StudyConfig) -> int | None:
    """Return how many trials a cluster that runs already has room for, if there is a time budget to size by it.

    None for a cluster that the study will start itself, on this machine.
    """
    if config.budget_hours is None or not cluster.is_running():
        return None
    cluster.connect()
    return resources.running_room(config.resources)


def _check_cluster(plan: Plan, folder: Path, *, fresh: bool) -> None:
    """Connect to the cluster and raise ConfigError if the plan cannot run on it; the study's folder is only read."""
    config = plan.config
    cluster.connect(dashboard=config.workers > 1)
    if config.storage is None and cluster.is_multi_node():
        raise ConfigError(
            f"storage: the cluster has several nodes, which cannot all reach {folder}; "
            "name a shared folder or a URI, for example --set storage=s3://BUCKET/studies"
        )
    concurrent = resources.slots(config)
    if fresh or next(read(folder, PhaseEnded), None) is None:
        check_memory(plan, concurrent)


def _run(plan: Plan, folder: Path, lock: DriverLock, listeners: Sequence[Listener], budget: TimeBudget) -> Outcome:
    config, history, journal = plan.config, History.read(folder), Journal(folder)
    plan = replace(plan, objectives=history.objectives)
    journal.listeners += [history.observe, *listeners]
    tracker = MlflowTracker(
        folder,
        config.tracking_uri,
        prepare=_mlflow_models,
        finish=lambda: _mlflow_models().log_models(folder, config.tracking_uri),
    )
    tracker.start()
    interrupted = False
    try:
        warn_of_other_data(folder, plan.datasets)
        journal.append(study_started(plan))
        executor = Executor(plan, folder, journal, history)
        unfinished = run_phases(plan, executor, history, budget)
        with files.storing(folder):
            report, answered = _write_results(plan, history, executor, folder)
        journal.append(StudyEnded(status=KILLED if unfinished else FINISHED))
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not lock.lost:  # otherwise the journal belongs to another driver by now
            with contextlib.suppress(OSError, UserError):  # the error that stopped the study is the one to report
                journal.append(StudyEnded(status=KILLED if interrupted else FAILED))
        raise
    finally:
        journal.close()
        tracked = tracker.close(INTERRUPTED_PATIENCE_S if interrupted else TRACKING_PATIENCE_S)
    failed = [record.trial.trial_id for record in history.failed()]
    return Outcome(folder, report, _chosen(history), failed, tracked, answered, len(history.trials), unfinished)


def _mlflow_models() -> ModuleType:
    """Return the module that logs models, which takes seconds to import."""
    from study.export import mlflow_models

    return mlflow_models


def _write_results(plan: Plan, history: History, executor: Executor, folder: Path) -> tuple[Path, Answer]:
    """Write the results of a study to its folder; return the path of the report, and its answer."""
    export(folder)
    write_recommended(folder, plan.config, _chosen(history))
    findings = compute_findings(load(folder))
    write_tables(folder, findings)
    answered = answer(findings, folder)
    report = write_report(folder, findings, answered, tracking_uri=plan.config.tracking_uri or "")
    files.write(folder / HEADLINE_FILE, "\n\n".join(answered.sentences).encode())
    if not plan.config.simulate:
        _write_encoders(plan, history, executor, folder)
    return report, answered


def _chosen(history: History) -> Mapping[str, Any]:
    """Return what the confirm phase chose for each task; empty before it has ended."""
    return history.outcomes.get(CONFIRM, {}).get("chosen", {})


def _write_encoders(plan: Plan, history: History, executor: Executor, folder: Path) -> None:
    """Write the encoder of each task's best confirmed trial to `encoders/TASK`, unless it is already there.

    The encoder is written as it was probed, with BatchNorm statistics of whole images.
    """
    splits = plan.datasets[plan.config.dataset]
    for task, choice in _chosen(history).items():
        confirmed = [history.trials[trial_id] for trial_id in choice["trial_ids"]]
        best = ranked(confirmed, choice["metric"], choice["mode"])[0]
        trial = best.trial
        target = folder / ENCODERS / task
        if read_metadata(target).get("trial_id") == trial.trial_id:
            continue
        store = CheckpointStore(executor.shared.checkpoints)
        encoder = trained_encoder(trial.replace(init_from=trial.trial_id), store, splits)
        encoder = recalibrated(encoder, calibration_images(splits, torch.device("cpu")))
        table = splits.pretext_train
        metadata = {"name": trial.encoder, "width": trial.width, "image_size": table.image_size}
        metadata |= {name: value for name, value in plan.config.encoder.inputs.items() if value}
        metadata["reading"] = Reading(plan.config.stack, table.intensity, plan.config.resize).to_dict()
        if plan.config.plugins:
            metadata["plugins"] = [each.model_dump() for each in plan.config.plugins]
        metadata |= {"study": plan.config.name, "trial_id": trial.trial_id, "step": best.step}
        write_encoder(target, encoder, metadata, splits.pretext_validation.images[:N_EXAMPLES])


def load_datasets(
    config: StudyConfig, *, download: bool = False, load: Callable[..., Splits] = load_splits
) -> dict[str, Splits]:
    """Return the splits of every data set that the study trains on or probes.

    Args:
        config: The study's configuration.
        download: Whether to download missing data sets.
        load: Function that loads one data set; a cached `load_splits` lets several studies share it.
    """
    root = files.expanded(config.data_root) if config.data_root else None
    names = dict.fromkeys([config.dataset, *(config.evaluate.datasets or [])])
    if config.simulate:
        loaded = {
            name: simulated.load_splits(
                name, image_size=config.image_size, max_train=config.max_train, seed=config.seed
            )
            for name in names
        }
    else:
        loaded = {
            name: load(
                name,
                root=root,
                image_size=config.image_size if name == config.dataset else None,
                max_train=config.max_train,
                seed=config.seed,
                download=download,
                on_bad_image=config.on_bad_image,
                resize=config.resize,
                stack=config.stack,
                window=config.window if name == config.dataset else None,
                on_small_image=config.on_small_image,
                group_pattern=config.group_pattern if name == config.dataset else None,
                leak=config.leak,
                split_rules=config.split_rules,
            )
            for name in names
        }
        for name in [*names][1:]:
            check_other_set(loaded[config.dataset].pretext_train, loaded[name], config.leak)
    for name, splits in loaded.items():
        intensity = splits.pretext_train.intensity
        if intensity is not None and (windows := intensity.describe()):
            logger.warning("%s: %s", name, windows)
    return loaded if config.evaluate.segmentation else {name: own.without_masks() for name, own in loaded.items()}
