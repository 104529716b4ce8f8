"""Probes: what frozen features are worth to a linear classifier, to neighbors, to a segmentation, to few labels."""
