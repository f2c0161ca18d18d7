"""Random changes of training images, as a suite asks for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Augment:
    """Random changes of training images.

    ``crop_padding`` p: zeros are put around the image before it is normalised, and a window of the
    original size is cut out at one of (2p + 1)² places. ``flip``: each image is mirrored left to right
    with probability one half.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        """Refuse a padding below zero, which would be cut off without a word."""
        if self.crop_padding < 0:
            raise ValueError(f"crop_padding is {self.crop_padding}: it is 0 or more")
