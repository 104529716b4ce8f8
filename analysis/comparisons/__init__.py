"""Comparisons: which cells of a study are compared, by which metric, and with which answer."""
