"""Trials that a study is expected to run, as far as they are known before its search has chosen anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from study.config.names import TaskName
from study.plan.phases import Plan
from study.timing.phase_sizes import search_trials
from trainables.trial import RANDOM_INIT, TrialConfig

MOST_CANDIDATES = 6  # configurations per task, in place of those that the search will choose


@dataclass(frozen=True)
class Part:
    """Trials of one task in one phase.

    Attributes:
        phase: Name of the phase.
        alternatives: Possible lists of trials. The search chooses one of several by what it finds.
        repeats: How often each trial of the list runs, with other seeds.
    """

    phase: str
    alternatives: tuple[tuple[TrialConfig, ...], ...]
    repeats: int = 1


def expected_parts(plan: Plan) -> list[Part]:
    """Return the parts of all phases, in the order in which they run."""
    candidates = {task: _candidates(plan, task) for task in plan.config.tasks}
    parts = [Part(BASELINES, (tuple(plan.baselines()),))]
    parts += [Part(SEARCH, (_searched(plan, task, own),)) for task, own in candidates.items()]
    parts += _confirmed(plan, candidates)
    if plan.config.ablate.designs:
        parts += _ablated(plan, candidates)
    return [*parts, *_evaluated(plan)]


def _candidates(plan: Plan, task: TaskName) -> list[TrialConfig]:
    """Return configurations of a task's search space: all of a grid, otherwise random ones, however many run."""
    settings = plan.config.search
    few = settings if settings.algorithm == "grid" else settings.model_copy(update={"num_samples": MOST_CANDIDATES})
    return replace(plan, config=plan.config.model_copy(update={"search": few})).enumerated(task)


def _searched(plan: Plan, task: TaskName, candidates: list[TrialConfig]) -> tuple[TrialConfig, ...]:
    return tuple(candidates[i % len(candidates)] for i in range(search_trials(plan, task)))


def _confirmed(plan: Plan, candidates: dict[TaskName, list[TrialConfig]]) -> Iterator[Part]:
    settings = plan.config.confirm
    for own in candidates.values():
        alternatives = tuple((plan.confirmed(trial, seed=0),) * settings.top_k for trial in own[:MOST_CANDIDATES])
        yield Part(CONFIRM, alternatives, settings.n_seeds)


def _ablated(plan: Plan, candidates: dict[TaskName, list[TrialConfig]]) -> Iterator[Part]:
    settings = plan.config.ablate
    for own in candidates.values():
        alternatives = (plan.config.ablation(trial)[0] for trial in own[:MOST_CANDIDATES])
        yield Part(
            ABLATE, tuple(tuple(plan.ablated(cells, seed=0)[: len(cells)]) for cells in alternatives), settings.seeds
        )
    yield Part(ABLATE, (tuple(plan.ablated([], seed=0)),), settings.seeds)


def _evaluated(plan: Plan) -> Iterator[Part]:
    config = plan.config
    baselines = tuple(plan.baselines(EVALUATE, "test"))
    untrained = [trial for trial in baselines if trial.task == RANDOM_INIT][:1]  # as an encoder, like any trained one
    for _ in config.tasks:
        yield Part(EVALUATE, (tuple(untrained),), config.confirm.n_seeds)
    yield Part(EVALUATE, (baselines,))
