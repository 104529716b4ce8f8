"""Augmentation of whole batches on their own device: `ops` defines the ops, `policy` applies them."""

from trainables.augmentation.ops import OPS, REGISTRY, Draws, register_op
from trainables.augmentation.policy import Augmentation, identity, validate_policy

__all__ = ["OPS", "REGISTRY", "Augmentation", "Draws", "identity", "register_op", "validate_policy"]
