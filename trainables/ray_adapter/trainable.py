"""The Tune trainable: one trial, or several as one network, in a Tune actor, the loop hosted by Ray Train.

With one worker, Ray Train's local mode runs the loop in the Tune actor itself, which Tune reuses from trial to trial:
starting a worker group would take longer than a small trial trains. With several, the Tune function drives a Ray Train
worker group, and `TuneReportCallback` carries the reports of its first worker.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed
from ray import tune
from ray.exceptions import RayError
from ray.train import RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from trainables import plugins, simulated
from trainables.allocator import keep_freed_memory
from trainables.data.table import Splits
from trainables.devices import device_of
from trainables.distributed import synchronize_batchnorm
from trainables.encoders import Encoder
from trainables.errors import CheckpointError, FusionError, StorageError, UserError, first_line
from trainables.per_image import Evaluation
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.ray_adapter.messages import Message, Unfused, Unrecoverable, to_result
from trainables.ray_adapter.reporter import Reporter, Send
from trainables.ray_adapter.storage import CheckpointStore
from trainables.training import checkpoint
from trainables.training.fused import Job, fit_fused, fuses_faster
from trainables.training.loop import Worker, build_task, fit
from trainables.trial import TrialConfig, is_baseline

STATE_FILE = "state.pt"
GROUP = "group"  # key of a Tune configuration
# How often Ray Train polls its workers, in seconds; a report waits for the next poll.
POLL_INTERVAL = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
TRANSIENT_ERRORS = (  # errors of the machine, which a restart may avoid
    *(OSError, MemoryError, RayError, TrainingFailedError),
    *(torch.OutOfMemoryError, torch.AcceleratorError, torch.distributed.DistError),
)


@dataclass(frozen=True)
class Shared:
    """Data and settings that all trials of a phase share.

    Attributes:
        datasets: Object reference of each data set's Splits, stored once; trials read them without a copy.
        checkpoints: Root of the checkpoint store.
        objectives: Per task, the metric that its search optimizes, and `max` or `min`. Other tasks optimize their
            primary metric.
        bases: Per task, the TrialConfig whose fields a sampled configuration replaces; empty for listed trials.
        storage_token: Token that the driver has written to `checkpoints`, with which other nodes check their access.
        driver_node_id: Ray's id of the driver's node.
        resources: Resources that one worker reserves on its node, by Ray's names.
        labels: Labels that a worker's node must have.
        population_based: Whether trials exchange their states, as Tune checkpoints (PBT).
        train_storage: Path or URI where Ray Train keeps the runs of worker groups.
        simulate: Whether trials are simulated by `trainables.simulated` and train nothing.
        plugins: Plug-ins of the study, which every worker loads before its trial.
        weights: Object reference of the tensors in each file of weights, by the hash of the file.
        compare_fused: Whether to train trials as one network only where that is measured to be faster.
    """

    datasets: Mapping[str, Any]
    checkpoints: str
    objectives: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    bases: Mapping[str, TrialConfig] = field(default_factory=dict)
    storage_token: str = ""
    driver_node_id: str = ""
    resources: Mapping[str, float] = field(default_factory=lambda: {"CPU": 1.0})
    labels: Mapping[str, str] = field(default_factory=dict)
    population_based: bool = False
    train_storage: str = ""
    simulate: bool = False
    plugins: tuple[plugins.Plugin, ...] = ()
    weights: Mapping[str, Any] = field(default_factory=dict)
    compare_fused: bool = False


def trials_of(config: Mapping[str, Any], bases: Mapping[str, TrialConfig]) -> list[TrialConfig]:
    """Return the trials of a Tune configuration: one, or those under GROUP, which are trained as one network."""
    return [TrialConfig.from_dict(each) for each in config[GROUP]] if GROUP in config else [trial_of(config, bases)]


def trial_of(config: Mapping[str, Any], bases: Mapping[str, TrialConfig]) -> TrialConfig:
    """Return the TrialConfig of a Tune configuration.

    Args:
        config: Either a whole TrialConfig under `trial`, or a `task` and the fields of its base to replace. `option`
            and `augmentation` are nested and are merged.
        bases: The trial of each task whose fields are replaced.
    """
    if "trial" in config:
        return TrialConfig.from_dict(config["trial"])
    changes = dict(config)
    base = bases[changes.pop("task")]
    options = {**dict(base.options), **changes.pop("option", {})}
    policy = {**dict(base.augmentation), **changes.pop("augmentation", {})}
    return base.replace(**changes, options=options, augmentation=policy)


def run_trial(config: dict[str, Any], *, shared: Shared) -> None:
    """Run one trial, or a group of trials as one network, as a Tune function.

    An error that a restart would repeat is announced by an Unrecoverable message before it is raised. Otherwise Tune
    would restart the trial, as it does after the death of its process.

    Args:
        config: Tune configuration; see `trials_of`.
        shared: Data and settings of the phase.
    """
    try:
        for plugin in shared.plugins:
            plugins.load(plugin)
        trials = trials_of(config, shared.bases)
        trial = trials[0]
        if not trial.trains or trial.workers == 1 or shared.simulate:
            TorchTrainer(
                lambda: _run_fused(trials, shared) if len(trials) > 1 else _run_here(trial, shared),
                scaling_config=ScalingConfig(num_workers=0),
            ).fit()
        else:
            _run_workers(trial, shared)
    except Exception as error:
        if not _is_transient(error):
            tune.report(to_result(Unrecoverable()))
        raise


def _is_transient(error: Exception) -> bool:
    """Return whether a restart may help. Everything in a trial is seeded, so its own errors would recur."""
    if isinstance(error, WorkerGroupError):  # errors of other kinds may result from another worker's death
        return not any(isinstance(failure, UserError) for failure in error.worker_failures.values())
    return isinstance(error, TRANSIENT_ERRORS)


def _run_here(trial: TrialConfig, shared: Shared) -> None:
    """Run a whole trial in this process."""
    device, store = _prepare_process(shared), _store(shared)
    reporter = _reporter(trial, shared, store, _send_to_tune)
    datasets = {name: ray.get(shared.datasets[name]) for name in {trial.dataset, *trial.probe_datasets}}
    if shared.simulate:
        if trial.trains:
            simulated.fit(trial, datasets[trial.dataset], reporter.report, resume=reporter.resume())
        reporter.finish(simulated.evaluate(trial, datasets))
        return
    if is_baseline(trial.task):
        table = datasets[trial.dataset].pretext_train
        encoder = baseline_encoder(trial, table.image_size, table.n_channels, _weights(trial, shared))
    elif trial.init_from:
        encoder = trained_encoder(trial, store, datasets[trial.dataset])
    else:
        inherited = _inherited_state()
        resume = reporter.resume() if inherited is None else inherited
        given = {"resume": resume, "weights": _weights(trial, shared)}
        encoder = fit(trial, datasets[trial.dataset], reporter.report, worker=Worker(device), **given)
    reporter.finish(evaluate(trial, encoder, datasets, device))


def _run_fused(trials: list[TrialConfig], shared: Shared) -> None:
    """Train trials as one network in this process and probe each; if that fails, they end without results."""
    device, store = _prepare_process(shared), _store(shared)
    reporters = [_reporter(trial, shared, store, _send_to_tune, member=i) for i, trial in enumerate(trials)]
    names = {trials[0].dataset}.union(*(trial.probe_datasets for trial in trials))
    datasets = {name: ray.get(shared.datasets[name]) for name in names}
    splits = datasets[trials[0].dataset]
    try:
        if shared.compare_fused and not fuses_faster(trials, splits, device):
            raise FusionError("a step of each takes less time")
        jobs = [
            Job(trial, reporter.report, reporter.resume(), _weights(trial, shared))
            for trial, reporter in zip(trials, reporters, strict=True)
        ]
        encoders = fit_fused(jobs, splits, device=device)
        for trial, encoder, reporter in zip(trials, encoders, reporters, strict=True):
            reporter.finish(evaluate(trial, encoder, datasets, device))
    except StorageError:
        raise
    except Exception as error:
        if _is_transient(error) and not isinstance(error, torch.OutOfMemoryError):
            raise
        tune.report(to_result(Unfused(reason=first_line(error))))


def _run_workers(trial: TrialConfig, shared: Shared) -> None:
    """Drive a worker group, which trains the encoder; its first worker probes it."""
    os.environ.setdefault(*POLL_INTERVAL)
    TorchTrainer(
        _worker_loop,
        train_loop_config={"trial": trial.to_dict(), "shared": shared},
        scaling_config=ScalingConfig(
            num_workers=trial.workers,
            use_gpu="GPU" in shared.resources,
            resources_per_worker=dict(shared.resources),
            label_selector=dict(shared.labels) or None,  # type: ignore[call-arg]  # Ray has two classes of that name
        ),
        run_config=RunConfig(
            name=trial.trial_id,
            storage_path=shared.train_storage,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # Ray has two classes of that name
        ),
    ).fit()


def _worker_loop(config: dict[str, Any]) -> None:
    """Run one worker of a group: its share of every batch under DistributedDataParallel."""
    trial, shared = TrialConfig.from_dict(config["trial"]), config["shared"]
    for plugin in shared.plugins:
        plugins.load(plugin)
    _prepare_process(shared)
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    worker = Worker(device, context.get_world_rank(), context.get_world_size(), _distributed)
    reporter = _reporter(trial, shared, _store(shared), _send_to_train, saves=worker.rank == 0)
    datasets = {name: ray.get(shared.datasets[name]) for name in {trial.dataset, *trial.probe_datasets}}
    given = {"resume": reporter.resume(), "weights": _weights(trial, shared)}
    encoder = fit(trial, datasets[trial.dataset], reporter.report, worker=worker, **given)
    reporter.finish(evaluate(trial, encoder, datasets, device) if worker.rank == 0 else Evaluation())


def _prepare_process(shared: Shared) -> torch.device:
    """Limit the threads of this process to its CPUs, keep its memory, and return its device."""
    torch.set_num_threads(max(1, math.floor(shared.resources["CPU"])))
    keep_freed_memory()
    return device_of(shared.resources)


def _weights(trial: TrialConfig, shared: Shared) -> dict[str, torch.Tensor] | None:
    """Return the tensors that the trial's encoder begins with; None for random ones."""
    return ray.get(shared.weights[trial.weights]) if trial.weights else None


def _reporter(
    trial: TrialConfig, shared: Shared, store: CheckpointStore, send: Send, *, saves: bool = True, member: int = 0
) -> Reporter:
    objective, sends_state = shared.objectives.get(trial.task), shared.population_based
    return Reporter(trial, store, send, objective=objective, saves=saves, sends_state=sends_state, member=member)


def _store(shared: Shared) -> CheckpointStore:
    """Return the checkpoint store; raise StorageError on a node that does not reach it."""
    store = CheckpointStore(shared.checkpoints)
    if shared.storage_token and ray.get_runtime_context().get_node_id() != shared.driver_node_id:
        store.check(shared.storage_token, node=ray.util.get_node_ip_address())
    return store


def trained_encoder(trial: TrialConfig, store: CheckpointStore, splits: Splits) -> Encoder:
    """Return the encoder that the trial `trial.init_from` has trained.

    Args:
        trial: Trial that evaluates the encoder.
        store: Checkpoints of the study.
        splits: Data set that the encoder was trained on.

    Raises:
        CheckpointError: That trial has no checkpoint in `store`, or its last one is damaged: the one before it has an
            encoder of fewer steps, which the trial's results do not describe.
    """
    n_damaged = len(store.damaged)
    state = store.load(trial.init_from)
    if state is not None and len(store.damaged) > n_damaged:
        raise CheckpointError(
            f"the last checkpoint of trial {trial.init_from} under {store.root} is damaged, and the one before it has "
            "the encoder of an earlier step. Restore the file and run the same command again, or run the study with "
            "--fresh; `python -m analysis report` shows the results so far"
        )
    if state is None:
        raise CheckpointError(
            f"no checkpoint of trial {trial.init_from} under {store.root}; it is needed to evaluate the encoder. If "
            "`storage` has changed, set it back, or move its content to the new place, and run the same command again. "
            "Otherwise run the study with --fresh to train it again"
        )
    table = splits.pretext_train
    task = build_task(trial, table.image_size, table.n_channels)
    task.load_state_dict(state["task"])
    return task.encoder


def _send_to_tune(message: Message, state: bytes | None) -> None:
    if state is None:
        tune.report(to_result(message))
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(state)
        tune.report(to_result(message), checkpoint=tune.Checkpoint.from_directory(folder))


def _send_to_train(message: Message, state: bytes | None) -> None:
    ray.train.report(to_result(message))


def _inherited_state() -> dict[str, Any] | None:
    """Return the state that population-based training copies from a better trial, if there is one."""
    inherited = tune.get_checkpoint()
    if inherited is None:
        return None
    with inherited.as_directory() as folder:
        path = Path(folder, STATE_FILE)
        return checkpoint.from_bytes(path.read_bytes(), where=str(path))


def _distributed(task: torch.nn.Module) -> torch.nn.Module:
    return ray.train.torch.prepare_model(synchronize_batchnorm(task), move_to_device=False)
