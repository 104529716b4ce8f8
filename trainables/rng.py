"""Separate random streams of one seed.

Initialization, data order and augmentation each have a stream of their own, so that two cells of an ablation with
the same seed differ in nothing but the factor under study. A stream's seed is a function of its name and the step,
so a resumed trial needs no generator state to continue to the bit.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor


def stream_seed(seed: int, stream: str, *indices: int) -> int:
    """Return 63 bits for `stream` of `seed` at `indices`; different names and indices give unrelated values."""
    text = "/".join([str(seed), stream, *map(str, indices)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


class SharedGenerator(torch.Generator):
    """A generator from which all workers draw the same numbers, of which `drawn` gives each those of its own images.

    rank, world_size: this worker among those that share a batch in parts of one size, one behind the other.
    """

    rank = 0
    world_size = 1

    def child(self, seed: int) -> SharedGenerator:
        """Return a fresh generator that is shared in the same way."""
        child = SharedGenerator(self.device)
        child.manual_seed(seed)
        child.rank, child.world_size = self.rank, self.world_size
        return child


def generator(
    device: torch.device | str, seed: int, stream: str, *indices: int, rank: int = 0, world_size: int = 1
) -> SharedGenerator:
    """Return a fresh generator on `device` for one stream at one place, shared by `world_size` workers."""
    fresh = SharedGenerator(device)
    fresh.manual_seed(stream_seed(seed, stream, *indices))
    fresh.rank, fresh.world_size = rank, world_size
    return fresh


def sample(kind: Callable[..., Tensor], generator: torch.Generator, *shape: int, images: int = 0) -> Tensor:
    """Return random numbers of `shape` on the generator's device, by `torch.rand` or what else takes a shape.

    images: the axis along which the images of a batch lie. From a generator that workers share come the numbers for the
        whole batch, so that an image gets the same ones however many workers there are.
    """
    if not isinstance(generator, SharedGenerator) or generator.world_size == 1:
        return kind(shape, generator=generator, device=generator.device)
    own = shape[images]
    whole = (*shape[:images], own * generator.world_size, *shape[images + 1 :])
    return kind(whole, generator=generator, device=generator.device).narrow(images, own * generator.rank, own)


@contextlib.contextmanager
def initialization(seed: int, stream: str) -> Iterator[None]:
    """Seed the global CPU generator, which module constructors draw from, and put it back afterward."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(seed, stream))
        yield
