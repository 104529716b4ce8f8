"""Whole-batch augmentation on the batch's own device: what an op does, and how its parameters are drawn."""

from trainables.augmentation.policy import OPS, Augmentation, identity, validate_policy

__all__ = ["OPS", "Augmentation", "identity", "validate_policy"]
