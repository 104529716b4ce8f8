"""ImageNet weights beside own pre-training, untrained networks and raw pixels, on small samples of real images.

    python -m tests.benchmarks.existing_weights DATA_ROOT WEIGHTS.safetensors results.jsonl [AT_MOST]

`examples/imagenet_weights/convert.py` writes the weights. Each trial is one line of the output, and a run continues
where an earlier one ended. The comparisons are printed at the end; AT_MOST limits the trials of one run, 0 for none.
"""

from __future__ import annotations

import dataclasses
import functools
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
SIDES = {"cifar10": 32, "fashion_mnist": 32, "voc2012": 64}  # px of the images
INPUTS = {"cifar10": (None, 64, 128), "fashion_mnist": (64, 128), "voc2012": (64, 128)}  # px; None: not scaled
MEASURES = {"cifar10": "linear", "fashion_mnist": "linear", "voc2012": "miou"}  # the photographs have masks, no labels


def trials(weights: str) -> Iterator[TrialConfig]:
    """Yield all trials, those that train nothing first."""
    expected = expected_inputs(MODEL)
    given = {"encoder": MODEL, "weights": weights, "mean": expected["mean"], "std": expected["std"]}
    bases = {
        name: TrialConfig("evaluate", RANDOM_INIT, dataset=name, probe_datasets=(name,), probe_split="test")
        for name in SIDES
    }
    for name, base in bases.items():
        yield base.replace(task=RAW_PIXELS, budget_steps=0)
        yield from (base.replace(budget_steps=0, seed=seed) for seed in SEEDS)
        for side in INPUTS[name]:
            named = f"{WEIGHTS}frozen at {side or SIDES[name]} px"
            yield base.replace(**given, task=named, input_size=side, budget_steps=0)
    own = {"task": "rotation", "augmentation": POLICY, "batch_size": 64, "report_every": 100}
    continued = {**own, **given, "input_size": 64, "batch_size": 32, "lr": 3e-4, "cell": "continued"}
    for name, base in bases.items():
        yield from (base.replace(**own, lr=3e-3, budget_steps=OWN_STEPS, seed=seed) for seed in SEEDS)
        if name == "cifar10":
            yield from (base.replace(**continued, budget_steps=CONTINUED_STEPS, seed=seed) for seed in SEEDS)


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


@functools.cache
def small(dataset: str, root: Path) -> Splits:
    """Return the splits of a data set with fewer images than it has, of all classes."""
    splits = load_splits(dataset, root=root, image_size=SIDES[dataset], max_train=N_LABELED)
    rows = np.arange(0, len(splits.test), max(1, len(splits.test) // N_TEST))  # classes are in order
    return dataclasses.replace(splits, test=splits.test.take(rows))


def compare(lines: list[dict]) -> pd.DataFrame:
    """Return every comparison with own pre-training, over new seeds and new images, each as if it were the only one."""
    rows, packed = [], {}
    for line in lines:
        trial = TrialConfig.from_dict(line["trial"])
        metric = result(trial)
        name = trial.cell or trial.task
        seeds = SEEDS if is_baseline(trial.task) and trial.task != RANDOM_INIT else (trial.seed,)
        for seed in seeds:
            own = {"trial_id": trial.trial_id, "task": trial.dataset, "cell": name, "seed": seed, "status": "FINISHED"}
            rows.append({**own, "probe_split": "test", "score": line["results"][metric], "result": metric})
        packed[trial.trial_id] = line["per_image"]
    runs = pd.DataFrame(rows)
    designs = runs[["task", "cell"]].drop_duplicates().assign(design="weights", baseline="rotation")
    designs = designs.loc[
        (designs["cell"] != "rotation") & designs["task"].isin(runs.query("cell == 'rotation'")["task"])
    ]
    kept = PerImage(lambda key: packed.get(key, {}))
    alone = [designs.iloc[[index]] for index in range(len(designs))]  # three seeds are too few for a family
    return pd.concat([effects(runs, "score", designs=each, margin=0.01, per_image=kept) for each in alone])


def result(trial: TrialConfig) -> str:
    """Return the name of the result that a trial is compared by."""
    return f"probe/{trial.dataset}/{MEASURES[trial.dataset]}"


def main(root: Path, weights_file: Path, output: Path, at_most: int) -> int:
    """Measure at most so many trials that the output lacks, print the comparisons, and return how many are left."""
    lines = [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []
    done = {TrialConfig.from_dict(line["trial"]).trial_id for line in lines}
    weights, sha256 = read_weights(weights_file), digest(weights_file)
    left = [trial for trial in trials(sha256) if trial.trial_id not in done]
    for trial in left[:at_most]:
        lines.append(measure(trial, small(trial.dataset, root), weights))
        with output.open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
        score, wall_s = lines[-1]["results"][result(trial)], lines[-1]["wall_s"]
        print(trial.dataset, trial.cell or trial.task, trial.seed, f"{score:.3f}", f"{wall_s} s", flush=True)
    columns = ["task", "cell", "mean", "baseline_mean", "mean_difference", "ci_low", "ci_high", "answer"]
    print(compare(lines)[columns].to_string())
    return len(left[at_most:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    places = map(Path, sys.argv[1:4])
    print(main(*places, at_most=int(sys.argv[4]) if len(sys.argv) > 4 else sys.maxsize), "trials left")
