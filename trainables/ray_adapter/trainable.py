"""The Tune trainable: one trial in a Tune actor, its loop hosted by Ray Train. The only file here that knows Ray.

With one worker, Ray Train's local mode runs the loop in the Tune actor itself, which Tune reuses from trial to
trial: starting a worker group would take longer than a small trial trains. With several, the Tune function drives a
Ray Train worker group, and `TuneReportCallback` carries the reports of its first worker.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
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

from trainables import simulated
from trainables.data.table import Splits
from trainables.distributed import synchronize_batchnorm
from trainables.encoders import Encoder
from trainables.errors import CheckpointError, UserError
from trainables.objective import OBJECTIVE, WORST, as_objective
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.ray_adapter.storage import CheckpointStore
from trainables.training import checkpoint
from trainables.training.loop import Report, Worker, build_task, fit
from trainables.trial import BASELINES, TrialConfig

STATE_FILE = "state.pt"
LOOK = ("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")  # how often Ray Train asks workers; a report waits until it does
PASSING = (  # errors of the machine, which a new start may not meet again
    *(OSError, MemoryError, RayError, TrainingFailedError),
    *(torch.OutOfMemoryError, torch.AcceleratorError, torch.distributed.DistError),
)


@dataclass(frozen=True)
class Shared:
    """What all trials of a phase share.

    datasets: object references of each data set's Splits, put once; a trial gets them without a copy.
    checkpoints: root of the checkpoint store.
    objectives: metric, and `max` or `min`, that the search of each task looks at; its primary metric for any other.
    bases: TrialConfig of each task, whose fields a sampled configuration replaces; none where trials are listed.
    storage_token, driver_node_id: what the driver has left in `checkpoints`, and the id of its node: other nodes look for it.
    resources, labels: what one worker takes of its node, by Ray's names, and the labels that its node must have.
    population_based: whether trials hand their state to one another (PBT), which then travels as Tune checkpoints.
    train_storage: path or URI where Ray Train keeps the runs of worker groups.
    simulate: whether trials are those of `trainables.simulated`, which train nothing.
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


def trial_of(config: Mapping[str, Any], bases: Mapping[str, TrialConfig]) -> TrialConfig:
    """Return the TrialConfig that a Tune configuration stands for.

    It either holds a whole one under `trial`, or names a `task` and replaces fields of its base; `option` and
    `augmentation` are nested and are merged.
    """
    if "trial" in config:
        return TrialConfig.from_dict(config["trial"])
    changes = dict(config)
    base = bases[changes.pop("task")]
    options = {**dict(base.options), **changes.pop("option", {})}
    policy = {**dict(base.augmentation), **changes.pop("augmentation", {})}
    return base.replace(**changes, options=options, augmentation=policy)


def run_trial(config: dict[str, Any], *, shared: Shared) -> None:
    """Run one trial as a Tune function.

    An error that would only come again is announced with a result `hopeless` before it is raised, since Tune would
    start the trial anew as after the death of its process.
    """
    trial = trial_of(config, shared.bases)
    try:
        if trial.task in BASELINES or trial.init_from or trial.workers == 1 or shared.simulate:
            TorchTrainer(
                lambda: _run_here(trial, shared),
                scaling_config=ScalingConfig(num_workers=0),
            ).fit()
        else:
            _run_workers(trial, shared)
    except Exception as error:
        if not _may_pass(error):
            tune.report({"step": 0, OBJECTIVE: WORST, "hopeless": True})
        raise


def _may_pass(error: Exception) -> bool:
    """Return whether a new start may help: everything in a trial is seeded, so what it raises it raises again."""
    if isinstance(error, WorkerGroupError):  # the other errors of a worker may be echoes of another one's death
        return not any(isinstance(failure, UserError) for failure in error.worker_failures.values())
    return isinstance(error, PASSING)


def _run_here(trial: TrialConfig, shared: Shared) -> None:
    """Run a whole trial in this process."""
    device = torch.device("cuda" if "GPU" in shared.resources and torch.cuda.is_available() else "cpu")
    torch.set_num_threads(max(1, math.floor(shared.resources["CPU"])))
    store = _store(shared)
    sender = _Sender(trial, shared, store, send=_send_to_tune)
    datasets = {name: ray.get(shared.datasets[name]) for name in {trial.dataset, *trial.probe_datasets}}
    if shared.simulate:
        if trial.task not in BASELINES and not trial.init_from:
            resume = sender.repeated(store.load(trial.trial_id))
            simulated.fit(trial, datasets[trial.dataset], sender.report, resume=resume)
        sender.finish(simulated.evaluate(trial, datasets))
        return
    if trial.task in BASELINES:
        encoder = baseline_encoder(trial, datasets[trial.dataset].pretext_train.image_size)
    elif trial.init_from:
        encoder = trained_encoder(trial, store, datasets[trial.dataset])
    else:
        resume = _inherited_state()
        if resume is None:
            resume = sender.repeated(store.load(trial.trial_id))
        encoder = fit(trial, datasets[trial.dataset], sender.report, worker=Worker(device), resume=resume)
    sender.finish(evaluate(trial, encoder, datasets, device))


def _run_workers(trial: TrialConfig, shared: Shared) -> None:
    """Drive a worker group, which trains, and probe its encoder on the first worker."""
    os.environ.setdefault(*LOOK)
    TorchTrainer(
        _worker_loop,
        train_loop_config={"trial": trial.to_dict(), "shared": shared},
        scaling_config=ScalingConfig(
            num_workers=trial.workers,
            use_gpu="GPU" in shared.resources,
            resources_per_worker=dict(shared.resources),
            label_selector=dict(shared.labels) or None,  # type: ignore[call-arg]  # Ray has two of that name
        ),
        run_config=RunConfig(
            name=trial.trial_id,
            storage_path=shared.train_storage,
            callbacks=[TuneReportCallback()],  # type: ignore[list-item]  # Ray has two of that name
        ),
    ).fit()


def _worker_loop(config: dict[str, Any]) -> None:
    """Run one worker of a group: its share of every batch under DistributedDataParallel."""
    trial, shared = TrialConfig.from_dict(config["trial"]), config["shared"]
    torch.set_num_threads(max(1, math.floor(shared.resources["CPU"])))
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    worker = Worker(device, context.get_world_rank(), context.get_world_size(), _distributed)
    store = _store(shared)
    sender = _Sender(trial, shared, store, send=_send_to_train, saves=worker.rank == 0)
    datasets = {name: ray.get(shared.datasets[name]) for name in {trial.dataset, *trial.probe_datasets}}
    resume = sender.repeated(store.load(trial.trial_id))
    encoder = fit(trial, datasets[trial.dataset], sender.report, worker=worker, resume=resume)
    sender.finish(evaluate(trial, encoder, datasets, device) if worker.rank == 0 else {})


def _store(shared: Shared) -> CheckpointStore:
    """Return the checkpoint store. Raises StorageError on a node that has come later and does not reach it."""
    store = CheckpointStore(shared.checkpoints)
    if shared.storage_token and ray.get_runtime_context().get_node_id() != shared.driver_node_id:
        store.check(shared.storage_token, node=ray.util.get_node_ip_address())
    return store


def trained_encoder(trial: TrialConfig, store: CheckpointStore, splits: Splits) -> Encoder:
    """Return the encoder that trial `init_from` has trained. Raises CheckpointError where its checkpoint is missing."""
    state = store.load(trial.init_from)
    if state is None:
        raise CheckpointError(
            f"no checkpoint of trial {trial.init_from} under {store.root}; it is needed to evaluate its encoder. "
            "Run the study with --fresh to train it again"
        )
    task = build_task(trial, splits.pretext_train.image_size)
    task.load_state_dict(state["task"])
    return task.encoder


class _Sender:
    """Turns the loop's reports into results: a checkpoint on storage first, then its metrics to Tune."""

    def __init__(
        self,
        trial: TrialConfig,
        shared: Shared,
        store: CheckpointStore,
        *,
        send: Callable[[dict[str, Any], bytes | None], None],
        saves: bool = True,
    ) -> None:
        self.trial, self.shared, self.store, self.saves = trial, shared, store, saves
        self._to_driver = send
        self.last: dict[str, Any] = {"step": 0, OBJECTIVE: WORST}
        self._reports: list[dict[str, Any]] = []  # so far, for the next checkpoint

    def report(self, report: Report) -> None:
        """Save the checkpoint and send the metrics of one report."""
        self._remember(report)
        if not self._reports or report.step > self._reports[-1]["step"]:
            self._reports.append({"step": report.step, "metrics": report.metrics})
        result = {**self.last, "metrics": report.metrics, "facts": report.facts}
        state = report.state() | {"reports": self._reports, "facts": report.facts}
        if self.saves:
            result["saved_to"] = self.store.save(self.trial.trial_id, state)
        self.send(result, checkpoint.to_bytes(state) if self.shared.population_based else None)

    def repeated(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Send once more all that this trial had reported when it saved its newest checkpoint, and return that.

        Reports wait in several queues on their way to the driver; it or a worker may have died meanwhile. Those that
        the driver has written down it passes over; who judges by the whole curve sees it again.
        """
        if state is not None and state.get("reports"):
            self._reports = list(state["reports"])
            self._remember(Report(**self._reports[-1], facts=state["facts"], state=lambda: state))
            self.send({**self.last, "repeated": self._reports, "facts": state["facts"]}, None)
        return state

    def finish(self, results: dict[str, float]) -> None:
        """Send the results of the final probes; only a trial that does this has finished."""
        self.send({**self.last, "results": results, "finished": True}, None)

    def send(self, result: dict[str, Any], state: bytes | None) -> None:
        """Send a result, with what was found broken until then: a worker's own log is seen by nobody."""
        result["broken"], self.store.broken = self.store.broken, []
        self._to_driver(result, state)

    def _remember(self, report: Report) -> None:
        self.last = {"step": report.step, OBJECTIVE: self._objective(report), "pid": os.getpid()}

    def _objective(self, report: Report) -> float:
        own = (report.facts["primary_metric"], report.facts["primary_mode"])
        metric, mode = self.shared.objectives.get(self.trial.task, own)
        return as_objective(report.metrics.get(metric, math.nan), mode)


def _send_to_tune(result: dict[str, Any], state: bytes | None) -> None:
    if state is None:
        tune.report(result)
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, STATE_FILE).write_bytes(state)
        tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def _send_to_train(result: dict[str, Any], state: bytes | None) -> None:
    ray.train.report(result)


def _inherited_state() -> dict[str, Any] | None:
    """Return the state that population-based training hands on from a better trial, if it does."""
    inherited = tune.get_checkpoint()
    if inherited is None:
        return None
    with inherited.as_directory() as folder:
        path = Path(folder, STATE_FILE)
        return checkpoint.from_bytes(path.read_bytes(), where=str(path))


def _distributed(task: torch.nn.Module) -> torch.nn.Module:
    return ray.train.torch.prepare_model(synchronize_batchnorm(task), move_to_device=False)
