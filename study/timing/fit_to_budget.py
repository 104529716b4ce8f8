"""Sizing of a study to a time budget: as many paired seeds as fit, then optimizer steps, then search trials."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.stats import paired
from analysis.stats.significance import ALPHA
from study.config.schema import StudyConfig
from study.plan.phases import Plan
from study.timing.costs import TrialCosts
from study.timing.estimate import StudyEstimate, estimate, time_range, trial_costs
from study.timing.machine import Machine
from trainables.errors import ConfigError

LEAST_SEEDS, LEAST_TRIALS, LEAST_STEPS = 3, 4, 0.25  # the last one is a share of the configured steps
GENEROUS_SEEDS, FACTORS = (5, 10, 20), (1, 4, 16)  # seeds, and multiples of steps and trials, of each round
USED = 0.9  # share of the budget that the upper end of the estimate may reach
DIMENSIONS = ("seeds", "report_every", "trials")


@dataclass(frozen=True)
class Sizes:
    """The settings that a time budget sizes. The number of reports per trial stays the same.

    Attributes:
        seeds: Paired seeds of the confirm phase and of the ablation.
        report_every: Steps between two reports, to which the steps of a trial are proportional.
        trials: Search trials per task.
    """

    seeds: int
    report_every: int
    trials: int


def fit_to_budget(plan: Plan, machine: Machine, seconds: float | None = None) -> tuple[Plan, StudyEstimate]:
    """Return the plan and its estimate, sized first if its configuration has a time budget.

    Args:
        plan: Plan of a study that has not begun.
        machine: What the study costs here beside its trials.
        seconds: What is left of the time budget; None for all of it.

    Raises:
        ConfigError: Not even the smallest plan fits.
    """
    hours, costs = plan.config.budget_hours, trial_costs(plan)
    if hours is None:
        return plan, estimate(plan, machine, costs)
    left = 3600 * hours if seconds is None else seconds
    return sized(plan, left, machine, costs, spent=3600 * hours - left)


def sized(
    plan: Plan, seconds: float, machine: Machine, costs: TrialCosts | None, *, spent: float = 0.0
) -> tuple[Plan, StudyEstimate]:
    """Return the largest plan whose estimate fits into a time budget, and the estimate.

    In each of several rounds, first the seeds, then the steps and then the search trials grow to the round's target;
    the next of them grows only once the one before has reached its target. So a longer budget never has fewer of any.

    Args:
        plan: Plan of the study as configured.
        seconds: What is left of the time budget.
        machine: What the study costs here beside its trials.
        costs: Costs of its trials; None for simulated ones.
        spent: Seconds of the time budget that have passed, which the next start will need as well.

    Raises:
        ConfigError: Not even the smallest plan fits.
    """

    def estimated(sizes: Sizes) -> StudyEstimate:
        return estimate(_resized(plan, sizes), machine, costs)

    def fits(sizes: Sizes) -> bool:
        return estimated(sizes).high <= USED * seconds

    sizes = _least(plan.config)
    if not fits(sizes):
        _refuse(plan, seconds, spent, sizes, estimated(sizes))
    for target in _targets(plan.config):
        for dimension in DIMENSIONS:
            goal = max(getattr(sizes, dimension), getattr(target, dimension))
            sizes = _grown(sizes, dimension, goal, fits)
            if getattr(sizes, dimension) < goal:
                return _resized(plan, sizes), estimated(sizes)
    return _resized(plan, sizes), estimated(sizes)


def with_sizes_of(config: StudyConfig, sized: Mapping[str, Any]) -> StudyConfig:
    """Return a configuration with the sizes of another one, which was sized before.

    Args:
        config: The configuration as configured.
        sized: The sized configuration as plain data, as the journal records it.
    """
    values: dict[str, Any] = {name: sized[name] for name in ("budget_steps", "report_every")}
    for section, setting in (("search", "num_samples"), ("confirm", "seeds"), ("ablate", "seeds")):
        values[section] = getattr(config, section).model_copy(update={setting: sized[section][setting]})
    if isinstance(config.probe_every, int) and isinstance(sized.get("probe_every"), int):
        values["probe_every"] = sized["probe_every"]
    return config.model_copy(update=values)


def sizing_words(plan: Plan, found: StudyEstimate) -> list[str]:
    """Return what a sized study will run and what it can find, as lines for its user; none without a time budget."""
    config = plan.config
    if config.budget_hours is None:
        return []
    grid = config.search.algorithm == "grid"
    trials = "the whole grid" if grid else f"{config.search.num_samples} search trials per task"
    seeds = f"{config.confirm.n_seeds} seeds to confirm"
    seeds += f", {config.ablate.seeds} for each cell of the ablation" if config.ablate.designs else ""
    return [
        f"sized to {config.budget_hours:.3g} hours: {seeds}, {config.budget_steps:,} steps per trial, {trials}; "
        f"estimated at {time_range(found.low, found.high)} on {found.hardware}",
        detectable_words(config, plan),
    ]


def detectable_words(config: StudyConfig, plan: Plan) -> str:
    """Return which difference the paired seeds of a study detect, and with what probability."""
    comparisons = sum(len(config.ablation(plan.search_base(task))[1]) for task in config.tasks)
    n_seeds = config.ablate.seeds if comparisons else config.confirm.n_seeds
    if n_seeds < 2:
        return "one seed cannot show any difference: differences are tested over paired seeds"
    alone, family = (detectable_sds(n_seeds, n) for n in (1, max(1, comparisons)))
    among = f", and of {family:.1f} if it is one of {comparisons}" if comparisons > 1 else ""
    return (
        f"with {n_seeds} paired seeds, a comparison finds a true difference of {alone:.1f} standard deviations with "
        f"probability {paired.POWER:g}{among} (the standard deviation of the difference from seed to seed: if that is "
        f"1 point, these are points)"
    )


def detectable_sds(n_seeds: int, n_comparisons: int) -> float:
    """Return the true difference that a paired t-test over seeds finds with probability `paired.POWER`.

    In standard deviations of the difference over seeds, at the level ALPHA shared by all comparisons.
    """
    return paired.detectable_noncentrality(n_seeds - 1, ALPHA / n_comparisons) / math.sqrt(n_seeds)


def _least(config: StudyConfig) -> Sizes:
    trials = config.search.num_samples
    return Sizes(
        seeds=LEAST_SEEDS,
        report_every=max(1, round(LEAST_STEPS * config.report_every)),
        trials=max(min(trials, LEAST_TRIALS), min(trials, config.confirm.top_k)),
    )


def _targets(config: StudyConfig) -> list[Sizes]:
    """Return what each round grows to: first the configuration itself, with enough seeds for a test."""
    seeds = max(config.confirm.n_seeds, config.ablate.seeds if config.ablate.designs else 0)
    return [
        Sizes(max(seeds, generous), factor * config.report_every, factor * config.search.num_samples)
        for generous, factor in zip(GENEROUS_SEEDS, FACTORS, strict=True)
    ]


def _grown(sizes: Sizes, dimension: str, goal: int, fits: Callable[[Sizes], bool]) -> Sizes:
    """Return sizes that fit with the largest value of one dimension up to a goal."""
    least, most = getattr(sizes, dimension), goal
    while least < most:
        middle = (least + most + 1) // 2
        if fits(dataclasses.replace(sizes, **{dimension: middle})):
            least = middle
        else:
            most = middle - 1
    return dataclasses.replace(sizes, **{dimension: least})


def _resized(plan: Plan, sizes: Sizes) -> Plan:
    """Return the plan with these sizes. Listed seeds and the points of a grid stay as they are."""
    config = plan.config
    factor = sizes.report_every / config.report_every
    confirm = {} if isinstance(config.confirm.seeds, list) else {"seeds": sizes.seeds}
    search = {} if config.search.algorithm == "grid" else {"num_samples": sizes.trials}
    values = {
        "budget_steps": max(1, round(config.budget_steps * factor)),
        "report_every": sizes.report_every,
        "confirm": config.confirm.model_copy(update=confirm),
        "ablate": config.ablate.model_copy(update={"seeds": sizes.seeds}),
        "search": config.search.model_copy(update=search),
    }
    resized = config.model_copy(update=values)
    if isinstance(config.probe_every, int):  # a scheduler needs a probe before it first decides
        probe_every = min(max(1, round(config.probe_every * factor)), resized.grace_period)
        resized = resized.model_copy(update={"probe_every": probe_every})
    return dataclasses.replace(plan, config=resized)


def _refuse(plan: Plan, seconds: float, spent: float, sizes: Sizes, found: StudyEstimate) -> None:
    least = _resized(plan, sizes).config
    hours = math.ceil(100 * (found.high / USED + spent) / 3600) / 100
    raise ConfigError(
        f"budget_hours = {plan.config.budget_hours:g}: the smallest plan ({least.confirm.n_seeds} seeds, "
        f"{least.budget_steps:,} steps, {least.search.num_samples} search trials per task) takes up to "
        f"{found.high / 60:.1f} minutes here, and {max(0.0, seconds) / 60:.1f} minutes are left; the smallest "
        f"time that works is --hours {hours:g}"
    )
