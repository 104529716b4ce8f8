"""Training: the loop of one trial, its optimizers, what it measures between steps, its checkpoints."""
