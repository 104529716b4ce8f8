"""SimCLR here and in lightly with PyTorch Lightning: images per second of processor time.

Both train conv4 on the same generated images of 32 px with a projection head of the same widths, NT-Xent, AdamW, the
same batch size and the same kinds of augmentation. Processor time of one thread counts, since it does not depend on
what else the machine does; lightly therefore augments in the process that trains (`num_workers=0`). Workers would take
as much time of other cores. Rounds alternate; the output shows medians. The first steps do not count.

    pip install 'pretext-study[benchmark]' && python tests/benchmarks/bench_peers.py [--steps 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from typing import Any

import lightly.loss
import lightly.models.modules
import lightly.transforms
import numpy as np
import pytorch_lightning
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from search_spaces import SPECS
from trainables.allocator import keep_freed_memory
from trainables.data import Splits, load_splits
from trainables.encoders import encoder_of
from trainables.tasks.simclr import SimCLROptions
from trainables.training.loop import TrialRun, Worker
from trainables.training.step import TrainingStep
from trainables.trial import TrialConfig

WARM_UP = 3  # steps that do not count
JITTER, GRAY, MIN_SCALE = 0.5, 0.2, 0.54  # of the default policy at its default strength 0.5


def ours(trial: TrialConfig, splits: Splits) -> float:
    """Return images per second of processor time between reports."""
    run = TrialRun(trial, splits, lambda report: None, Worker(), None)
    take_step = TrainingStep(run.task, run.model, run.optimizer, replay=False)
    times = []
    for _ in range(trial.budget_steps):
        run.count(take_step(run.draw(), run.lr))
        times.append(time.process_time())
    return rate(times, trial)


def lightlys(trial: TrialConfig, splits: Splits) -> float:
    """Return images per second of processor time of Lightning's Trainer with lightly's views, head and loss."""
    views = Views(splits.pretext_train.images)
    loader = DataLoader(views, batch_size=trial.batch_size, shuffle=True, drop_last=True, num_workers=0)
    model = PeerSimCLR(trial)
    trainer = pytorch_lightning.Trainer(
        max_steps=trial.budget_steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, loader)
    return rate(model.times, trial)


def rate(times: list[float], trial: TrialConfig) -> float:
    """Return images per second, from the times at which the steps ended."""
    return (len(times) - WARM_UP) * trial.batch_size / (times[-1] - times[WARM_UP - 1])


class Views(Dataset):
    """Two views of each image, uint8 [N, 3, S, S], by lightly's transform."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images
        self.transform = lightly.transforms.SimCLRTransform(
            input_size=images.shape[-1],
            cj_strength=JITTER,
            gaussian_blur=0.0,
            min_scale=MIN_SCALE,
            random_gray_scale=GRAY,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self.transform(Image.fromarray(self.images[index].transpose(1, 2, 0)))


class PeerSimCLR(pytorch_lightning.LightningModule):
    """SimCLR of lightly's parts around this package's encoder.

    Attributes:
        times: Processor time at the end of each step, in seconds.
    """

    def __init__(self, trial: TrialConfig) -> None:
        super().__init__()
        options = SimCLROptions()
        self.trial, self.times = trial, []
        self.encoder = encoder_of(trial, 32, 3, None).to(memory_format=torch.channels_last)
        self.head = lightly.models.modules.SimCLRProjectionHead(
            self.encoder.feature_dim, options.projection_hidden, options.projection_dim
        )
        self.criterion = lightly.loss.NTXentLoss(temperature=options.temperature)

    def training_step(self, views: Any, index: int) -> torch.Tensor:
        """Return NT-Xent of the two views."""
        return self.criterion(*(self.head(self.encoder(view)) for view in views))

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Note when the step ended."""
        self.times.append(time.process_time())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return AdamW with the trial's learning rate and weight decay."""
        return torch.optim.AdamW(self.parameters(), lr=self.trial.lr, weight_decay=self.trial.weight_decay)


def main() -> None:
    """Print the rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    splits = load_splits("shapes", root=None)
    steps = arguments.steps + WARM_UP
    trial = TrialConfig("bench", "simclr", budget_steps=steps, report_every=steps, **SPECS["simclr"].defaults)
    rounds = [(lightlys(trial, splits), ours(trial, splits)) for _ in range(arguments.rounds)]
    keep_freed_memory()  # as in the workers of a study; this cannot be taken back, so these rounds come last
    kept = [(lightlys(trial, splits), ours(trial, splits)) for _ in range(arguments.rounds)]
    print(f"{'images per second of processor time':<44}{'lightly':>10}{'here':>8}{'ratio':>8}")
    for name, pairs in (("memory returned to the system", rounds), ("memory kept (workers of a study)", kept)):
        there, here = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:<44}{there:>10.0f}{here:>8.0f}{statistics.median(b / a for a, b in pairs):>8.2f}")
    there, here = (statistics.median(column) for column in ([a for a, _ in rounds], [b for _, b in kept]))
    print(f"{'each as it runs by default':<44}{there:>10.0f}{here:>8.0f}{here / there:>8.2f}")


if __name__ == "__main__":
    main()
