"""Trials: pretext tasks, data, augmentation, training loop and probes, in plain PyTorch."""
