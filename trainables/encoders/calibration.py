"""Recalibration: BatchNorm statistics of an encoder, estimated on whole images before it is probed."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from trainables.data.table import to_float
from trainables.distributed import CrossWorkerBatchNorm
from trainables.encoders.base import Encoder


@torch.no_grad()
def recalibrated(encoder: Encoder, images: Tensor, *, batch_size: int = 256) -> Encoder:
    """Return a copy in eval mode with the BatchNorm statistics of `images`.

    Pretext tasks train on patches, rotated or masked images; probes use whole ones, whose statistics differ. An
    untrained encoder has no statistics at all. Every probed encoder is recalibrated, so that the comparison is fair.

    Args:
        encoder: Encoder to copy; it is not changed.
        images: uint8 [N, 3, S, S].
        batch_size: Largest batch.
    """
    encoder = copy.deepcopy(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over the batches below
        if isinstance(norm, CrossWorkerBatchNorm):
            norm.shared = False  # only the first worker probes; it would wait for the others forever
    encoder.train()
    # Equal batch sizes, since the average weights all batches equally, whatever their size.
    for batch in images.chunk(math.ceil(len(images) / batch_size)):
        if len(batch) > 1:
            encoder(to_float(batch, torch.channels_last))
    return encoder.eval()
