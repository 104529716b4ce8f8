"""`shapes`: the built-in generated data set, ten shapes in small scenes that have an up and a down.

The class is determined by the shape alone: position, size, tilt, colors, texture and scenery are independent of it.
The light on the object, its shadow and, in three of four scenes, a ground that recedes to a horizon show which way is
up. The colors of sky and ground are random, so which half is brighter says little.

The bytes are identical on every machine: the generator uses raw PCG64 words, a stream that numpy guarantees, and
integer arithmetic only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trainables.data.table import ImageTable
from trainables.errors import ConfigError

N_TRAIN = 4000  # default sizes of the two generated parts
N_TEST = 1000

Plane = np.ndarray  # int32, broadcastable to [n, side, side]

_SCENE = 1024  # side of a scene in scene units at any image size; also the unit of a shape's own coordinates
_OVERSAMPLING = 2  # samples per pixel and axis on the outline of a shape
_WORDS = 64  # random words reserved per image: more can be used without changing the next image
_CHUNK = 128  # images rendered at once, so that the planes stay in the CPU cache
_STREAMS = {"train": 0, "test": 1}


def _star(u: Plane, v: Plane) -> np.ndarray:
    # A point is in a pentagram if it is inside at least four of its five lines, which are at distance cos 72 degrees.
    lines = ((0, -1024), (974, -316), (602, 828), (-602, 828), (-974, -316))
    return np.stack([a * u + b * v <= 316 * 1024 for a, b in lines]).sum(axis=0) >= 4


def _disc(u: Plane, v: Plane, radius: int) -> np.ndarray:
    return u * u + v * v <= radius * radius


def _box(u: Plane, v: Plane, half_width: int, half_height: int) -> np.ndarray:
    return (np.abs(u) <= half_width) & (np.abs(v) <= half_height)


# Whether a point is in the shape: u is to the right, v is down, and 1024 is the shape's radius.
SHAPES: dict[str, Callable[[Plane, Plane], np.ndarray]] = {
    "circle": lambda u, v: _disc(u, v, 880),
    "ring": lambda u, v: _disc(u, v, 960) & ~_disc(u, v, 520),
    "crescent": lambda u, v: _disc(u, v, 960) & ~_disc(u - 480, v + 120, 760),
    "dome": lambda u, v: _disc(u, v - 480, 1000) & (v <= 480),
    "square": lambda u, v: _box(u, v, 800, 800),
    "frame": lambda u, v: _box(u, v, 860, 860) & ~_box(u, v, 440, 440),
    "triangle": lambda u, v: (v <= 720) & (16 * np.abs(u) <= 10 * (v + 920)),
    "star": _star,
    "cross": lambda u, v: _box(u, v, 300, 940) | _box(u, v, 940, 300),
    "hourglass": lambda u, v: (np.abs(v) <= 880) & (8 * np.abs(u) <= 7 * np.abs(v) + 900),
}
CLASS_NAMES = tuple(SHAPES)
MASK_NAMES = ("background", *CLASS_NAMES)


def generate(n_images: int, *, split: str, image_size: int = 32, seed: int = 0) -> ImageTable:
    """Generate labeled scenes with masks.

    Image i depends only on `split`, `seed` and i, not on `n_images`. Its scene does not depend on `image_size`.

    Args:
        n_images: Number N of images, at least 1.
        split: `train` or `test`.
        image_size: Side S in pixels, at least 8.
        seed: At least 0.

    Returns:
        A table of images uint8 [N, 3, S, S], labels int64 [N] and masks uint8 [N, S, S], which are 0 for background
        and label + 1 on the shape.

    Raises:
        ConfigError: An argument is out of range.
    """
    if split not in _STREAMS:
        raise ConfigError(f"shapes: split = {split!r}; it must be one of {', '.join(_STREAMS)}")
    if n_images < 1 or image_size < 8 or seed < 0:
        raise ConfigError(
            f"shapes: n_images = {n_images}, image_size = {image_size}, seed = {seed}; "
            "at least one image of 8 pixels and a seed of 0 or more are needed"
        )
    scenes, grain = (np.random.PCG64(np.random.SeedSequence([seed, _STREAMS[split], key])) for key in (0, 1))
    images = np.empty((n_images, 3, image_size, image_size), np.uint8)
    masks = np.empty((n_images, image_size, image_size), np.uint8)
    labels = np.empty(n_images, np.int64)
    for rows in _chunks(n_images):
        draws = _Draws(scenes.random_raw((rows.stop - rows.start, _WORDS)))
        noise = _bytes(grain, rows.stop - rows.start, image_size)
        images[rows], labels[rows], masks[rows] = _render(draws, noise, image_size)
    return ImageTable("shapes", images, labels, masks, CLASS_NAMES, MASK_NAMES)


def _chunks(n_images: int) -> Iterator[slice]:
    for start in range(0, n_images, _CHUNK):
        yield slice(start, min(start + _CHUNK, n_images))


class _Draws:
    """Random integers for every image of a chunk, drawn word by word from each image's own row."""

    def __init__(self, words: np.ndarray) -> None:
        self._words = words
        self._next = 0

    def integers(self, low: int, high: int) -> Plane:
        """Return int32 [n, 1, 1], uniform in [low, high]."""
        word = self._words[:, self._next] >> np.uint64(32)
        self._next += 1
        scaled = word * np.uint64(high - low + 1) >> np.uint64(32)
        return (scaled.astype(np.int32) + np.int32(low))[:, None, None]

    def color(self) -> np.ndarray:
        """Return a color per image, int32 [n, 3, 1, 1] in 16..239."""
        return np.stack([self.integers(16, 239) for _ in range(3)], axis=1)


def _bytes(stream: np.random.PCG64, n: int, image_size: int) -> np.ndarray:
    """Return one random byte per pixel, int32 [n, S, S], from a whole number of words per image."""
    n_words = -(-image_size * image_size // 8)
    flat = stream.random_raw((n, n_words)).astype("<u8").view(np.uint8)[:, : image_size * image_size]
    return flat.reshape(n, image_size, image_size).astype(np.int32)


def _render(draws: _Draws, noise: np.ndarray, image_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render images, labels and masks of one chunk, from back to front."""
    x, y = _grid(image_size)
    labels = draws.integers(0, len(SHAPES) - 1)[:, 0, 0].astype(np.int64)
    radius = draws.integers(215, 355)
    center_x, center_y = draws.integers(330, 694), draws.integers(330, 680)
    tilt = draws.integers(-9, 9)

    canvas = _scenery(draws, x, y)
    _cast_shadow(canvas, draws, x - center_x, y - center_y, radius)
    coverage = _coverage(labels, center_x, center_y, radius, tilt, image_size)
    u, v = _own_coordinates(x - center_x, y - center_y, radius, tilt)
    surface = _surface(draws, canvas, coverage, u, v)
    full = _OVERSAMPLING**2
    canvas += (surface - canvas) * coverage[:, None] // full

    light = draws.integers(0, 40)
    canvas += (light * (_SCENE // 2 - y) // _SCENE)[:, None]
    grain = draws.integers(4, 40)
    canvas += ((noise - 128) * grain // 256)[:, None]
    masks = np.where(2 * coverage > full, labels[:, None, None] + 1, 0)
    return canvas.clip(0, 255).astype(np.uint8), labels, masks.astype(np.uint8)


def _grid(n: int) -> tuple[Plane, Plane]:
    """Return the centers of n x n cells in scene units: x [1, 1, n], y [1, n, 1]."""
    centers = ((2 * np.arange(n, dtype=np.int32) + 1) * (_SCENE // 2) // n).astype(np.int32)
    return centers[None, None, :], centers[None, :, None]


def _own_coordinates(dx: Plane, dy: Plane, radius: Plane, tilt: Plane) -> tuple[Plane, Plane]:
    """Convert scene offsets to the tilted shape's coordinates; the angle is 2 atan(tilt / 64), up to 16 degrees."""
    scale = 4096 + tilt * tilt
    cosine, sine = _SCENE * (4096 - tilt * tilt) // scale, _SCENE * 128 * tilt // scale
    return (dx * cosine + dy * sine) // radius, (dy * cosine - dx * sine) // radius


def _coverage(
    labels: np.ndarray, center_x: Plane, center_y: Plane, radius: Plane, tilt: Plane, image_size: int
) -> np.ndarray:
    """Count the samples of each pixel that are in the shape, int32 [n, S, S]."""
    x, y = _grid(image_size * _OVERSAMPLING)
    u, v = _own_coordinates(x - center_x, y - center_y, radius, tilt)
    inside = np.empty(u.shape, bool)
    for label, contains in enumerate(SHAPES.values()):
        chosen = labels == label
        inside[chosen] = contains(u[chosen], v[chosen])
    samples = inside.reshape(len(labels), image_size, _OVERSAMPLING, image_size, _OVERSAMPLING)
    return samples.sum(axis=(2, 4), dtype=np.int32)


def _scenery(draws: _Draws, x: Plane, y: Plane) -> np.ndarray:
    """Render the background, int32 [n, 3, S, S]: sky, hills and a receding ground, or a patterned wall."""
    is_wall = draws.integers(0, 3) == 0
    top, bottom, hill, ground = (draws.color() for _ in range(4))
    canvas = top + (bottom - top) * y[:, None] // _SCENE

    slope, shift, period = draws.integers(-2, 2), draws.integers(0, 1023), draws.integers(1, 4)
    pattern = (x * period + y * slope + shift) & 511 < 256
    canvas = canvas + np.where(is_wall & pattern, draws.integers(-48, 48), 0)[:, None]

    horizon = np.where(is_wall, 2 * _SCENE, draws.integers(380, 700))
    rise = np.zeros((1, 1, 1), np.int32)
    for steepness in (1, 3):
        wave = np.abs(((x * steepness + draws.integers(0, 2047)) & 2047) - 1024)
        rise = rise + wave * draws.integers(0, 200) // _SCENE
    canvas = np.where((y >= horizon - rise)[:, None], hill, canvas)

    # Bands of equal depth get denser toward the horizon, as on a real floor.
    below = y - horizon
    depth = draws.integers(60_000, 160_000) // (np.maximum(below, 0) + 60)
    bands = np.where((depth >> 8) & 1, draws.integers(-40, 40), 0)
    canvas = np.where((below >= 0)[:, None], ground + bands[:, None], canvas)

    for _ in range(3):
        left, upper = draws.integers(-60, 1000), draws.integers(-60, 1000)
        width, height = draws.integers(50, 150), draws.integers(50, 150)
        block = (x >= left) & (x < left + width) & (y >= upper) & (y < upper + height)
        canvas = np.where(block[:, None], draws.color(), canvas)
    return canvas.astype(np.int32)


def _cast_shadow(canvas: np.ndarray, draws: _Draws, dx: Plane, dy: Plane, radius: Plane) -> None:
    """Darken, in place, a flat ellipse under the shape and a little to one side."""
    side = draws.integers(-160, 160)
    u = (dx * _SCENE // radius) - side
    v = (dy * _SCENE // radius) - 900
    ellipse = (u >> 2) ** 2 + (v * 3 >> 2) ** 2 <= 256 * 256
    strength = draws.integers(90, 170)
    canvas -= canvas * np.where(ellipse, strength, 0)[:, None] // 256


def _surface(draws: _Draws, canvas: np.ndarray, coverage: np.ndarray, u: Plane, v: Plane) -> np.ndarray:
    """Return the shape's color at every pixel: plain or patterned, lit from above, in contrast to what is behind it."""
    color = draws.color()
    behind = (_luminance(canvas) * coverage).sum(axis=(1, 2), keepdims=True) // np.maximum(
        coverage.sum(axis=(1, 2), keepdims=True), 1
    )
    own = _luminance(color)
    target = np.where(behind > 128, behind - 90, behind + 90)
    color = color + np.where(np.abs(own - behind) < 75, target - own, 0)[:, None]

    kind, shift = draws.integers(0, 4), draws.integers(0, 1023)
    period = draws.integers(350, 800)
    along, across = (u + shift + 8192) // period & 1, (v + shift + 8192) // period & 1
    diagonal = (u + v + shift + 8192) // period & 1
    texture = np.select([kind == 1, kind == 2, kind == 3, kind == 4], [along, across, diagonal, along ^ across], 0)
    tone = draws.integers(20, 55) * np.where(draws.integers(0, 1) == 0, 1, -1)
    shading = -v * draws.integers(35, 70) // _SCENE
    return (color + (texture * tone + shading)[:, None]).clip(0, 255).astype(np.int32)


def _luminance(color: np.ndarray) -> Plane:
    """Return Rec. 601 luma, int32 [n, ...], of colors int32 [n, 3, ...]."""
    # Integer weights keep the bytes equal on every machine; the floats of `augmentation.pixels.LUMA` might not.
    return (77 * color[:, 0] + 150 * color[:, 1] + 29 * color[:, 2]) >> 8
