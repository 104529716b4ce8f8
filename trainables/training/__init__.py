"""Training: the loop of one trial, its batches, optimizers, measurements between steps and checkpoints."""
