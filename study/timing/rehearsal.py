"""Rehearsal: a study of half a minute, run once on each machine to time what every study takes there."""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from analysis.records import Event, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted, read
from analysis.records.phases import CONFIRM
from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.timing.costs import TrialCosts
from study.timing.machine import Machine, machine_of
from trainables.data import load_splits
from trainables.errors import UserError, last_line
from trainables.ray_adapter.cores import n_cores
from trainables.trial import TrialConfig

COMMAND = Path(__file__).parents[1] / "run.py"
NAME = "rehearsal"
MOST_SLOTS, TRIALS_PER_SLOT = 8, 3
PATIENCE_S = 300.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Phase:
    """Times of one phase, in seconds since the epoch, and of its trials in the order in which they ended."""

    name: str
    start: float
    end: float
    trials: list[tuple[TrialConfig, float, float]]  # configuration, start, end


def this_machine() -> Machine:
    """Return what is remembered of this machine, or rehearse, which takes half a minute.

    If a study cannot run here, a warning says why, and the times are 0.
    """
    try:
        return machine_of(measure)
    except UserError as error:
        logger.warning("the estimate leaves out the start of Ray and the report: a rehearsal failed, %s", error)
        return Machine(0, 0, 0, 0, 0)


def measure() -> Machine:
    """Run the rehearsal in a temporary folder and return what it took beside its trials.

    Raises:
        UserError: It did not finish.
    """
    slots = min(MOST_SLOTS, n_cores())
    settings = [
        *(f"name={NAME}", "tasks=[rotation]", "max_train=300", "encoder.width=4", "budget_steps=4", "report_every=4"),
        *("search.num_samples=1", "search.space={lr: [0.001]}", "defaults={}", "ablate.designs=[]", "ablate.base={}"),
        *("ablate.cures={}", f"confirm.seeds={TRIALS_PER_SLOT * slots}"),
        f"resources.cpu={n_cores() // slots}",
    ]
    logger.warning("timing what a study takes on this machine beside its trials: half a minute, once")
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-") as folder:
        settings.append(f"tracking_uri=sqlite:///{folder}/mlflow.db")
        began = time.time()
        _run([part for setting in settings for part in ("--set", setting)], folder)
        ended = time.time()
        phases = list(_phases(read(Path(folder, NAME))))
    first, last = phases[0].start, phases[-1].end
    confirm = next(phase for phase in phases if phase.name == CONFIRM)
    warm_up, trial = _trial_times(confirm, slots, load_config("quick", settings))
    return Machine(
        start=first - began,
        phase=statistics.fmean(_around_trials(phase) for phase in phases),
        warm_up=warm_up,
        trial=trial,
        end=ended - last,
    )


def _run(options: list[str], folder: str) -> None:
    try:
        done = subprocess.run(
            [sys.executable, str(COMMAND), "quick", *options, "--output", folder],
            cwd=folder,  # MLflow puts its `mlruns` there
            env={**os.environ, "RAY_ADDRESS": "local"},  # never the cluster of somebody else
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"it took more than {PATIENCE_S / 60:.0f} minutes") from error
    if done.returncode:
        raise UserError(f"it ended with code {done.returncode}: {last_line(done.stderr)}")  # warnings come first


def _phases(events: Iterator[Event]) -> Iterator[_Phase]:
    started: dict[str, TrialStarted] = {}
    begin = 0.0
    trials: list[tuple[TrialConfig, float, float]] = []
    for event in events:
        match event:
            case PhaseStarted():
                begin, trials = event.time, []
            case TrialStarted():
                started[event.trial_id] = event
            case TrialEnded():
                trials.append((started[event.trial_id].config, started[event.trial_id].time, event.time))
            case PhaseEnded():
                yield _Phase(event.phase, begin, event.time, trials)


def _around_trials(phase: _Phase) -> float:
    """Return the time of a phase before its first trial starts and after its last one ends."""
    return phase.end - phase.start - (max(end for *_, end in phase.trials) - min(start for _, start, _ in phase.trials))


def _trial_times(phase: _Phase, slots: int, config: StudyConfig) -> tuple[float, float]:
    """Return the extra time of a process's first trial, and what every trial takes beside its computation."""
    seconds = [end - start for _, start, end in phase.trials]
    later = phase.trials[slots:]
    each = (later[-1][2] - phase.trials[slots - 1][2]) * slots / len(later)
    trial = phase.trials[0][0]
    splits = load_splits("shapes", root=None, image_size=config.image_size, max_train=config.max_train).without_masks()
    for _ in range(2):  # the first pass loads what only training needs
        costs = TrialCosts({"shapes": splits}, torch.device("cpu"), config.resources.cpu)
        costs.include([trial])
        computed = costs.seconds(trial)
    warm_up = statistics.fmean(seconds[:slots]) - statistics.median(seconds[slots:])
    return max(0.0, warm_up), max(0.0, each - computed)
