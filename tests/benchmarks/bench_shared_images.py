"""Memory of processes that train on one table of images: their own, and their share of the mapped file.

Every process opens the same file, as the trials of a study do, and takes steps of rotation prediction while all others
do. The output is a table of proportional set sizes (PSS): a page that four processes map counts a quarter in each.

    python tests/benchmarks/bench_shared_images.py [--processes 1 2 4 8] [--images 20000] [--image-size 224]
"""

from __future__ import annotations

import argparse
import multiprocessing
import pickle
import statistics
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainables.data import ImageTable, Splits
from trainables.data.cache import empty
from trainables.training.loop import TrialRun, Worker
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig

SAMPLE_S = 0.05
N_SOURCES = 64  # images that differ; the others repeat them


class Memory(NamedTuple):
    """Proportional set size of a process, in bytes.

    Attributes:
        own: Anonymous memory.
        mapped: Share of the files that it maps, including those of Python and PyTorch.
    """

    own: int
    mapped: int


def memory() -> Memory:
    """Return the memory of this process."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    size = {name: 1024 * int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
    return Memory(size["Pss_Anon"], size["Pss"] - size["Pss_Anon"])


def make_splits(n_images: int, image_size: int) -> Splits:
    """Return splits whose training images are in one file of the cache; a few more validate."""
    sources = np.random.default_rng(0).integers(0, 256, (N_SOURCES, 3, image_size, image_size), dtype=np.uint8)
    images = empty((n_images, *sources.shape[1:]), np.uint8)
    for start in range(0, n_images, N_SOURCES):
        images[start : start + N_SOURCES] = sources[: n_images - start]
    held_out = ImageTable("bench", sources)
    return Splits(ImageTable("bench", images), held_out, None, None, held_out.take(np.arange(0)))


def train(pickled: bytes, trial: TrialConfig, barrier: threading.Barrier, results: multiprocessing.Queue) -> None:
    """Take all steps of a trial, and put the highest memory while every process trains into the queue."""
    torch.set_num_threads(1)
    run = TrialRun(trial, pickle.loads(pickled), lambda report: None, Worker(), None, None)
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=False)
    samples: list[Memory] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            samples.append(memory())

    barrier.wait()
    sampler = threading.Thread(target=sample)
    sampler.start()
    for _ in range(trial.budget_steps):
        run.count(take_step(run.draw(), run.lr))
    done.set()
    sampler.join()
    barrier.wait()
    results.put(Memory(*map(max, zip(*samples, strict=True))))


def measure(splits: Splits, n_processes: int, trial: TrialConfig) -> list[Memory]:
    """Return the memory of each of several processes that train at once."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(n_processes), context.Queue()
    arguments = [(pickle.dumps(splits), trial.replace(seed=seed), barrier, results) for seed in range(n_processes)]
    processes = [context.Process(target=train, args=each, daemon=True) for each in arguments]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return found


def main() -> None:
    """Print one row per number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    arguments = parser.parse_args()
    splits = make_splits(arguments.images, arguments.image_size)
    trial = TrialConfig(
        "search",
        "rotation",
        dataset="bench",
        encoder="conv4",
        width=8,
        batch_size=arguments.batch_size,
        budget_steps=arguments.steps,
        report_every=arguments.steps,
    )
    print(f"images: {splits.pretext_train.images.nbytes / 1e9:.2f} GB\n")
    print("| processes | own memory of each, GB | mapped share of each, GB | all together, GB |\n|---|---|---|---|")
    for n_processes in arguments.processes:
        found = measure(splits, n_processes, trial)
        own, mapped = (statistics.mean(values) / 1e9 for values in zip(*found, strict=True))
        print(f"| {n_processes} | {own:.2f} | {mapped:.2f} | {sum(map(sum, found)) / 1e9:.2f} |", flush=True)


if __name__ == "__main__":
    main()
