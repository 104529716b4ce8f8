"""Intensity windows: which stored values of images with more than 8 bits become black and white.

A camera of 12 bits fills a sixteenth of the range of its 16-bit files, so the range is taken from the images. The
scaled images keep the type of their values: 65,535 in a uint16 is white, as is 255 in a uint8 and 1 in a float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from trainables.errors import ConfigError

PERCENTILES = (0.1, 99.9)  # a few dead and hot pixels of a camera do not move them
REAL = 32  # bits of real numbers, and of integers that have a sign or more than 16 bits
LOW_16 = 9  # bits of a 16-bit file whose values would fit into 8: a dark image, or one of 8 bits
_DEPTHS = (8, 10, 12, 14, 16)
_SAMPLE = 2**20  # values per channel that the percentiles are estimated from
_SMALLEST_SHARE = 0.05  # if fewer files have a second bit depth, they are dark or bright images of the first
_GAP = 4  # between the brightest file of one bit depth and the darkest of the next: two bits

UserWindow = Sequence[float] | Sequence[Sequence[float]]


class Depth(NamedTuple):
    """Bits per value that a file uses (8 to 16, LOW_16 or REAL), and its highest value."""

    bits: int
    peak: float


def depth_of(values: np.ndarray) -> Depth:
    """Return the depth of an image's stored values, uint8, uint16 or float32 of any shape."""
    peak = float(values.max())
    if values.dtype == np.uint8:
        return Depth(8, peak)
    return Depth(_bits_of_16(peak) if values.dtype == np.uint16 else REAL, peak)


@dataclass(frozen=True)
class Window:
    """The values that become black and white in files of one bit depth.

    Attributes:
        bits: Bits per value of the files: 8 to 16, LOW_16 for 16-bit files without a value above 255, or REAL.
        low: Value of each channel that becomes 0.
        high: Value of each channel that becomes 1; greater than `low`.
    """

    bits: int
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def is_identity(self) -> bool:
        """Whether values of 8 bits in 16-bit files stay as they are."""
        return self.bits == LOW_16 and set(self.low) == {0.0} and set(self.high) == {255.0}


@dataclass(frozen=True)
class Intensity:
    """The windows of a data set, one per bit depth of its files, in ascending order.

    Images of 8 bits in color are never rescaled: in 8-bit files they have no window, in 16-bit files the identity.

    Attributes:
        windows: The windows.
        given: Whether the user has given them; otherwise they are percentiles of the training images.
    """

    windows: tuple[Window, ...]
    given: bool = False

    def window_of(self, depth: Depth) -> Window | None:
        """Return the window of a file; None if the data set had no files of its kind."""
        deep = [
            window
            for window in self.windows
            if 8 < window.bits < REAL and (depth.bits == LOW_16 or not window.is_identity)
        ]
        if depth.bits in (8, REAL) or (depth.bits == LOW_16 and not deep):
            bits = REAL if depth.bits == REAL else 8
            return next((window for window in self.windows if window.bits == bits), None)
        return next((window for window in deep if window.bits >= depth.bits), deep[-1] if deep else None)

    def completed_by(self, other: Intensity | None) -> Intensity:
        """Return these windows, and those of `other` for files of kinds that these have none for."""
        others = () if other is None else other.windows
        added = tuple(window for window in others if self.window_of(Depth(window.bits, 0)) is None)
        return replace(self, windows=tuple(sorted((*self.windows, *added), key=lambda window: window.bits)))

    def apply(self, images: np.ndarray, depths: Sequence[Depth]) -> None:
        """Scale images in place.

        Args:
            images: Stored values, uint16 or float32 [N, C, S, S].
            depths: Depth of each image's file.
        """
        white = 65_535 if images.dtype == np.uint16 else 1.0
        for image, depth in zip(images, depths, strict=True):
            window = self.window_of(depth)
            if window is None or (window.bits == 8 and not _is_gray(image)):
                low, high = np.zeros((1, 1, 1), np.float32), np.full((1, 1, 1), _full_scale(depth), np.float32)
            else:
                low, high = (np.array(ends, np.float32)[:, None, None] for ends in (window.low, window.high))
            scaled = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1) * white
            image[...] = np.rint(scaled) if images.dtype == np.uint16 else scaled

    def describe(self, of: str = "the training images") -> str:
        """Return the windows in one line; empty if no value is changed.

        Args:
            of: The images whose percentiles they are.
        """
        source = "as configured" if self.given else "percentiles {} and {} of {}".format(*PERCENTILES, of)
        windows = [window for window in self.windows if not window.is_identity]
        ranges = "; ".join(f"{_depth_words(window.bits)}: {_ranges(window)}" for window in windows)
        return f"values that become black and white, {source}: {ranges}" if windows else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; `from_dict` is the inverse."""
        windows = [{"bits": w.bits, "low": list(w.low), "high": list(w.high)} for w in self.windows]
        return {"windows": windows, "given": self.given}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Intensity:
        """Return the Intensity of a dict from `to_dict`."""
        windows = (Window(int(w["bits"]), tuple(w["low"]), tuple(w["high"])) for w in values["windows"])
        return cls(tuple(windows), values.get("given", False))


def find_intensity(
    images: np.ndarray, depths: Sequence[Depth], n_train: int, window: UserWindow | None = None
) -> Intensity | None:
    """Return the windows of a data set.

    Each bit depth has its own, so that equal content has equal values whatever camera recorded it. Color images share
    one window over their three channels, which keeps their hues; other channels have one each.

    Args:
        images: Stored values, uint8, uint16 or float32 [N, C, S, S], the training images first.
        depths: Depth of each image's file.
        n_train: Number of training images, from which the percentiles are computed.
        window: The user's [low, high], or one such pair per channel; None for percentiles of the set.

    Returns:
        The windows; None if every image stays as it is.

    Raises:
        ConfigError: `window` does not fit the images.
    """
    if window is None and images.dtype == np.uint8:
        return None
    groups = _group_bits(images, depths)
    windows = []
    if _is_8_bit_color_in_16(images, groups):
        windows.append(Window(LOW_16, (0.0,) * images.shape[1], (255.0,) * images.shape[1]))
        groups[groups == LOW_16] = 0
    kinds = [int(bits) for bits in np.unique(groups[groups > 0])]
    if window is not None:
        if not kinds:
            raise ConfigError("window: all images have 8 bits in color, which are not rescaled; remove it")
        low, high = _user_window(window, images.shape[1])
        windows += [Window(bits, low, high) for bits in kinds]
    else:
        is_train = np.arange(len(images)) < n_train
        for bits in kinds:
            rows = np.flatnonzero((groups == bits) & is_train)
            rows = rows if len(rows) else np.flatnonzero(groups == bits)
            windows.append(_percentile_window(images, rows, bits))
    return Intensity(tuple(sorted(windows, key=lambda each: each.bits)), given=window is not None)


def _group_bits(images: np.ndarray, depths: Sequence[Depth]) -> np.ndarray:
    """Return the bits of each image's group, int64 [N]; 0 for 8-bit files in color."""
    bits = np.array([depth.bits for depth in depths], np.int64)
    deep = (bits > 8) & (bits < REAL)
    if deep.any():
        bits[deep] = _camera_bits(np.array([depth.peak for depth in depths])[deep])
    for row in np.flatnonzero(bits == 8):
        if not _is_gray(images[row]):
            bits[row] = 0
    return bits


def _is_8_bit_color_in_16(images: np.ndarray, groups: np.ndarray) -> bool:
    """Return whether the 16-bit files of a data set are images of 8 bits in color; single ones may be gray or black."""
    low = np.flatnonzero(groups == LOW_16)
    n_deep = ((groups > 8) & (groups < REAL)).sum()
    return len(low) == n_deep and not all(_is_gray(images[row]) for row in low)


def _camera_bits(peaks: np.ndarray) -> np.ndarray:
    """Return the bit depth of each 16-bit file, from the highest value of each, float [N].

    All have the same depth, unless one part of the files fills the range of a lower depth and the darkest of the
    others is still four times as bright. Dark images of one camera thus stay dark.
    """
    bits = np.full(len(peaks), _bits_of_16(float(peaks.max())))
    ordered = np.sort(peaks)
    least = max(1, round(_SMALLEST_SHARE * len(peaks)))
    for depth in _DEPTHS[:-1]:
        n_low = int(np.searchsorted(ordered, 2**depth))
        if n_low < least or len(peaks) - n_low < least:
            continue
        brightest, darkest = ordered[n_low - 1], ordered[n_low]
        if brightest >= 2 ** (depth - 1) and darkest >= _GAP * brightest:
            bits[peaks < 2**depth] = _bits_of_16(2.0**depth - 1)
            break
    return bits


def _percentile_window(images: np.ndarray, rows: np.ndarray, bits: int) -> Window:
    rng = np.random.default_rng(0)
    n_channels, side = images.shape[1], images.shape[2]
    pooled = n_channels == 3
    ends = []
    for channel in range(1 if pooled else n_channels):
        count = min(_SAMPLE, len(rows) * side * side)
        of_row, y, x = rng.choice(rows, count), rng.integers(0, side, count), rng.integers(0, side, count)
        of_channel = rng.integers(0, 3, count) if pooled else channel
        low, high = np.percentile(images[of_row, of_channel, y, x], PERCENTILES)
        ends.append((float(low), float(high) if high > low else float(low) + 1))
    lows, highs = zip(*(ends * 3 if pooled else ends), strict=True)
    return Window(bits, lows, highs)


def _user_window(window: UserWindow, n_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    pairs: list[Any] = list(window)
    if not pairs or not isinstance(pairs[0], Sequence):
        pairs = [pairs] * n_channels
    if len(pairs) != n_channels:
        raise ConfigError(f"window has {len(pairs)} pairs, but the images have {n_channels} channels")
    for pair in pairs:
        if len(pair) != 2 or not pair[0] < pair[1]:
            raise ConfigError(f"window = {list(pair)}: must be two values, the first below the second")
    return tuple(float(low) for low, _ in pairs), tuple(float(high) for _, high in pairs)


def _is_gray(image: np.ndarray) -> bool:
    """Return whether an image [C, S, S] has no colors: other than three channels, or three equal ones."""
    return len(image) != 3 or (np.array_equal(image[0], image[1]) and np.array_equal(image[0], image[2]))


def _bits_of_16(peak: float) -> int:
    return LOW_16 if peak < 2**8 else next(depth for depth in _DEPTHS if peak < 2**depth)


def _full_scale(depth: Depth) -> float:
    return 1.0 if depth.bits == REAL else 2.0 ** (8 if depth.bits == LOW_16 else depth.bits) - 1


def _depth_words(bits: int) -> str:
    """Return a depth in words: `12 bits`."""
    if bits == LOW_16:
        return "8 bits in 16-bit files"
    return "real numbers" if bits == REAL else f"{bits} bits"


def _ranges(window: Window) -> str:
    form = ".4g" if window.bits == REAL else ".0f"
    pairs = [f"{low:{form}} to {high:{form}}" for low, high in zip(window.low, window.high, strict=True)]
    return pairs[0] if len(set(pairs)) == 1 else ", ".join(pairs)
