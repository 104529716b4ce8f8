"""Time that a study takes, before it runs: from what its trials cost, measured on this machine."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from analysis.records.phases import SEARCH
from study.plan.phases import Plan
from study.plan.sharing import n_sharing
from study.timing.costs import TrialCosts
from study.timing.expected import Part, expected_parts
from study.timing.machine import Machine
from study.timing.phase_sizes import phase_sizes
from trainables.devices import CPU, CUDA, GPU_RESOURCE, MPS, MPS_RESOURCE, device_of
from trainables.errors import ConfigError
from trainables.ray_adapter.cores import n_cores

_UNITS = (("hours", 7200, 3600, 10), ("minutes", 120, 60, 1), ("seconds", 0, 1, 1))  # least seconds, seconds, steps
START, REPORT = "start", "report"  # rows of an estimate beside those of the phases


@dataclass(frozen=True)
class PhaseEstimate:
    """Size and time of one phase, or of a study's start or end.

    Attributes:
        phase: Name of the phase, START or REPORT.
        trials: Number of trials at most.
        steps: Optimizer steps of all trials at most.
        seconds: Expected time, in seconds.
        low: Time if the search stops trials early and chooses configurations that are cheap for this study.
        high: Time if no trial is stopped early and the search chooses expensive configurations.
    """

    phase: str
    trials: int
    steps: int
    seconds: float
    low: float
    high: float


@dataclass(frozen=True)
class StudyEstimate:
    """Time of a whole study.

    Attributes:
        phases: Its rows, in the order in which they run: START, the phases, REPORT.
        slots: Number of trials that run at the same time.
        hardware: What they run on, in words.
    """

    phases: Sequence[PhaseEstimate]
    slots: int
    hardware: str

    @property
    def seconds(self) -> float:
        """Expected time in seconds."""
        return math.fsum(phase.seconds for phase in self.phases)

    @property
    def low(self) -> float:
        """Sum of the phases' lower ends."""
        return math.fsum(phase.low for phase in self.phases)

    @property
    def high(self) -> float:
        """Sum of the phases' upper ends."""
        return math.fsum(phase.high for phase in self.phases)

    def words(self) -> str:
        """Return the range and what it holds for: `3 to 4 minutes on 2 cores, 2 trials at a time`."""
        trials = "one trial" if self.slots == 1 else f"{self.slots} trials"
        return f"{time_range(self.low, self.high)} on {self.hardware}, {trials} at a time"


def estimate(plan: Plan, machine: Machine, costs: TrialCosts | None, slots: int | None = None) -> StudyEstimate:
    """Return the time of a study.

    Args:
        plan: Plan of the study.
        machine: What the study costs here beside its trials.
        costs: Costs of its trials, which are timed as far as they are not known yet, in some seconds; None for
            simulated trials.
        slots: Number of trials that run at the same time on the cluster that is used; None for this machine alone.
    """
    parts, device = expected_parts(plan), _device(plan)
    if costs is not None:
        costs.include(trial for part in parts for alternative in part.alternatives for trial in alternative)
    hardware = _hardware(device) if slots is None else "the running Ray cluster"
    slots = slots or _slots(plan, device)
    rows = [PhaseEstimate(START, 0, 0, machine.start, machine.start, machine.start)]
    for size in phase_sizes(plan):
        own = [part for part in parts if part.phase == size.phase and size.trials]
        low, high = (_phase_seconds(plan, own, costs, machine, slots, end) for end in (-1, 1)) if own else (0.0, 0.0)
        rows.append(PhaseEstimate(size.phase, size.trials, sum(size.steps.values()), (low + high) / 2, low, high))
    rows.append(PhaseEstimate(REPORT, 0, 0, machine.end, machine.end, machine.end))
    return StudyEstimate(rows, slots, hardware)


def trial_costs(plan: Plan) -> TrialCosts | None:
    """Return the costs of a study's trials, not timed yet; None if the trials are simulated."""
    if plan.config.simulate:
        return None
    return TrialCosts(plan.datasets, _device(plan), plan.config.resources.cpu)


def time_range(low: float, high: float) -> str:
    """Return a range of seconds in words: `40 to 50 seconds`, `3 to 4 minutes`, `1.5 to 2 hours`."""
    unit, _, size, steps = next(each for each in _UNITS if high >= each[1])
    least, most = math.floor(low / size * steps) / steps, math.ceil(high / size * steps) / steps
    return f"{most:g} {unit}" if least == most else f"{least:g} to {most:g} {unit}"


def asha_share(n_trials: int, budget_steps: int, grace_period: int, reduction_factor: int) -> float:
    """Return the share of a search's steps that ASHA is expected to run if the results come in random order.

    At each rung, the first trial continues, and of the others one in `reduction_factor`.
    """
    share, alive, before, rung = 0.0, float(n_trials), 0, grace_period
    while rung < budget_steps:
        share += alive / n_trials * (rung - before) / budget_steps
        alive, before, rung = 1 + max(0.0, alive - 1) / reduction_factor, rung, rung * reduction_factor
    return share + alive / n_trials * (budget_steps - before) / budget_steps


def makespan(seconds: Iterable[float], slots: int, first: float = 0.0) -> float:
    """Return when the last of several trials ends that start in order, each on the slot that is free first.

    Args:
        seconds: Time of each trial.
        slots: Number of trials that run at the same time.
        first: Extra time of the first trial on each slot.
    """
    free = [first] * slots
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


def _phase_seconds(
    plan: Plan, parts: list[Part], costs: TrialCosts | None, machine: Machine, slots: int, end: int
) -> float:
    """Return one end of the range of a phase's time: the lower one for -1, the upper one for 1."""
    share = _search_share(plan) if end < 0 and parts[0].phase == SEARCH else 1.0
    trials = itertools.chain.from_iterable(_trial_seconds(part, costs, share, end) for part in parts)
    warm_up = 0.0 if costs is None else machine.warm_up
    return machine.phase + makespan((machine.trial + each for each in trials), slots, warm_up)


def _trial_seconds(part: Part, costs: TrialCosts | None, share: float, end: int) -> list[float]:
    """Return the time of each trial of a part, one standard deviation of what the search may choose from the mean."""
    if costs is None:
        return [0.0] * (len(part.alternatives[0]) * part.repeats)
    totals = [[costs.seconds(trial, share) for trial in trials] for trials in part.alternatives]
    sums = [math.fsum(each) for each in totals]
    mean = math.fsum(sums) / len(sums)
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in sums) / len(sums))
    typical = min(totals, key=lambda each: abs(math.fsum(each) - mean))
    factor = (mean + end * spread) / math.fsum(typical) if any(typical) else 1.0
    return [factor * each for each in typical] * part.repeats


def _search_share(plan: Plan) -> float:
    config = plan.config
    if config.search.scheduler != "asha":
        return 1.0
    return asha_share(
        config.search.num_samples, config.budget_steps, config.grace_period, config.search.reduction_factor
    )


def check_device(plan: Plan) -> None:
    """Raise ConfigError if the trials reserve a GPU and there is none here on which they could be timed."""
    need = plan.config.resources
    if not plan.config.simulate and (need.gpu or MPS_RESOURCE in need.custom) and _device(plan).type == CPU:
        raise ConfigError(
            "budget_hours: the trials reserve a GPU (resources), and this machine has none on which to time them; "
            "start the study on a machine with such a GPU, or leave budget_hours (--hours) out"
        )


def _device(plan: Plan) -> torch.device:
    """Return the device that the trials use on this machine."""
    need = plan.config.resources
    return device_of({**need.custom, **({GPU_RESOURCE: need.gpu} if need.gpu else {})})


def _slots(plan: Plan, device: torch.device) -> int:
    need = plan.config.resources
    slots = [n_sharing("CPU", n_cores(), need.cpu)]
    slots += [n_sharing(GPU_RESOURCE, torch.cuda.device_count(), need.gpu)] if device.type == CUDA else []
    slots += [n_sharing(MPS_RESOURCE, 1, need.custom[MPS_RESOURCE])] if device.type == MPS else []
    return max(1, min(slots) // plan.config.workers)


def _hardware(device: torch.device) -> str:
    if device.type == CUDA:
        return torch.cuda.get_device_name(device)
    cores = n_cores()
    return f"{cores} core{'s' if cores > 1 else ''}" if device.type == CPU else "the GPU of this machine"
