"""Reference recipes on a machine that has PyTorch but not Ray: `python -m trainables.reference FOLDER TO`.

It writes the results that `python study/run.py reference` reports.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from trainables.devices import CPU, CUDA, GPU_RESOURCE, device_of
from trainables.errors import UserError
from trainables.reference.recipes import RECIPES, chosen
from trainables.reference.running import load_images, obstacle, run_recipe, with_seeds


def main() -> int:
    """Run the recipes and return the exit code, 2 if the input is wrong."""
    parser = argparse.ArgumentParser(prog="python -m trainables.reference", description=__doc__)
    parser.add_argument("folder", type=Path, help="CIFAR-10, with train/CLASS and test/CLASS")
    parser.add_argument("to", type=Path, help="folder of results and checkpoints; the same command resumes")
    parser.add_argument("--only", action="append", metavar="NAME", help=", ".join(each.name for each in RECIPES))
    parser.add_argument("--seeds", type=int, help="number of seeds; by default as in each recipe")
    parser.add_argument("--device", choices=(CUDA, CPU), default=device_of({GPU_RESOURCE: 1}).type)
    arguments = parser.parse_args()
    try:
        splits, device = load_images(arguments.folder), torch.device(arguments.device)
        for recipe in with_seeds(chosen(arguments.only), arguments.seeds):
            if why := obstacle(recipe, splits, device):
                print(f"{recipe.name}: NOT RUN: {why}", flush=True)  # noqa: T201
            else:
                run_recipe(recipe, splits, arguments.to, device, lambda line: print(line, flush=True))  # noqa: T201
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
