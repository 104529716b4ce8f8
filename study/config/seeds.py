"""Seeds of a study's phases: no phase tests on the seeds by which an earlier one chose."""

from __future__ import annotations

import itertools

from analysis.records.phases import FRESH_SEEDS
from analysis.stats.paired import MIN_SEEDS
from study.config.schema import StudyConfig
from trainables.errors import ConfigError

ABLATION_SEEDS = 500  # offset of the ablation seeds; on the seeds of the confirm phase, results would be optimistic


def fresh_seeds(config: StudyConfig) -> list[int]:
    """Return the seeds of the confirm phase, which no search uses."""
    seeds = config.confirm.seeds
    return list(seeds) if isinstance(seeds, list) else [_first(config) + i for i in range(seeds)]


def ablation_seeds(config: StudyConfig) -> list[int]:
    """Return the seeds of the ablate phase; its cells are paired by seed."""
    first = _first(config) + ABLATION_SEEDS
    return [first + i for i in range(config.ablate.seeds)]


def unused_seeds(config: StudyConfig) -> list[int]:
    """Return seeds that no phase of the study uses: as many as the confirm phase has, and enough for a test."""
    used = {config.seed, *fresh_seeds(config), *ablation_seeds(config)}
    unused = (seed for seed in itertools.count(_first(config)) if seed not in used)
    return list(itertools.islice(unused, max(MIN_SEEDS, config.confirm.n_seeds)))


def check_seeds(config: StudyConfig) -> None:
    """Raise ConfigError for seeds that would make a result optimistic, or count one twice."""
    seeds = config.confirm.seeds
    if isinstance(seeds, list):
        _check_listed(config, seeds)
    shared = sorted({*fresh_seeds(config)} & {*ablation_seeds(config)})
    if config.ablate.designs and shared:
        ablated = ablation_seeds(config)
        remedy = "take other seeds" if isinstance(seeds, list) else f"use at most {ABLATION_SEEDS}"
        raise ConfigError(
            f"confirm.seeds = {seeds}: the ablation uses the seeds {ablated[0]} to {ablated[-1]}, and its base is "
            f"chosen by those of the confirm phase. Its results on {shared[0]} would be optimistic; {remedy}"
        )


def _check_listed(config: StudyConfig, seeds: list[int]) -> None:
    if not seeds or not all(0 <= seed < 2**31 for seed in seeds):
        raise ConfigError(
            f"confirm.seeds = {seeds}: must be a number of seeds, or a list of seeds from 0 to {2**31 - 1:,}"
        )
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"confirm.seeds = {seeds}: a seed occurs twice, which would count one result as two")
    if config.seed in seeds:
        raise ConfigError(
            f"confirm.seeds = {seeds}: {config.seed} is the seed of the search, whose best result is optimistic; "
            "take another one, or change seed"
        )


def _first(config: StudyConfig) -> int:
    return FRESH_SEEDS + 1000 * config.seed
