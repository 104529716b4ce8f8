"""Cache of what is expensive to make from images, and large arrays in files that the processes of a node share."""

from trainables.data.cache.arrays import copied, empty, file_of, joined, rows, uncached
from trainables.data.cache.results import key_of, remembered, remembered_in_entry

__all__ = ["copied", "empty", "file_of", "joined", "key_of", "remembered", "remembered_in_entry", "rows", "uncached"]
