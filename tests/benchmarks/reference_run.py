"""One trial of a recipe with published figures, on the whole CIFAR-10, without Ray: on a GPU in minutes.

The recipe is Patacchiola and Storkey's (arXiv 2006.05849, code mpatacchiola/self-supervised-relational-reasoning): a
network of four layers with 8, 16, 32 and 64 channels, Adam at 1e-3, batches of 128, 200 epochs of 50,000 images, then a
linear probe on the frozen features. It differs in two points: the learning rate follows a cosine, and 1,000 images are
held out to choose the probe's weight decay. With `--encoder conv4`, the layers stride where theirs pool.

    python tests/benchmarks/reference_run.py --task rotation --folder DIR --to results.jsonl [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from trainables.data.readers.folders import load_folder
from trainables.data.request import Request
from trainables.data.splits import make_splits
from trainables.data.table import Splits
from trainables.encoders import Encoder, build_encoder, register_encoder
from trainables.encoders.conv4 import conv4
from trainables.probes.evaluation import evaluate
from trainables.training.loop import Report, Worker, fit
from trainables.trial import RANDOM_INIT, TrialConfig

STEPS = 78_200  # 200 epochs of 391 batches
HELD_OUT = 0.02
POLICIES = {
    "rotation": {"translate": 0.5, "flip": 1.0},
    "simclr": {"crop_resize": 1.0, "flip": 1.0, "color_jitter": 1.0, "gray": 0.2},
}


@register_encoder("conv4_pooled")
def conv4_pooled(width: int, in_channels: int = 3) -> Encoder:
    """Build the network of the recipe: `conv4` with average pooling between stages instead of strides."""
    network = conv4(width, in_channels)
    for stage in network.blocks[1:]:
        stage[0].stride = (1, 1)
        stage.insert(0, nn.AvgPool2d(2))
    return network


def trial(task: str, seed: int, steps: int, encoder: str = "conv4_pooled") -> TrialConfig:
    """Return the recipe of a task; RANDOM_INIT is its untrained network."""
    return TrialConfig(
        "reference",
        task,
        seed=seed,
        dataset="cifar10",
        encoder=encoder,
        width=8,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.0,
        warmup_fraction=0.0,
        batch_size=128,
        augmentation=POLICIES.get(task, {}),
        options={"temperature": 0.5} if task == "simclr" else {},
        budget_steps=0 if task == RANDOM_INIT else steps,
        report_every=max(1, steps // 20),
        probe_datasets=("cifar10",),
        probe_split="test",
        probe_layers="all",
    )


def load(folder: Path) -> Splits:
    """Return the splits of a folder with train/CLASS and test/CLASS."""
    tables = load_folder(Request("cifar10", None, 32), folder)
    return make_splits(tables.train, tables.test, validation_fraction=HELD_OUT)


def main() -> None:
    """Train, probe, and append one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=[*POLICIES, RANDOM_INIT], required=True)
    parser.add_argument("--folder", type=Path, required=True, help="folder of train/CLASS and test/CLASS")
    parser.add_argument("--to", type=Path, required=True, help="file to append the result to")
    parser.add_argument("--encoder", choices=["conv4_pooled", "conv4"], default="conv4_pooled")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    config, device = (
        trial(arguments.task, arguments.seed, arguments.steps, arguments.encoder),
        torch.device(arguments.device),
    )
    splits = load(arguments.folder)
    began = time.perf_counter()

    def report(found: Report) -> None:
        values = {name: round(value, 4) for name, value in found.metrics.items() if "/" in name}
        print(f"{time.perf_counter() - began:.0f} s, step {found.step}: {values}", flush=True)

    if config.task == RANDOM_INIT:
        encoder = build_encoder(config.encoder, width=config.width, image_size=32, seed=config.seed).to(device)
    else:
        encoder = fit(config, splits, report, worker=Worker(device))
    trained = time.perf_counter() - began
    values = dict(evaluate(config, encoder, {"cifar10": splits}, device).results)
    result = {"task": config.task, "seed": config.seed, "steps": config.budget_steps, "seconds": round(trained)}
    with arguments.to.open("a") as file:
        file.write(json.dumps(result | values) + "\n")
    print(json.dumps(result | values))


if __name__ == "__main__":
    main()
