"""Data sets as tables of uint8 images."""
