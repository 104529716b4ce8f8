"""Data sets: loaded by name into tables of images, and split for pretext training, probing and testing."""

from trainables.data.load import load_splits, register_dataset
from trainables.data.request import Request, Tables
from trainables.data.splits import make_splits
from trainables.data.table import ImageTable, Splits

__all__ = ["ImageTable", "Request", "Splits", "Tables", "load_splits", "make_splits", "register_dataset"]
