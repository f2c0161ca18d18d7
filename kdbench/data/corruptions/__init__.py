"""Corrupted images: noise, blur, weather and digital damage in five severities, computed on the device.

Each corruption is a function of a batch of images, its level at a severity, and random draws; a file of
this package registers those of one family. ``kdbench list corruptions`` prints their table: names, what
the level is, its five values, and whose definition it is. Those that are not of CIFAR-10-C (Hendrycks &
Dietterich 2019, arXiv 1903.12261) are kdbench's own, and so are figures from them. Unlike CIFAR-10-C,
pixels are rounded to 8 bits, not cut off.
"""

from kdbench.data.corruptions.registry import SEVERITIES, Corruption, corrupt, corruptions, selected

__all__ = ["SEVERITIES", "Corruption", "corrupt", "corruptions", "selected"]
