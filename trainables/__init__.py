"""What one trial does: tasks, data, augmentation, training loop and probes, in plain PyTorch."""
