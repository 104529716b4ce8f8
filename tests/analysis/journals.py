"""A small study of known results, written with the study's own journal: what the analysis is tested on."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from analysis.records import (
    FAILED,
    FINISHED,
    STOPPED,
    Facts,
    PhaseEnded,
    PhaseStarted,
    Report,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialStarted,
)
from search_spaces.ablations import POLICY_DESIGNS, Levels, ablation, changed
from study.execution.journal import Journal
from trainables.simulated.curves import draw_curve
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

DATASET = "shapes"
N_CLASSES = 5
N_VALIDATION = 200
# Predictions of an ablated trial: enough for each of its verdicts to be shown.
MANY_PREDICTIONS = 20_000
STEPS, EVERY = 200, 25
INFO = {
    "fingerprint": "0123456789abcdef",
    "image_size": 32,
    "n_classes": N_CLASSES,
    "class_names": [f"class_{index}" for index in range(N_CLASSES)],
    "counts": {
        "pretext_train": 1000,
        "pretext_validation": N_VALIDATION,
        "probe_train": 800,
        "probe_validation": 200,
        "test": 500,
    },
}
UNLABELED = {name: value for name, value in INFO.items() if name not in ("n_classes", "class_names")}
# Final values of each task: validation accuracy or loss, kNN and linear accuracy of the frozen features.
TRUTH = {
    "rotation": {"accuracy": 0.70, "loss": 0.80, "knn": 0.55, "linear": 0.66},
    "simclr": {"accuracy": 0.60, "loss": 2.80, "knn": 0.62, "linear": 0.72},
    "context_prediction": {"accuracy": 0.125, "loss": math.log(8), "knn": 0.36, "linear": 0.45},
}
BASELINE_TRUTH = {RANDOM_INIT: {"knn": 0.33, "linear": 0.44}, RAW_PIXELS: {"knn": 0.30, "linear": 0.38}}
SEEDS = (100, 101, 102)


class Cell(NamedTuple):
    """What is true of a cell: its verdict, and what it adds to the final linear probe, with what noise of its own."""

    kind: str
    gain: float
    noise: float = 0.004


ABLATION_SEEDS = (600, 601, 602, 603, 604)
SEED_NOISE = 0.02  # that all cells of a seed share
MARGIN = 0.01
FACTORS = {"lr": (1e-3, 1e-2), "augmentation_strength": (0.0, 1.0)}
LEVELS = Levels(strengths=(0.0, 0.5, 1.0), sizes=(200, 1000), factors=FACTORS)
CURES: dict[str, dict[str, tuple[Any, ...]]] = {
    "rotation": {
        "n_images": (1000,),
        "budget_steps": (2 * STEPS,),
        "width": (12,),
        "weight_decay": (0.01,),
        "lr": (0.003,),
    },
    "simclr": {"option/temperature": (0.2,)},
    "context_prediction": {"option/pairs_per_image": (40,)},
}
# Probe of the base, then every cell of the designs size_by_strength and cures.
BASE_PROBE = {"rotation": 0.50, "simclr": 0.60, "context_prediction": 0.44}
CELLS = {
    "rotation": {
        "base": Cell("overfit", 0.0),
        "augmentation_strength=0.5": Cell("overfit", 0.03),
        "augmentation_strength=1": Cell("converged", 0.07),
        "n_images=1000": Cell("converged", 0.04),
        "n_images=1000, augmentation_strength=0.5": Cell("converged", 0.06),
        "n_images=1000, augmentation_strength=1": Cell("converged", 0.10),
        "budget_steps=400": Cell("overfit", -0.03),
        "width=12": Cell("overfit", 0.0, noise=0.002),
        "weight_decay=0.01": Cell("overfit", 0.0, noise=0.03),
        "lr=0.003": Cell("overfit", 0.0),
    },
    "simclr": {
        "base": Cell("converged", 0.0),
        "augmentation_strength=0.5": Cell("converged", -0.03),
        "augmentation_strength=1": Cell("still_improving", -0.05),
        "n_images=1000": Cell("converged", 0.0, noise=0.02),
        "n_images=1000, augmentation_strength=0.5": Cell("converged", 0.0),
        "n_images=1000, augmentation_strength=1": Cell("converged", 0.0),
        "option/temperature=0.2": Cell("converged", -0.02),
    },
    "context_prediction": {
        "base": Cell("at_chance", 0.0),
        "augmentation_strength=0.5": Cell("at_chance", 0.0, noise=0.02),
        "augmentation_strength=1": Cell("at_chance", 0.0, noise=0.02),
        "n_images=1000": Cell("at_chance", 0.0, noise=0.02),
        "n_images=1000, augmentation_strength=0.5": Cell("at_chance", 0.0),
        "n_images=1000, augmentation_strength=1": Cell("at_chance", 0.0),
        "option/pairs_per_image=40": Cell("converged", 0.0, noise=0.02),
    },
}
OP_GAINS = {
    "crop_resize": 0.05,
    "color_jitter": 0.02,
}  # of the policy designs, where each op adds its own and both together as much again
FAILS = ("rotation", "lr=0.003", ABLATION_SEEDS[2])


def chance_of(task: str, batch_size: int) -> dict[str, float]:
    """Return the chance level of each metric of a task."""
    n_ways = {"rotation": 4, "context_prediction": 8, "simclr": 2 * batch_size - 1}[task]
    levels = {"accuracy": 1 / n_ways, "loss": math.log(n_ways)}
    by_split = {f"{split}/{name}": value for split in ("train", "val") for name, value in levels.items()}
    return {**by_split, "probe/linear": 1 / N_CLASSES}


def write_study(
    folder: Path,
    *,
    name: str = "quick",
    until: str = "evaluate",
    tasks: tuple[str, ...] = tuple(TRUTH),
    seed: int = 0,
    designs: Sequence[str] = (),
    n_seeds: int = len(ABLATION_SEEDS),
    labeled: bool = True,
) -> Path:
    """Write a study's journal up to and including the phase `until`; return the study's folder.

    designs: of an ablate phase, around 200 images without augmentation, or for POLICY_DESIGNS around what was chosen;
        none, and there is no such phase. n_seeds: of that phase. labeled: whether there is anything to probe with.
    """
    writer = _Writer(Journal(folder), tasks, np.random.default_rng(seed))
    writer.designs, writer.ablation_seeds, writer.labeled = tuple(designs), ABLATION_SEEDS[:n_seeds], labeled
    config: dict[str, Any] = {"name": name, "tasks": list(tasks), "dataset": DATASET, "budget_steps": STEPS}
    if designs:
        factors = {name: list(values) for name, values in FACTORS.items()}
        config["ablate"] = {"designs": list(designs), "seeds": n_seeds, "margin": MARGIN, "factors": factors}
        config["ablate"]["base"] = writer.ablation_base
    writer.journal.append(
        StudyStarted(
            study=name,
            config=config,
            config_hash="c0ffee",
            git_commit="9f72c1e",
            versions={"torch": "2.15.0"},
            datasets={DATASET: INFO if labeled else UNLABELED},
        )
    )
    for phase in ("baselines", "search", "confirm", *(["ablate"] if designs else []), "evaluate"):
        writer.journal.append(PhaseStarted(phase=phase))
        outcome = getattr(writer, phase)()
        writer.journal.append(PhaseEnded(phase=phase, outcome=outcome or {}))
        if phase == until:
            break
    writer.journal.append(StudyEnded(status=FINISHED))
    writer.journal.close()
    return folder


class _Writer:
    def __init__(self, journal: Journal, tasks: tuple[str, ...], generator: np.random.Generator) -> None:
        self.journal = journal
        self.tasks = tasks
        self.generator = generator
        self.chosen: dict[str, list[TrialConfig]] = {}
        self.designs: tuple[str, ...] = ()
        self.ablation_seeds = ABLATION_SEEDS
        self.labeled = True

    @property
    def ablation_base(self) -> dict[str, Any]:
        return {} if set(self.designs) & set(POLICY_DESIGNS) else {"n_images": 200, "augmentation_strength": 0.0}

    def baselines(self) -> None:
        self._probe_baselines("baselines", "validation")

    def search(self) -> None:
        for task in self.tasks:
            for index, (lr, batch_size) in enumerate([(1e-4, 64), (1e-3, 128), (1e-2, 64), (1e-1, 128)]):
                config = _pretext("search", task, seed=0, lr=lr, batch_size=batch_size)
                if task == "simclr" and index == 3:
                    self._failed(config)
                else:
                    self._pretext_trial(
                        config, stop_at=STEPS // 4 if index == 0 else None, gain=1 - 0.1 * abs(index - 1)
                    )

    def confirm(self) -> dict[str, Any]:
        chosen = {}
        for task in self.tasks:
            values = []
            for rank, lr in enumerate((1e-3, 1e-2), start=1):
                settings = {"cell": f"candidate-{rank}", "lr": lr, "batch_size": 128}
                configs = [_pretext("confirm", task, seed=seed, **settings) for seed in SEEDS]
                finals = [self._pretext_trial(config, gain=1.0 if lr == 1e-3 else 0.9) for config in configs]
                if lr == 1e-3:
                    self.chosen[task], values = configs, finals
            chosen[task] = {
                "config": self.chosen[task][0].to_dict(),
                "metric": "probe/linear" if self.labeled else "val/accuracy",
                "mode": "max",
                "mean": float(np.mean(values)),
                "values": values,
                "seeds": list(SEEDS),
                "trial_ids": [config.trial_id for config in self.chosen[task]],
            }
        return {"chosen": chosen}

    def ablate(self) -> dict[str, Any]:
        rows = []
        for task, configs in self.chosen.items():
            base = changed(configs[0].replace(cell="", probe_datasets=()), self.ablation_base)
            levels = dataclasses.replace(LEVELS, cures={"augmentation_strength": (1.0,), **CURES[task]})
            cells, comparisons = ablation(base, self.designs, levels)
            rows += [comparison._asdict() for comparison in comparisons]
            for seed in self.ablation_seeds:
                shared = self.generator.normal(0, SEED_NOISE)
                for cell in cells:
                    self._ablation_trial(cell.replace(phase="ablate", seed=seed, data_seed=seed), shared)
        for seed in self.ablation_seeds:
            untrained = TrialConfig("ablate", RANDOM_INIT, RANDOM_INIT, seed, DATASET, budget_steps=0)
            self._probe_trial(untrained.replace(probe_datasets=(DATASET,)), BASELINE_TRUTH[RANDOM_INIT])
        return {"designs": rows}

    def _ablation_trial(self, config: TrialConfig, shared: float) -> None:
        config = config.replace(probe_datasets=(DATASET,))
        truth = CELLS[config.task].get(config.cell) if self.ablation_base else None
        truth = truth or Cell("converged", _policy_gain(config))
        failed = (config.task, config.cell, config.seed) == FAILS
        made = draw_curve(
            truth.kind,
            rng=self.generator,
            task=config.task,
            n_validation=MANY_PREDICTIONS,
            n_queries=N_VALIDATION,
            noise=0.004,
            budget_steps=config.budget_steps,
            report_every=EVERY,
            batch_size=config.batch_size,
            **({"pace": 0.03, "takeoff": 0.02} if truth.kind == "converged" else {}),
        )
        self._start(config)
        self.journal.append(Facts(trial_id=config.trial_id, **made.facts))
        reports = len(made.steps) // 2 if failed else len(made.steps)
        for index in range(reports):
            step, metrics = int(made.steps[index]), made.report(index)
            self._report(config, step, metrics)
        if failed:
            self._end(
                config, FAILED, steps=int(made.steps[reports - 1]), results={}, reason="RuntimeError: out of memory"
            )
            return
        linear = BASE_PROBE[config.task] + truth.gain + shared + float(self.generator.normal(0, truth.noise))
        results = {f"probe/{DATASET}/linear": linear, f"probe/{DATASET}/knn": linear - 0.1}
        self._end(config, FINISHED, steps=config.budget_steps, results=results)

    def evaluate(self) -> None:
        for task, configs in self.chosen.items():
            for config in configs:
                trial = config.replace(phase="evaluate", init_from=config.trial_id, probe_split="test", budget_steps=0)
                self._probe_trial(trial, TRUTH[task])
        self._probe_baselines("evaluate", "test")

    def _probe_baselines(self, phase: str, split: str) -> None:
        for task, seeds in ((RANDOM_INIT, SEEDS), (RAW_PIXELS, (0,))):
            for seed in seeds:
                trial = TrialConfig(
                    phase, task, seed=seed, budget_steps=0, probe_datasets=(DATASET,), probe_split=split
                )
                self._probe_trial(trial, BASELINE_TRUTH[task])

    def _probe_trial(self, config: TrialConfig, truth: dict[str, float]) -> None:
        if not self.labeled:
            return
        self._start(config)
        self._end(config, FINISHED, steps=0, results=self._probes(truth))

    def _pretext_trial(self, config: TrialConfig, *, stop_at: int | None = None, gain: float = 1.0) -> float:
        """Write one trial's reports; return its last kNN accuracy."""
        self._start(config)
        chance = chance_of(config.task, config.batch_size)
        self.journal.append(
            Facts(
                trial_id=config.trial_id,
                primary_metric="val/loss" if config.task == "simclr" else "val/accuracy",
                primary_mode="min" if config.task == "simclr" else "max",
                chance=chance,
                n_train=INFO["counts"]["pretext_train"],  # type: ignore[index]
                n_validation=N_VALIDATION,
                parameters=23_000,
            )
        )
        truth = TRUTH[config.task]
        gain *= 1 + float(self.generator.normal(0, 0.02))
        last_step = STEPS if stop_at is None else stop_at
        knn = 0.0
        for step in range(0, last_step + 1, EVERY):
            learned = gain * (1 - math.exp(-4 * step / STEPS))
            metrics = {}
            for metric, level in chance.items():
                end = truth[metric.split("/")[1]]
                noise = self.generator.normal(0, 0.006)
                metrics[metric] = float(level + learned * (end - level) + noise)
            knn = metrics["probe/linear"] if self.labeled else metrics["val/accuracy"]
            metrics |= {"health/feature_std": 0.9, "lr": config.lr * (1 - step / STEPS), "grad_norm": 1.0}
            if step:
                metrics["images_per_s"] = float(9000 + self.generator.normal(0, 100))
            self._report(config, step, metrics)
        results = {} if stop_at else self._probes(truth, gain)
        status, reason = (STOPPED, "at chance after 50 steps") if stop_at else (FINISHED, "")
        self._end(config, status, steps=last_step, results=results, reason=reason)
        return knn

    def _report(self, config: TrialConfig, step: int, metrics: dict[str, float]) -> None:
        kept = {name: value for name, value in metrics.items() if self.labeled or not name.startswith("probe/")}
        self.journal.append(Report(trial_id=config.trial_id, step=step, metrics=kept))

    def _failed(self, config: TrialConfig) -> None:
        self._start(config)
        self._end(config, FAILED, steps=0, results={}, reason="RuntimeError: loss is <NaN> at step 12")

    def _start(self, config: TrialConfig) -> None:
        self.journal.append(TrialStarted.of(config))

    def _end(
        self, config: TrialConfig, status: str, *, steps: int, results: dict[str, float], reason: str = ""
    ) -> None:
        checkpoint = f"checkpoints/{config.trial_id}.pt" if status == FINISHED else ""
        self.journal.append(
            TrialEnded(
                trial_id=config.trial_id,
                status=status,
                reason=reason,
                steps=steps,
                wall_s=2.0 + 0.01 * steps,
                results=results if self.labeled else {},
                checkpoint=checkpoint,
            )
        )

    def _probes(self, truth: dict[str, float], gain: float = 1.0) -> dict[str, float]:
        linear, knn = (truth[name] * gain + self.generator.normal(0, 0.01) for name in ("linear", "knn"))
        values = {"linear": linear, "knn": knn, "linear_top5": 1.0, "linear_train": linear + 0.1}
        return {f"probe/{DATASET}/{name}": float(value) for name, value in values.items()}


def _policy_gain(config: TrialConfig) -> float:
    on = [OP_GAINS[op] for op, magnitude in dict(config.augmentation).items() if magnitude > 0]
    return sum(on) * len(on)


def _pretext(phase: str, task: str, **values: Any) -> TrialConfig:
    options = {"rotation": {}, "simclr": {"temperature": 0.5}, "context_prediction": {"pairs_per_image": 8}}[task]
    return TrialConfig(
        phase,
        task,
        n_images=1000,
        budget_steps=STEPS,
        report_every=EVERY,
        options=options,  # type: ignore[arg-type]
        augmentation={"crop_resize": 1.0, "color_jitter": 0.5},  # type: ignore[arg-type]
        probe_datasets=(DATASET,),
        **values,
    )
