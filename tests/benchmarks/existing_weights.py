"""ImageNet weights beside own pre-training, untrained networks and raw pixels, on small samples of real images.

    python -m tests.benchmarks.existing_weights DATA_ROOT WEIGHTS.safetensors results.jsonl

`examples/imagenet_weights/convert.py` writes the weights. Each measurement is one line of the output; a run that was
interrupted continues. The comparisons are printed at the end, or with `--only-compare` of what is there.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from analysis.comparisons import effects
from analysis.data.per_image import PerImage
from trainables.data.load import load_splits
from trainables.data.table import Splits
from trainables.encoders.timm_models import expected_inputs
from trainables.encoders.weights import digest, read_weights
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.training.loop import fit
from trainables.trial import RANDOM_INIT, RAW_PIXELS, WEIGHTS, TrialConfig, is_baseline

MODEL = "timm/tf_efficientnet_lite0"
SEEDS = (11, 12, 13)
N_LABELED, N_TEST = 2000, 1000  # a fifth of the labeled images choose the probe's weight decay
OWN_STEPS, CONTINUED_STEPS = 300, 200
POLICY = {"crop_resize": 0.5, "flip": 1.0, "color_jitter": 0.5}
DATASETS = ("cifar10", "fashion_mnist", "voc")


def trials(dataset: str, weights: str) -> Iterator[TrialConfig]:
    """Yield the trials of one data set, the cheapest first."""
    base = TrialConfig("evaluate", RANDOM_INIT, dataset=dataset, probe_datasets=(dataset,), probe_split="test")
    expected = expected_inputs(MODEL)
    given = base.replace(encoder=MODEL, weights=weights, mean=expected["mean"], std=expected["std"])
    yield base.replace(task=RAW_PIXELS, budget_steps=0)
    yield from (base.replace(budget_steps=0, seed=seed) for seed in SEEDS)
    yield given.replace(task=f"{WEIGHTS}frozen at 64 px", input_size=64, budget_steps=0)
    own = {"task": "rotation", "augmentation": POLICY, "batch_size": 64, "report_every": 100}
    yield from (base.replace(**own, lr=3e-3, budget_steps=OWN_STEPS, seed=seed) for seed in SEEDS)
    if dataset == "cifar10":
        yield given.replace(task=f"{WEIGHTS}frozen at 32 px", budget_steps=0)
        continued = {**own, "batch_size": 32, "lr": 3e-4, "budget_steps": CONTINUED_STEPS, "cell": "continued"}
        yield from (given.replace(**continued, seed=seed) for seed in SEEDS)
    yield given.replace(task=f"{WEIGHTS}frozen at 128 px", input_size=128, budget_steps=0)


def measure(trial: TrialConfig, splits: Splits, weights: dict[str, torch.Tensor]) -> dict[str, object]:
    """Run one trial and return its line of the output."""
    began, own = time.perf_counter(), weights if trial.weights else None
    table = splits.pretext_train
    if is_baseline(trial.task):
        encoder = baseline_encoder(trial, table.image_size, table.n_channels, own)
    else:
        encoder = fit(trial, splits, lambda report: None, weights=own)
    found = evaluate(trial, encoder, {trial.dataset: splits}, torch.device("cpu"))
    line = {"trial": trial.to_dict(), "results": found.results, "per_image": dict(found.per_image)}
    return line | {"wall_s": round(time.perf_counter() - began, 1)}


def small(splits: Splits) -> Splits:
    """Return the splits with fewer test images and without masks, whose probe takes several times as long."""
    rows = np.arange(0, len(splits.test), max(1, len(splits.test) // N_TEST))  # of all classes, which are in order
    return dataclasses.replace(splits.without_masks(), test=splits.test.take(rows))


def compare(lines: list[dict]) -> pd.DataFrame:
    """Return every comparison with own pre-training, over new seeds and new images."""
    rows, packed = [], {}
    for line in lines:
        trial = TrialConfig.from_dict(line["trial"])
        metric = f"probe/{trial.dataset}/linear"
        name = trial.cell or trial.task
        seeds = (trial.seed,) if trial.task in ("rotation", RANDOM_INIT) else SEEDS
        for seed in seeds:
            own = {"trial_id": trial.trial_id, "task": trial.dataset, "cell": name, "seed": seed, "status": "FINISHED"}
            rows.append({**own, "probe_split": "test", "linear": line["results"][metric], "result": metric})
        packed[trial.trial_id] = line["per_image"]
    runs = pd.DataFrame(rows)
    designs = runs[["task", "cell"]].drop_duplicates().assign(design="weights", baseline="rotation")
    designs = designs.loc[
        (designs["cell"] != "rotation") & designs["task"].isin(runs.query("cell == 'rotation'")["task"])
    ]
    return effects(runs, "linear", designs=designs, margin=0.01, per_image=PerImage(lambda key: packed.get(key, {})))


def main(root: Path, weights_file: Path, output: Path) -> None:
    """Measure what is missing in the output, and print the comparisons."""
    lines = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    done = {TrialConfig.from_dict(line["trial"]).trial_id for line in lines}
    weights, sha256 = read_weights(weights_file), digest(weights_file)
    for dataset in DATASETS if "--only-compare" not in sys.argv else ():
        splits = small(load_splits(dataset, root=root, image_size=32 if dataset != "voc" else 64, max_train=N_LABELED))
        for trial in trials(dataset, sha256):
            if trial.trial_id in done:
                continue
            lines.append(measure(trial, splits, weights))
            with output.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            accuracy = lines[-1]["results"][f"probe/{dataset}/linear"]
            print(
                dataset, trial.cell or trial.task, trial.seed, f"{accuracy:.3f}", f"{lines[-1]['wall_s']} s", flush=True
            )
    found = compare(lines)
    print(
        found[["task", "cell", "mean", "baseline_mean", "mean_difference", "ci_low", "ci_high", "answer"]].to_string()
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*map(Path, sys.argv[1:4]))
