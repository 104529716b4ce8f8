"""Sizing of a study to a time budget: as many paired seeds as fit, then optimizer steps, then search trials."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from analysis.stats import paired
from analysis.stats.crossed import MIN_CROSSED_SEEDS
from analysis.stats.significance import ALPHA
from study.config.schema import StudyConfig
from study.plan.phases import Plan
from study.timing.costs import TrialCosts
from study.timing.estimate import StudyEstimate, check_device, estimate, time_range, trial_costs
from study.timing.machine import Machine
from trainables.errors import ConfigError

LEAST_SEEDS, LEAST_TRIALS, LEAST_STEPS = 3, 4, 0.25  # the last one is a share of the configured steps
GENEROUS_SEEDS, FACTORS = (5, 10, 20), (1, 4, 16)  # seeds, and multiples of steps and trials, of each round
USED = 0.9  # share of the budget that the upper end of the estimate may reach
DIMENSIONS = ("seeds", "report_every", "trials")
STEP_FACTORS = ("budget_steps", "report_every")  # factors of an ablation that are numbers of steps


@dataclass(frozen=True)
class Sizes:
    """The settings that a time budget sizes. The number of reports per trial stays the same.

    Attributes:
        seeds: Paired seeds of the confirm phase and of the ablation.
        report_every: Steps between two reports, to which all settings in steps of a trial are proportional.
        trials: Search trials per task.
    """

    seeds: int
    report_every: int
    trials: int


def fit_to_budget(
    plan: Plan,
    machine: Machine,
    seconds: float | None = None,
    *,
    begun: bool = False,
    slots: int | None = None,
) -> tuple[Plan, StudyEstimate]:
    """Return the plan and its estimate, sized first if its configuration has a time budget.

    Args:
        plan: Plan of a study.
        machine: What the study costs here beside its trials.
        seconds: What is left of the time budget; None for all of it.
        begun: Whether the study has begun before, so that its sizes are fixed.
        slots: As for `estimate`.

    Raises:
        ConfigError: Not even the smallest plan fits, or the trials cannot be timed here.
    """
    hours, costs = plan.config.budget_hours, trial_costs(plan)
    if hours is not None:
        check_device(plan)
    if hours is None or begun:
        return plan, estimate(plan, machine, costs, slots)
    left = 3600 * hours if seconds is None else seconds
    return sized(plan, left, machine, costs, spent=3600 * hours - left, slots=slots)


def sized(
    plan: Plan,
    seconds: float,
    machine: Machine,
    costs: TrialCosts | None,
    *,
    spent: float = 0.0,
    slots: int | None = None,
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
        slots: As for `estimate`.

    Raises:
        ConfigError: Not even the smallest plan fits.
    """

    def estimated(sizes: Sizes) -> StudyEstimate:
        return estimate(_resized(plan, sizes), machine, costs, slots)

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
    resized = _with_steps(config, sized["report_every"])
    values = {
        section: getattr(resized, section).model_copy(update={setting: sized[section][setting]})
        for section, setting in (("search", "num_samples"), ("confirm", "seeds"), ("ablate", "seeds"))
    }
    return resized.model_copy(update=values)


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
    family, least = _largest_family(config, plan), paired.MIN_SEEDS
    what, n_seeds = "of two cells of the ablation", config.ablate.seeds
    if not family:
        family, least = len(config.tasks), MIN_CROSSED_SEEDS
        what, n_seeds = "of a task with untrained networks", config.confirm.n_seeds
    least_alone = MIN_CROSSED_SEEDS if plan.probed else paired.MIN_SEEDS  # only probes have results of each image
    if n_seeds < least_alone:
        return f"fewer than {least_alone} seeds cannot show any difference: differences are tested over paired seeds"
    alone, among = (detectable_sds(n_seeds, n) for n in (1, family))
    tested = f"and of {among:.1f} if it is one of {family}"
    untested = f"but one of {family} in a design is shown without a test, which takes {least} seeds"
    also = "" if family == 1 else f", {tested if n_seeds >= least else untested}"
    return (
        f"with {n_seeds} paired seeds, a comparison {what} finds a true difference of {alone:.1f} standard deviations "
        f"with probability {paired.POWER:g}{also} (the standard deviation of the difference from seed to seed: if that "
        "is 1 point, these are points; with few test images it takes more, however many seeds there are)"
    )


def _largest_family(config: StudyConfig, plan: Plan) -> int:
    """Return the most comparisons with a baseline that are tested together, those of one design and task.

    As in `analysis.comparisons.paired_effects.effects`, one that several designs share belongs to the first of them.
    """
    families: dict[tuple[str, str, str], tuple[str, str]] = {}
    for task in config.tasks:
        for row in config.ablation(plan.search_base(task))[1]:
            if row.baseline not in ("", row.cell):
                families.setdefault((task, row.cell, row.baseline), (task, row.design))
    return max(Counter(families.values()).values(), default=0)


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
    config = _with_steps(plan.config, sizes.report_every)
    confirm = {} if isinstance(config.confirm.seeds, list) else {"seeds": sizes.seeds}
    search = {} if config.search.algorithm == "grid" else {"num_samples": sizes.trials}
    values = {
        "confirm": config.confirm.model_copy(update=confirm),
        "ablate": config.ablate.model_copy(update={"seeds": sizes.seeds}),
        "search": config.search.model_copy(update=search),
    }
    return dataclasses.replace(plan, config=config.model_copy(update=values))


def _with_steps(config: StudyConfig, report_every: int) -> StudyConfig:
    """Return the configuration with this many steps between reports, and all other steps of trials in proportion."""
    factor, search, ablate = report_every / config.report_every, config.search, config.ablate
    patience = {name: _scaled(getattr(search, name), factor) for name in ("grace_period", "chance_patience")}
    cells = {name: _scaled_factors(getattr(ablate, name), factor) for name in ("base", "factors", "cures")}
    values = {
        "budget_steps": _scaled(config.budget_steps, factor),
        "report_every": report_every,
        "search": search.model_copy(update=patience),
        "ablate": ablate.model_copy(update={"steps": _scaled(ablate.steps, factor), **cells}),
    }
    resized = config.model_copy(update=values)
    if isinstance(config.probe_every, int):  # a scheduler needs a probe before it first decides
        probe_every = min(_scaled(config.probe_every, factor), resized.grace_period)
        resized = resized.model_copy(update={"probe_every": probe_every})
    return resized


def _scaled_factors(values: Any, factor: float) -> Any:
    """Return values of an ablation's factors, for all tasks or under a task's name, with their steps scaled.

    `cures` may be None, which is relative to the budget as it is.
    """
    if not isinstance(values, Mapping):
        return values
    return {
        name: (_scaled if name in STEP_FACTORS else _scaled_factors)(value, factor) for name, value in values.items()
    }


def _scaled(steps: Any, factor: float) -> Any:
    """Return a number of steps, or each of a list, times a factor. None and 0 have other meanings and stay."""
    if isinstance(steps, list):
        return [_scaled(each, factor) for each in steps]
    return max(1, round(factor * steps)) if steps else steps


def _refuse(plan: Plan, seconds: float, spent: float, sizes: Sizes, found: StudyEstimate) -> None:
    least = _resized(plan, sizes).config
    hours = math.ceil(100 * (found.high / USED + spent) / 3600) / 100
    raise ConfigError(
        f"budget_hours = {plan.config.budget_hours:g}: the smallest plan ({least.confirm.n_seeds} seeds, "
        f"{least.budget_steps:,} steps, {least.search.num_samples} search trials per task) takes up to "
        f"{found.high / 60:.1f} minutes here, and {max(0.0, seconds) / 60:.1f} minutes are left; the smallest "
        f"time that works is --hours {hours:g}"
    )
