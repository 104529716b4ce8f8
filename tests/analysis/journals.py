"""A small study of known results, written with the study's own journal: what the analysis is tested on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from study.journal import FAILED, FINISHED, STOPPED, Journal
from trainables.trial import RANDOM_INIT, RAW_PIXELS, TrialConfig

DATASET = "shapes"
N_CLASSES = 5
N_VALIDATION = 200
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
# Final values of each task: validation accuracy or loss, kNN and linear accuracy of the frozen features.
TRUTH = {
    "rotation": {"accuracy": 0.70, "loss": 0.80, "knn": 0.55, "linear": 0.66},
    "simclr": {"accuracy": 0.60, "loss": 2.80, "knn": 0.62, "linear": 0.72},
    "context_prediction": {"accuracy": 0.125, "loss": math.log(8), "knn": 0.36, "linear": 0.45},
}
BASELINE_TRUTH = {RANDOM_INIT: {"knn": 0.33, "linear": 0.44}, RAW_PIXELS: {"knn": 0.30, "linear": 0.38}}
SEEDS = (100, 101, 102)


def chance_of(task: str, batch_size: int) -> dict[str, float]:
    """Return the chance level of each metric of a task."""
    n_ways = {"rotation": 4, "context_prediction": 8, "simclr": 2 * batch_size - 1}[task]
    levels = {"accuracy": 1 / n_ways, "loss": math.log(n_ways)}
    by_split = {f"{split}/{name}": value for split in ("train", "val") for name, value in levels.items()}
    return {**by_split, "probe/linear": 1 / N_CLASSES}


def write_study(
    folder: Path, *, name: str = "quick", until: str = "evaluate", tasks: tuple[str, ...] = tuple(TRUTH), seed: int = 0
) -> Path:
    """Write a study's journal up to and including the phase `until`; return the study's folder."""
    writer = _Writer(Journal(folder), tasks, np.random.default_rng(seed))
    writer.journal.append(
        "study_started",
        study=name,
        config={"name": name, "tasks": list(tasks), "dataset": DATASET, "budget_steps": STEPS},
        config_hash="c0ffee",
        git_commit="9f72c1e",
        versions={"torch": "2.15.0"},
        datasets={DATASET: INFO},
    )
    for phase in ("baselines", "search", "confirm", "evaluate"):
        writer.journal.append("phase_started", phase=phase)
        outcome = getattr(writer, phase)()
        writer.journal.append("phase_ended", phase=phase, outcome=outcome or {})
        if phase == until:
            break
    writer.journal.append("study_ended", status=FINISHED)
    writer.journal.close()
    return folder


class _Writer:
    def __init__(self, journal: Journal, tasks: tuple[str, ...], generator: np.random.Generator) -> None:
        self.journal = journal
        self.tasks = tasks
        self.generator = generator
        self.chosen: dict[str, list[TrialConfig]] = {}

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
            for lr in (1e-3, 1e-2):
                configs = [_pretext("confirm", task, seed=seed, lr=lr, batch_size=128) for seed in SEEDS]
                finals = [self._pretext_trial(config, gain=1.0 if lr == 1e-3 else 0.9) for config in configs]
                if lr == 1e-3:
                    self.chosen[task], values = configs, finals
            chosen[task] = {
                "config": self.chosen[task][0].to_dict(),
                "metric": "probe/linear",
                "mean": float(np.mean(values)),
                "values": values,
                "seeds": list(SEEDS),
            }
        return {"chosen": chosen}

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
        self._start(config)
        self._end(config, FINISHED, steps=0, results=self._probes(truth))

    def _pretext_trial(self, config: TrialConfig, *, stop_at: int | None = None, gain: float = 1.0) -> float:
        """Write one trial's reports; return its last kNN accuracy."""
        self._start(config)
        chance = chance_of(config.task, config.batch_size)
        self.journal.append(
            "facts",
            trial_id=config.trial_id,
            primary_metric="val/loss" if config.task == "simclr" else "val/accuracy",
            primary_mode="min" if config.task == "simclr" else "max",
            chance=chance,
            n_train=INFO["counts"]["pretext_train"],  # type: ignore[index]
            n_validation=N_VALIDATION,
            parameters=23_000,
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
            knn = metrics["probe/linear"]
            metrics |= {"health/feature_std": 0.9, "lr": config.lr * (1 - step / STEPS), "grad_norm": 1.0}
            if step:
                metrics["images_per_s"] = float(9000 + self.generator.normal(0, 100))
            self.journal.append("report", trial_id=config.trial_id, step=step, metrics=metrics)
        results = {} if stop_at else self._probes(truth, gain)
        status, reason = (STOPPED, "at chance after 50 steps") if stop_at else (FINISHED, "")
        self._end(config, status, steps=last_step, results=results, reason=reason)
        return knn

    def _failed(self, config: TrialConfig) -> None:
        self._start(config)
        self._end(config, FAILED, steps=0, results={}, reason="RuntimeError: loss is <NaN> at step 12")

    def _start(self, config: TrialConfig) -> None:
        self.journal.append("trial_started", trial_id=config.trial_id, phase=config.phase, config=config.to_dict())

    def _end(
        self, config: TrialConfig, status: str, *, steps: int, results: dict[str, float], reason: str = ""
    ) -> None:
        checkpoint = f"checkpoints/{config.trial_id}.pt" if status == FINISHED else None
        self.journal.append(
            "trial_ended",
            trial_id=config.trial_id,
            status=status,
            reason=reason,
            steps=steps,
            wall_s=2.0 + 0.01 * steps,
            results=results,
            checkpoint=checkpoint,
        )

    def _probes(self, truth: dict[str, float], gain: float = 1.0) -> dict[str, float]:
        linear, knn = (truth[name] * gain + self.generator.normal(0, 0.01) for name in ("linear", "knn"))
        values = {"linear": linear, "knn": knn, "linear_top5": 1.0, "linear_train": linear + 0.1}
        return {f"probe/{DATASET}/{name}": float(value) for name, value in values.items()}


def _pretext(phase: str, task: str, **values: Any) -> TrialConfig:
    options = {"rotation": {}, "simclr": {"temperature": 0.5}, "context_prediction": {"pairs_per_image": 8}}[task]
    return TrialConfig(
        phase,
        task,
        n_images=1000,
        budget_steps=STEPS,
        report_every=EVERY,
        options=options,  # type: ignore[arg-type]
        augmentation={"crop": 1.0, "colour": 0.5},  # type: ignore[arg-type]
        probe_datasets=(DATASET,),
        **values,
    )
