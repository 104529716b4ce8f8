"""BatchNorm statistics of an encoder, estimated again on whole images before it is probed."""

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
    """Return a copy in eval mode whose BatchNorm statistics are those of `images` (uint8 [N, 3, S, S]).

    A pretext task shows the encoder patches, rotated or masked images; a probe shows it whole ones, whose
    statistics differ. An untrained encoder has none at all. Every probed encoder goes through here, so that the
    comparison is fair.
    """
    encoder = copy.deepcopy(encoder)
    norms = [module for module in encoder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over the batches below
        if isinstance(norm, CrossWorkerBatchNorm):
            norm.shared = False  # only the first worker probes: it would wait for the others for ever
    encoder.train()
    # Batches of equal size, since each counts the same in the average: a last one of a few images would spoil it.
    for batch in images.chunk(math.ceil(len(images) / batch_size)):
        if len(batch) > 1:
            encoder(to_float(batch, torch.channels_last))
    return encoder.eval()
