"""Runs a study from beginning to end, or goes on where an earlier driver stopped."""

from __future__ import annotations

import contextlib
import difflib
import importlib.metadata
import logging
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from analysis.data.frames import export
from analysis.data.load import load
from analysis.findings.findings import compute_findings, write_tables
from analysis.records import CONFIG_FILE, ENCODERS, FAILED, FINISHED, KILLED, read
from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from analysis.report import FIGURES, write_report
from study.config.schema import StudyConfig
from study.config.validation import check_config
from study.execution import cluster, resources
from study.execution.executor import Executor
from study.execution.journal import Journal
from study.execution.lock import DriverLock
from study.export.encoders import read_metadata, write_encoder
from study.export.mlflow_models import log_models
from study.export.recommended import write_recommended
from study.plan.estimate import sizes
from study.plan.feasibility import check_plan
from study.plan.history import History
from study.plan.phases import Plan
from study.tracking.sync import MlflowTracker
from trainables import files, simulated
from trainables.data import Splits, load_splits
from trainables.encoders import recalibrated
from trainables.errors import ConfigError, UserError
from trainables.ray_adapter.storage import CheckpointStore
from trainables.ray_adapter.trainable import trained_encoder
from trainables.training.monitor import calibration_images

EXAMPLES = 4  # images kept beside an encoder
TRACKING_PATIENCE_S, INTERRUPTED_PATIENCE_S = 60.0, 8.0  # for MLflow at the end, and of who wants to stop
PACKAGES = ("pretext-study", "torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pandas")

logger = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a study ended: its folder, the report, what was chosen for each task, and the trials that failed."""

    folder: Path
    report: Path
    chosen: dict[str, Any]
    failed: list[str] = field(default_factory=list)
    tracked: bool = True


def run_study(
    config: StudyConfig,
    output: Path,
    *,
    download: bool = False,
    fresh: bool = False,
    listeners: list[Callable[[dict[str, Any]], None]] | None = None,
    datasets: Mapping[str, Splits] | None = None,
) -> Outcome:
    """Run the study into `output/NAME`; what its journal says is done is not done again.

    fresh: move an earlier study of that name aside first.
    listeners: are called with every event of the journal, on the driver.
    datasets: what `load_datasets` returned, where that has been asked already.
    Raises ConfigError where the folder holds a study of another configuration or another process runs it, DataError
    for data that cannot be used, StorageError where what it writes finds no room. What is wrong with
    configuration or data is raised before the folder is touched.
    """
    plan = Plan(config, load_datasets(config, download=download) if datasets is None else datasets)
    check_plan(plan)
    with DriverLock(output, config.name) as lock:
        return _run(plan, open_folder(config, output, fresh=fresh), lock, listeners or [])


def _run(plan: Plan, folder: Path, lock: DriverLock, listeners: list[Callable[[dict[str, Any]], None]]) -> Outcome:
    config = plan.config
    cluster.connect(dashboard=config.workers > 1)
    if config.storage is None and cluster.is_multi_node():
        raise ConfigError(
            f"storage: the cluster has several nodes, which cannot all reach {folder}; "
            "name a shared folder or a URI, for example --set storage=s3://BUCKET/studies"
        )
    resources.check(config.resources, config.workers)
    history, journal = History.read(folder), Journal(folder)
    journal.listeners += [history.observe, *listeners]
    tracker = MlflowTracker(folder, config.tracking_uri, finish=lambda: log_models(folder, config.tracking_uri))
    tracker.start()
    interrupted = False
    try:
        _start(journal, plan)
        executor = Executor(plan, folder, journal, history)
        for name, run in _phases(plan, executor, history):
            if name not in history.outcomes:
                journal.append("phase_started", phase=name)
                journal.append("phase_ended", phase=name, outcome=run())
        with files.storing(folder):
            export(folder)
            write_recommended(folder, config, history.outcomes[CONFIRM]["chosen"])
            findings = compute_findings(load(folder))
            write_tables(folder, findings)
            report = write_report(folder, findings)
            if not config.simulate:
                _write_encoders(plan, history, executor, folder)
        journal.append("study_ended", status=FINISHED)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if not lock.lost:  # else the journal is another driver's
            with contextlib.suppress(OSError, UserError):  # what stopped the study is told, and not this
                journal.append("study_ended", status=KILLED if interrupted else FAILED)
        raise
    finally:
        journal.close()
        tracked = tracker.close(INTERRUPTED_PATIENCE_S if interrupted else TRACKING_PATIENCE_S)
    chosen = history.outcomes[CONFIRM]["chosen"]
    return Outcome(folder, report, chosen, [record.trial.trial_id for record in history.failed()], tracked)


def _phases(plan: Plan, executor: Executor, history: History) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """Return the phases in order: each runs its trials and returns its outcome."""

    def baselines() -> dict[str, Any]:
        executor.run(plan.baselines(), BASELINES)
        return {}

    def search() -> dict[str, Any]:
        executor.search(*plan.config.tasks)
        ranking = {task: plan.best_searched(history, task) for task in plan.config.tasks}
        return {"best": {task: [record.trial.trial_id for record in records] for task, records in ranking.items()}}

    def confirm() -> dict[str, Any]:
        executor.run(plan.confirm(history), CONFIRM)
        return {"chosen": plan.chosen(history)}

    def ablate() -> dict[str, Any]:
        executor.run(plan.ablate(history), ABLATE)
        return {"designs": plan.designs(history)}

    def evaluate() -> dict[str, Any]:
        executor.run(plan.evaluate(history), EVALUATE)
        return {}

    phases = {BASELINES: baselines, SEARCH: search, CONFIRM: confirm, ABLATE: ablate, EVALUATE: evaluate}
    if not plan.config.ablate.designs:
        del phases[ABLATE]
    return list(phases.items())


def _write_encoders(plan: Plan, history: History, executor: Executor, folder: Path) -> None:
    """Write the encoder of each task's best confirmed trial to `encoders/TASK`, where it is not there yet.

    It is the encoder that the probes saw: its BatchNorm statistics are those of whole images.
    """
    splits = plan.datasets[plan.config.dataset]
    for task, choice in history.outcomes[CONFIRM]["chosen"].items():
        best = (max if choice["mode"] == "max" else min)(zip(choice["values"], choice["trial_ids"], strict=True))[1]
        trial, own = history.trials[best].trial, folder / ENCODERS / task
        if read_metadata(own).get("trial_id") == best:
            continue
        store = CheckpointStore(executor.shared.checkpoints)
        encoder = trained_encoder(trial.replace(init_from=best), store, splits)
        encoder = recalibrated(encoder, calibration_images(splits, torch.device("cpu")))
        about = {"name": trial.encoder, "width": trial.width, "image_size": splits.pretext_train.image_size}
        about |= {"study": plan.config.name, "trial_id": best, "step": trial.budget_steps}
        write_encoder(own, encoder, about, splits.pretext_validation.images[:EXAMPLES])


def open_folder(config: StudyConfig, output: Path, *, fresh: bool = False) -> Path:
    """Return the study's folder, with its configuration in it. Raises ConfigError where another study lies there."""
    folder = output / config.name
    file = folder / CONFIG_FILE
    if fresh and folder.exists():
        aside = folder.with_name(f"{folder.name}.{datetime.now():%Y%m%d-%H%M%S-%f}")
        folder.rename(aside)
        logger.warning("moved the earlier study to %s", aside)
    # The journal's, not the file's: who edits the file and runs the study from it would compare it with itself.
    started = next(read(folder), None)
    earlier = check_config(started["config"]) if started else config
    if earlier.config_hash != config.config_hash:
        raise ConfigError(
            f"{folder} holds a study of another configuration:\n{_difference(earlier, config)}\n"
            "Give this one another name (--set name=...), or --fresh to move the earlier one aside"
        )
    files.remove_partial(folder, folder / FIGURES)
    files.write(file, config.to_yaml().encode())
    return folder


def load_datasets(
    config: StudyConfig, *, download: bool = False, load: Callable[..., Splits] = load_splits
) -> dict[str, Splits]:
    """Return the splits of every data set that the study trains on or probes.

    load: what reads one of them, for example a `load_splits` that remembers what it has read.
    """
    root = Path(config.data_root).expanduser() if config.data_root else None
    names = dict.fromkeys([config.dataset, *(config.evaluate.datasets or [])])
    if config.simulate:
        return {
            name: simulated.load_splits(
                name, image_size=config.image_size, max_train=config.max_train, seed=config.seed
            )
            for name in names
        }
    return {
        name: load(
            name,
            root=root,
            image_size=config.image_size if name == config.dataset else None,
            max_train=config.max_train,
            seed=config.seed,
            download=download,
            on_bad_image=config.on_bad_image,
            resize=config.resize,
        )
        for name in names
    }


def _start(journal: Journal, plan: Plan) -> None:
    config = plan.config
    journal.append(
        "study_started",
        study=config.name,
        config=config.model_dump(mode="json"),
        config_hash=config.config_hash,
        git_commit=_git_commit(),
        versions={package: _version(package) for package in PACKAGES} | {"python": platform.python_version()},
        datasets={name: describe(splits) for name, splits in plan.datasets.items()},
        plan={size.phase: {"trials": size.trials, "steps": sum(size.steps.values())} for size in sizes(plan)},
        objectives={task: list(plan.metric(task)) for task in config.tasks},
    )


def describe(splits: Splits) -> dict[str, Any]:
    """Return what the journal keeps of a data set: fingerprint, sizes and class names."""
    tables = {
        "pretext_train": splits.pretext_train,
        "pretext_validation": splits.pretext_validation,
        "probe_train": splits.probe_train,
        "probe_validation": splits.probe_validation,
        "test": splits.test,
    }
    return {
        "fingerprint": splits.fingerprint,
        "image_size": splits.pretext_train.image_size,
        "n_classes": splits.pretext_train.n_classes,
        "class_names": list(splits.pretext_train.class_names),
        "counts": {name: 0 if table is None else len(table) for name, table in tables.items()},
    }


def _difference(earlier: StudyConfig, now: StudyConfig) -> str:
    lines = difflib.unified_diff(earlier.to_yaml().splitlines(), now.to_yaml().splitlines(), "there", "now", n=0)
    return "\n".join(line for line in lines if not line.startswith("@@"))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from, None for an installed copy."""
    folder = Path(__file__).resolve().parent
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
