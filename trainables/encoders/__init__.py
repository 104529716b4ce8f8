"""Encoders: a small convolutional net for laptops, and ResNets with a stem for small images.

Every encoder takes float images [N, 3, S, S] in [0, 1] of any side S, normalizes them, and returns features
[N, feature_dim]. `stages` returns the feature map of every stage, for dense and per-layer probes.
"""

from trainables.encoders.base import MEAN, STD, Encoder
from trainables.encoders.build import build_encoder
from trainables.encoders.calibration import recalibrated

__all__ = ["MEAN", "STD", "Encoder", "build_encoder", "recalibrated"]
