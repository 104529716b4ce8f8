"""Data sets: loaded by name into tables of uint8 images, and split for pretext training, probing and testing."""

from trainables.data.load import load_splits
from trainables.data.splits import make_splits
from trainables.data.table import ImageTable, Splits

__all__ = ["ImageTable", "Splits", "load_splits", "make_splits"]
