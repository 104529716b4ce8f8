"""Separate random streams of one seed.

Initialisation, data order and augmentation each have a stream of their own, so that two cells of an ablation with
the same seed differ in nothing but the factor under study. A stream's seed is a function of its name and the step,
so a resumed trial needs no generator state to continue to the bit.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def stream_seed(seed: int, stream: str, *indices: int) -> int:
    """Return 63 bits for `stream` of `seed` at `indices`; different names and indices give unrelated values."""
    text = "/".join([str(seed), stream, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def generator(device: torch.device | str, seed: int, stream: str, *indices: int) -> torch.Generator:
    """Return a fresh generator on `device` for one stream at one place."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream, *indices))


@contextlib.contextmanager
def initialisation(seed: int, stream: str) -> Iterator[None]:
    """Seed the global CPU generator, which module constructors draw from, and put it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, stream))
        yield
