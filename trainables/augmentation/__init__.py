"""Augmentation of whole batches on their own device: `ops` defines the ops, `policy` applies them."""

from trainables.augmentation.ops import OPS, REGISTRY, Draws, register_op
from trainables.augmentation.policy import SIMCLR_CIFAR10_VIEWS, Augmentation, identity, validate_policy

__all__ = [
    "OPS",
    "REGISTRY",
    "SIMCLR_CIFAR10_VIEWS",
    "Augmentation",
    "Draws",
    "identity",
    "register_op",
    "validate_policy",
]
