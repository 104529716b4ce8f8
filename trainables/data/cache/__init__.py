"""Cache of what is expensive to make from images, and large arrays in files that the processes of a node share."""

from trainables.data.cache.arrays import copied, empty, file_of, joined, rows, uncached
from trainables.data.cache.results import beside, key_of, remembered

__all__ = ["beside", "copied", "empty", "file_of", "joined", "key_of", "remembered", "rows", "uncached"]
