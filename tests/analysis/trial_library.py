"""The library of real trials as frames, with the answers that their longer twins and unseen images give.

`tests/benchmarks/trial_library.py` makes it; its columns are described there.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.records import FINISHED
from study.config.schema import StudyConfig
from trainables.chance import MARGIN
from trainables.recent import quarters
from trainables.training.validation import sample_sizes
from trainables.trial import TrialConfig

LIBRARY = Path(__file__).parents[1] / "recorded" / "trial_library.parquet"
MATERIAL = 0.05
# Rules were chosen on trials of the first two data sets; their error rates are those on the others.
FITTED, TESTED = ("cifar10", "shapes"), ("fashion_mnist", "voc2012")


def load() -> pd.DataFrame:
    """Return the library, one row per trial, with the columns task, dataset, n_reports and trial_id."""
    library = pd.read_parquet(LIBRARY)
    trials = library["trial"].map(json.loads)
    images = [_product_images(row) for row in library.to_dict("records")]
    return library.assign(
        product_images=images,
        task=trials.str["task"],
        dataset=trials.str["dataset"],
        n_reports=library["steps"].map(len) - 1,
        trial_id=library["index"].map("{:04}".format),
    )


def frames(library: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `(runs, curves)` as a study would have them.

    They have as many validation images as the product looks at, and features as often as it measures them.
    """
    runs, points = [], []
    for trial in library.to_dict("records"):
        runs.append(_run(trial))
        config = _as_now(TrialConfig.from_dict(json.loads(trial["trial"])))
        for index, report in enumerate(json.loads(trial["reports"])):
            step = report.pop("step")
            left_out = ("val/",) if config.measures_features(step) else ("val/", "probe/", "health/")
            metrics = {name: value for name, value in report.items() if not name.startswith(left_out)}
            for name, samples in _samples(trial).items():
                metrics |= _measured(f"val/{name}", samples, trial["steps"], index)
            points += [(trial["trial_id"], step, name, value) for name, value in metrics.items()]
    return pd.DataFrame(runs), pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])


def answers(library: pd.DataFrame) -> pd.DataFrame:
    """Return what unseen images say of each trial, indexed by trial_id.

    Returns:
        more: gain of twice the steps as a share of what the trial had gained, in the primary metric, from the better
        of chance and the untrained network; more_any: the largest such share of its metrics; learned: the largest share
        of the way from that level to a perfect score that the trial learned, over its metrics.
    """
    rows = {}
    for trial in library.to_dict("records"):
        facts = json.loads(trial["facts"])
        primary = facts["primary_metric"].removeprefix("val/")
        shares = {name: _share(trial, name, facts) for name in _samples(trial)}
        learned = max(_learned(trial, name, facts) for name in shares)
        rows[trial["trial_id"]] = {"more": shares[primary], "more_any": max(shares.values()), "learned": learned}
    return pd.DataFrame.from_dict(rows, orient="index")


def helped_by_more_steps(library: pd.DataFrame) -> pd.DataFrame:
    """Return whether twice the steps did better than the trial itself, by 95% intervals over unseen images.

    Returns:
        Columns own, the task's primary metric, and probe, the linear probe, indexed by trial_id: `better`, `worse`,
        `open`, or missing where a trial has no probe.
    """
    rows = {}
    for trial in library.to_dict("records"):
        primary = json.loads(trial["facts"])["primary_metric"].removeprefix("val/")
        more = _sign(primary) * (trial[f"gold/{primary}/double"] - trial[f"gold/{primary}/end"])
        rows[trial["trial_id"]] = {
            "own": _answer(more, trial[f"gold/{primary}/more_se"]),
            "probe": _probe_answer(trial),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _probe_answer(trial: dict[str, Any]) -> str | None:
    end, double = trial["probe/end"], trial["probe/double"]
    if not isinstance(end, bytes) or not isinstance(double, bytes):
        return None
    end, double = (np.unpackbits(np.frombuffer(bits, np.uint8)).astype(np.float64) for bits in (end, double))
    return _answer(float((double - end).mean()), _error(double - end))


def _answer(difference: float, error: float) -> str:
    return "better" if difference > 1.96 * error else "worse" if difference < -1.96 * error else "open"


def is_false(verdict: str, answer: Any) -> bool:
    """Return whether unseen images and twice the steps contradict a verdict; True for none that they say nothing of."""
    if verdict == "converged":
        return bool(answer.more >= MATERIAL)
    if verdict == "still_improving":
        return bool(answer.more_any < MATERIAL)
    return verdict == "at_chance" and bool(answer.learned >= MARGIN)


def _as_now(trial: TrialConfig) -> TrialConfig:
    """Return a trial that measures its features as often as one of a new study."""
    study = StudyConfig(name="library", budget_steps=trial.budget_steps, report_every=trial.report_every)
    return trial.replace(probe_every=study.steps_between_probes)


def _product_images(trial: dict[str, Any]) -> int:
    """Return at how many validation images the product looks today; those kept are the first ones."""
    config = TrialConfig.from_dict(json.loads(trial["trial"]))
    assert config.n_images is not None
    available = max(25, config.n_images // 4)
    kept = len(trial["samples/loss"]) // 2 // len(trial["steps"])
    return min(kept, sample_sizes(config, config.n_images, available).images)


def _run(trial: dict[str, Any]) -> dict[str, Any]:
    facts, config = json.loads(trial["facts"]), json.loads(trial["trial"])
    names = ("n_images", "lr", "batch_size", "augmentation_strength", "budget_steps", "width", "encoder", "seed")
    primary = facts["primary_metric"]
    return {
        "trial_id": trial["trial_id"],
        "phase": "library",
        "task": trial["task"],
        "cell": "",
        "status": FINISHED,
        "reason": "",
        "init_from": "",
        "primary_metric": primary,
        "primary_mode": facts["primary_mode"],
        "chance": facts["chance"][primary],
        "n_train": facts["n_train"],
        "n_queries": facts["n_queries"],
        "n_validation": trial["predictions_per_image"] * trial["product_images"],
        "n_validation_images": trial["product_images"],
        **{f"chance/{name}": level for name, level in facts["chance"].items()},
        **{name: config[name] for name in names},
    }


def _samples(trial: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return each metric's values, float64 [reports, images], of the images that the product looks at."""
    found = {}
    for name, values in trial.items():
        if name.startswith("samples/") and isinstance(values, bytes):
            samples = np.frombuffer(values, np.float16).reshape(len(trial["steps"]), -1)
            found[name.removeprefix("samples/")] = samples[:, : trial["product_images"]].astype(np.float64)
    return found


def _measured(name: str, samples: np.ndarray, steps: Any, index: int) -> dict[str, float]:
    metrics = {name: float(samples[index].mean()), f"{name}_se": _error(samples[index])}
    if index:
        second, last = quarters([int(step) for step in steps[: index + 1]])
        metrics[f"{name}_gain_se"] = _error(samples[index] - samples[0])
        metrics[f"{name}_recent_se"] = _error(samples[last].mean(axis=0) - samples[second].mean(axis=0))
    return metrics


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def _sign(name: str) -> int:
    return -1 if "loss" in name else 1


def _share(trial: dict[str, Any], name: str, facts: dict[str, Any]) -> float:
    """Return what twice the steps added as a share of the gain; where nothing was gained, 1 or 0 by its sign."""
    end, double = (trial[f"gold/{name}/{which}"] for which in ("end", "double"))
    gained, more = _sign(name) * (end - _reference(trial, name, facts)), _sign(name) * (double - end)
    return more / gained if gained > 0 else float(more > 0)


def _learned(trial: dict[str, Any], name: str, facts: dict[str, Any]) -> float:
    sign, level = _sign(name), _reference(trial, name, facts)
    return sign * (trial[f"gold/{name}/end"] - level) / (1 - level if sign > 0 else level)


def _reference(trial: dict[str, Any], name: str, facts: dict[str, Any]) -> float:
    """Return the better of chance and the untrained network's level."""
    sign, chance = _sign(name), facts["chance"][f"val/{name}"]
    return sign * max(sign * chance, sign * trial[f"gold/{name}/untrained"])
