"""Recalibration: BatchNorm statistics estimated on the inputs of the next measurement."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from trainables.data.table import Splits, as_tensor, to_float
from trainables.devices import placed
from trainables.distributed import CrossWorkerBatchNorm
from trainables.encoders.base import Encoder

CALIBRATION_IMAGES = 512  # for the BatchNorm statistics of a probed encoder

BatchNorm = nn.modules.batchnorm._BatchNorm


def calibration_images(splits: Splits, device: torch.device) -> Tensor:
    """Return the training images [N, C, S, S] that a probed encoder's BatchNorm statistics are estimated on."""
    table = splits.pretext_train if splits.probe_train is None else splits.probe_train
    return placed(as_tensor(table.images[:CALIBRATION_IMAGES]), device)


@torch.no_grad()
def recalibrated(encoder: Encoder, images: Tensor, *, batch_size: int = 256) -> Encoder:
    """Return a copy in eval mode with the BatchNorm statistics of `images`.

    Pretext tasks train on patches, rotated or masked images; probes use whole ones, whose statistics differ. An
    untrained encoder has no statistics at all. Every probed encoder is recalibrated, so that the comparison is fair.

    Args:
        encoder: Encoder to copy; it is not changed.
        images: uint8, uint16 or float32 [N, C, S, S].
        batch_size: Largest batch.
    """
    encoder = copy.deepcopy(encoder).eval()  # only BatchNorm sees the images as in training, and dropout does not

    def see_all() -> None:
        # Equal batch sizes, since the average weights all batches equally, whatever their size.
        for batch in images.chunk(math.ceil(len(images) / batch_size)):
            if len(batch) > 1:
                encoder(to_float(batch, torch.channels_last))

    _estimate(_batch_norms(encoder), see_all)
    return encoder


@contextlib.contextmanager
def temporary_statistics(module: nn.Module, see_all: Callable[[], None]) -> Iterator[None]:
    """Give the BatchNorms of `module` the statistics of the batches that `see_all` passes through it; restore them.

    Only the BatchNorms are in training mode while `see_all` runs. Without this, an untrained network would be measured
    with the statistics (0, 1) and a trained one with running averages that lag behind its weights, and the difference
    of the two would look like learning.

    Args:
        module: Module in eval mode.
        see_all: Function that passes batches of equal size through `module`.
    """
    norms = _batch_norms(module)
    states = [copy.deepcopy(norm.state_dict()) for norm in norms]
    try:
        with torch.no_grad():
            _estimate(norms, see_all)
        yield
    finally:
        for norm, state in zip(norms, states, strict=True):
            norm.load_state_dict(state)


def _batch_norms(module: nn.Module) -> list[BatchNorm]:
    return [each for each in module.modules() if isinstance(each, BatchNorm) and each.track_running_stats]


def _estimate(norms: list[BatchNorm], see_all: Callable[[], None]) -> None:
    """Replace the statistics of `norms` by cumulative averages over the batches of `see_all`; leave eval mode set."""
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
        if isinstance(norm, CrossWorkerBatchNorm):
            norm.shared = False  # only the first worker measures; it would wait for the others forever
    see_all()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        if isinstance(norm, CrossWorkerBatchNorm):
            norm.shared = True
