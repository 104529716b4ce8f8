"""Data sets as tables of uint8 images."""

from trainables.data.load import dataset_names, load_splits
from trainables.data.splits import make_splits
from trainables.data.table import ImageTable, Splits

__all__ = ["ImageTable", "Splits", "dataset_names", "load_splits", "make_splits"]
