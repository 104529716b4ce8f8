"""The plan of a study: the trials of each phase, derived from the configuration and the results of earlier phases.

baselines -> search -> confirm -> ablate -> evaluate -> report.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.records import STOPPED
from analysis.records.phases import ABLATE, BASELINES, CONFIRM, EVALUATE, SEARCH
from search_spaces import Space
from search_spaces.ablations import POLICY_DESIGNS
from study.config.names import TaskName
from study.config.schema import StudyConfig
from study.config.sections import WeightsBaseline
from study.config.seeds import ablation_seeds, fresh_seeds
from study.plan.history import History, TrialRecord, finished
from study.plan.objectives import default_objective
from study.plan.ranking import ranked
from study.plan.small_sets import fitting_base, fitting_space
from trainables.augmentation.ops import COLORS, color_ops
from trainables.data import Splits
from trainables.objective import direction
from trainables.rng import stream_seed
from trainables.tasks import TASKS
from trainables.trial import RANDOM_INIT, RAW_PIXELS, WEIGHTS, TrialConfig


@dataclass(frozen=True)
class Plan:
    """A study's configuration together with its data.

    Attributes:
        config: Configuration of the study.
        datasets: Splits of every data set that the study trains on or probes, by name.
        objectives: Per task, the metric and direction by which an earlier driver of this study chose.
    """

    config: StudyConfig
    datasets: Mapping[str, Splits]
    objectives: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def in_color(self) -> bool:
        """Whether the training images are in color, or gray in three equal channels."""
        return self.datasets[self.config.dataset].pretext_train.n_channels == COLORS

    @property
    def probed(self) -> tuple[str, ...]:
        """Names of the data sets that the baselines and the final evaluation are probed on."""
        return probed_datasets(self.config, self.datasets)

    def metric(self, task: TaskName) -> tuple[str, str]:
        """Return the metric by which a task's configurations are chosen, and its direction, `max` or `min`.

        `auto` does not change while a study runs, although a later version might decide otherwise.
        """
        search = self.config.search
        if search.metric == "auto":
            if task in self.objectives:
                metric, mode = self.objectives[task]
                return metric, mode
            return default_objective(self.datasets[self.config.dataset], task)
        if search.mode is not None:
            return search.metric, search.mode
        return search.metric, direction(search.metric)

    def fresh_seeds(self) -> list[int]:
        """Return the seeds of the confirm phase, which no search uses."""
        return fresh_seeds(self.config)

    def baselines(self, phase: str = BASELINES, split: str = "validation") -> list[TrialConfig]:
        """Return one untrained encoder per fresh seed, raw pixels, and existing weights, on every probed data set.

        Raw pixels and weights have no seed: they are probed once, or with few labels once for each seed, which draws
        the labels.

        Args:
            phase: Phase that the trials belong to, `baselines` or `evaluate`.
            split: Split that the probes are scored on, `validation` or `test`.
        """
        if not self.probed:
            return []
        common = self._untrained().replace(phase=phase, probe_datasets=self.probed, probe_split=split)
        if phase == EVALUATE:
            common = common.replace(**self._evaluation_fields())
        untrained = [common.replace(seed=seed) for seed in self.fresh_seeds()]
        seeds = self.fresh_seeds() if common.labels_per_class else self.fresh_seeds()[:1]
        weights = [_with_weights(common, each).replace(seed=seed) for each in self.config.baselines for seed in seeds]
        pixels = common.replace(task=RAW_PIXELS)
        drawn = [pixels.replace(seed=seed) for seed in seeds] if common.labels_per_class else [pixels]
        return [*untrained, *drawn, *weights]

    def _evaluation_fields(self) -> dict[str, Any]:
        """Return the fields of a trial that only the final evaluation sets."""
        evaluate = self.config.evaluate
        values: dict[str, Any] = {"probe_layers": evaluate.probe_layers}
        if evaluate.labels_per_class:
            values |= {"labels_per_class": evaluate.labels_per_class, "fine_tune_steps": evaluate.fine_tune_steps}
        return values

    def _untrained(self) -> TrialConfig:
        config = self.config
        return TrialConfig(
            phase=BASELINES,
            task=RANDOM_INIT,
            dataset=config.dataset,
            data_seed=config.seed,
            encoder=config.encoder.name,
            width=config.encoder.width,
            **config.encoder.inputs,
            budget_steps=0,
        )

    def search_base(self, task: TaskName) -> TrialConfig:
        """Return the trial whose fields a task's search varies, without the ops that need color if there is none."""
        base = fitting_base(self.config, task, self.n_images)
        off = () if self.in_color else color_ops()
        return base.replace(augmentation={op: value for op, value in dict(base.augmentation).items() if op not in off})

    def space(self, task: TaskName) -> Space:
        """Return a task's search space; a default one without the batch sizes that have too few training images."""
        return fitting_space(self.config, task, self.n_images)

    @property
    def n_images(self) -> int:
        """Number of images that the pretext tasks train on."""
        return self.config.n_images or len(self.datasets[self.config.dataset].pretext_train)

    def batch_sizes(self, task: TaskName) -> list[int]:
        """Return the batch sizes of a task's trials: all choices of the search, or both ends of its range."""
        space = self.space(task)
        return space["batch_size"].grid(2) if "batch_size" in space else [self.search_base(task).batch_size]

    def enumerated(self, task: TaskName) -> list[TrialConfig]:
        """Return the distinct trials of a random or grid search, which are known before it starts."""
        space, search, base = self.space(task), self.config.search, self.search_base(task)
        if search.algorithm == "grid":
            points = itertools.product(*(domain.grid(search.num_samples) for domain in space.values()))
            return _distinct(base.with_values(dict(zip(space, point, strict=True))) for point in points)
        rng = np.random.default_rng([self.config.seed, _number_of(task)])
        draws = ({name: domain.draw(rng) for name, domain in space.items()} for _ in range(search.num_samples))
        return _distinct(base.with_values(values) for values in draws)

    def best_searched(self, history: History, task: TaskName) -> list[TrialRecord]:
        """Return the `top_k` records of a task's search by their last report, best first.

        Trials that were stopped early rank after all finished ones: they were worse when stopped, and had fewer steps.
        """
        metric, mode = self.metric(task)
        records = history.of(SEARCH, task)
        stopped = [record for record in records if record.status == STOPPED]
        best_first = ranked(finished(records), metric, mode) + ranked(stopped, metric, mode)
        return best_first[: self.config.confirm.top_k]

    def confirm(self, history: History) -> list[TrialConfig]:
        """Return the best configurations of each task, as one cell each, with every fresh seed.

        After population-based training, the configuration of a trial is the one that it ended with.
        """
        return [
            self.confirmed(record.changed or record.trial, seed, rank)
            for task in self.config.tasks
            for rank, record in enumerate(self.best_searched(history, task), start=1)
            for seed in self.fresh_seeds()
        ]

    def confirmed(self, trial: TrialConfig, seed: int, rank: int = 1) -> TrialConfig:
        """Return a searched configuration as the candidate of a rank in the confirm phase, with a fresh seed."""
        probe = (self.config.dataset,) if self.datasets[self.config.dataset].annotated else ()
        return trial.replace(phase=CONFIRM, cell=f"candidate-{rank}", seed=seed, probe_datasets=probe)

    def chosen(self, history: History) -> dict[str, dict[str, Any]]:
        """Return the candidate with the best mean over fresh seeds, for each task that has a candidate.

        Only candidates with the most usable seeds compete, so that one lucky seed cannot make up for frequent failures.

        Returns:
            By task: `config` (of the first trial), `metric`, `mode`, `mean`, and the lists `values`, `seeds` and
            `trial_ids` with one entry per seed.
        """
        return {task: choice for task in self.config.tasks if (choice := self._chosen(history, task)) is not None}

    def _chosen(self, history: History, task: TaskName) -> dict[str, Any] | None:
        metric, mode = self.metric(task)
        cells: dict[str, list[TrialRecord]] = defaultdict(list)
        confirmed = finished(history.of(CONFIRM, task))
        for record in sorted(confirmed, key=lambda record: (record.trial.seed, record.trial.cell)):
            if math.isfinite(record.value(metric)):
                cells[record.trial.cell].append(record)
        if not cells:
            return None

        def mean(records: list[TrialRecord]) -> float:
            return float(np.mean([record.value(metric) for record in records]))

        most = max(map(len, cells.values()))
        complete = [records for records in cells.values() if len(records) == most]
        records = (max if mode == "max" else min)(complete, key=mean)
        return {
            "config": records[0].trial.to_dict(),
            "metric": metric,
            "mode": mode,
            "mean": mean(records),
            "values": [record.value(metric) for record in records],
            "seeds": [record.trial.seed for record in records],
            "trial_ids": [record.trial.trial_id for record in records],
        }

    def ablation_seeds(self) -> list[int]:
        """Return the seeds of the ablate phase; its cells are paired by seed."""
        return ablation_seeds(self.config)

    def ablate(self, history: History) -> list[TrialConfig]:
        """Return the ablation cells of every task with every seed, and the untrained encoder of each seed.

        The trials are ordered by seed, so that an interrupted study has complete seeds. Each seed draws its own subset
        of the images, shared by all cells, so that results do not depend on one subset. Probes use the training data
        set if it has labels, and the data sets of the evaluation otherwise.
        """
        cells = [
            cell for choice in self.chosen(history).values() for cell in self.config.ablation(_config_of(choice))[0]
        ]
        return [trial for seed in self.ablation_seeds() if cells for trial in self.ablated(cells, seed)]

    def ablated(self, cells: Sequence[TrialConfig], seed: int) -> list[TrialConfig]:
        """Return ablation cells with one seed, and the untrained encoder of that seed."""
        probed = (self.config.dataset,) if self.datasets[self.config.dataset].labeled else self.probed
        own = {"phase": ABLATE, "seed": seed, "probe_datasets": probed}
        trials = [cell.replace(data_seed=seed, **own) for cell in cells]
        return [*trials, self._untrained().replace(cell=RANDOM_INIT, **own)] if probed else trials

    def designs(self, history: History) -> list[dict[str, str]]:
        """Return the rows of the `designs` frame: the cells of each design, and what each cell is compared with."""
        return [
            row._asdict()
            for choice in self.chosen(history).values()
            for row in self.config.ablation(_config_of(choice))[1]
        ]

    def without_augmentation(self, history: History) -> list[TaskName]:
        """Return the tasks for which a design has no cells, since it varies an augmentation of chosen strength 0."""
        wanted = set(self.config.ablate.designs) & set(POLICY_DESIGNS)
        chosen = {task: _config_of(choice) for task, choice in self.chosen(history).items()}
        return [
            task
            for task, trial in chosen.items()
            if not trial.augmentation_strength and wanted - {row.design for row in self.config.ablation(trial)[1]}
        ]

    def evaluate(self, history: History) -> list[TrialConfig]:
        """Return the chosen encoders of each task, and the baselines, on the test split."""
        if not self.probed:
            return []
        trained = [
            history.trials[trial_id].trial.replace(
                phase=EVALUATE,
                cell="",
                init_from=trial_id,
                probe_datasets=self.probed,
                probe_split="test",
                **self._evaluation_fields(),
            )
            for choice in self.chosen(history).values()
            for trial_id in choice["trial_ids"]
        ]
        return [*trained, *self.baselines(EVALUATE, "test")]


def probed_datasets(config: StudyConfig, datasets: Mapping[str, Splits]) -> tuple[str, ...]:
    """Return the data sets to probe: the configured ones, else the training data set if it has labels or masks."""
    if config.evaluate.datasets is not None:
        return tuple(config.evaluate.datasets)
    own = datasets.get(config.dataset)
    return (config.dataset,) if own is not None and own.annotated else ()


def _with_weights(trial: TrialConfig, baseline: WeightsBaseline) -> TrialConfig:
    own = {"encoder": baseline.encoder, "width": baseline.width, "weights": baseline.sha256, **baseline.inputs}
    return trial.replace(task=f"{WEIGHTS}{baseline.name}", **own)


def _config_of(choice: Mapping[str, Any]) -> TrialConfig:
    """Return the chosen configuration, without the fields that the confirm phase set."""
    return TrialConfig.from_dict(choice["config"]).replace(cell="", probe_datasets=())


def _distinct(trials: Iterable[TrialConfig]) -> list[TrialConfig]:
    return list(dict.fromkeys(trials))


def _number_of(task: TaskName) -> int:
    """Return a number for the draws of a task's search, which does not depend on the plug-ins that are loaded."""
    built_in = TASKS.built_in
    return built_in.index(task) if task in built_in else stream_seed(0, f"search/{task}")
