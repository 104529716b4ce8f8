"""Readers of image files: found in a folder or a manifest, decoded, resized to squares, and scaled."""

from trainables.data.readers.bad_image import BadImage
from trainables.data.readers.folders import load_folder
from trainables.data.readers.images import ImageReader
from trainables.data.readers.pixels import read_all, read_scaled
from trainables.data.readers.walk import list_images

__all__ = ["BadImage", "ImageReader", "list_images", "load_folder", "read_all", "read_scaled"]
