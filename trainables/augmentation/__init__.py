"""Augmentation of whole batches on their own device: `ops` defines the ops, `policy` applies them."""

from trainables.augmentation.ops import OPS
from trainables.augmentation.policy import Augmentation, identity, validate_policy

__all__ = ["OPS", "Augmentation", "identity", "validate_policy"]
