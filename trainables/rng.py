"""Separate random streams of one seed.

Initialization, data order, augmentation and layers that draw numbers each have a stream of their own, so that two cells
of an ablation with the same seed differ only in the factor under study. A stream's seed is a function of its name and
the step, so a resumed trial continues bit for bit without any stored generator state.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainables.devices import CPU


def stream_seed(seed: int, stream: str, *indices: int) -> int:
    """Return a 63-bit seed for one stream of `seed` at `indices`; different names or indices give unrelated seeds."""
    return _hash("/".join([str(seed), stream, *map(str, indices)]).encode())


class SharedGenerator(torch.Generator):
    """Generator from which all workers draw the same numbers; `sample` then selects those of the worker's own images.

    Attributes:
        rank: Rank of this worker; the workers share a batch in consecutive parts of equal size.
        world_size: Number of workers.
    """

    rank = 0
    world_size = 1


def generator(
    device: torch.device | str, seed: int, stream: str, *indices: int, rank: int = 0, world_size: int = 1
) -> SharedGenerator:
    """Return a fresh generator for one stream.

    Args:
        device: Device to draw on.
        seed: Seed of the trial.
        stream: Name of the stream.
        *indices: Position in the stream, such as the step.
        rank: Rank of this worker.
        world_size: Number of workers that share the generator.
    """
    return _shared_generator(device, stream_seed(seed, stream, *indices), rank, world_size)


def derived(generator: torch.Generator, stream: str) -> torch.Generator:
    """Return a fresh generator seeded by the state of `generator` and a name.

    The stream of `generator` itself does not advance, so its later numbers do not depend on derived streams. The state
    is always on the host, so reading it does not wait for the device.
    """
    seed = _hash(generator.get_state().numpy().tobytes() + stream.encode())
    if isinstance(generator, SharedGenerator):
        return _shared_generator(generator.device, seed, generator.rank, generator.world_size)
    return torch.Generator(generator.device).manual_seed(seed)


def sample(kind: Callable[..., Tensor], generator: torch.Generator, *shape: int, images: int = 0) -> Tensor:
    """Return random numbers for one worker's images, on the generator's device.

    A shared generator draws the numbers of the whole batch, so that an image gets the same ones for any number of
    workers.

    Args:
        kind: `torch.rand`, or another function of a shape, `generator` and `device`.
        generator: Source of the numbers.
        *shape: Shape of the result.
        images: Axis of the result that counts images.
    """
    if not isinstance(generator, SharedGenerator) or generator.world_size == 1:
        return kind(shape, generator=generator, device=generator.device)
    own = shape[images]
    whole = (*shape[:images], own * generator.world_size, *shape[images + 1 :])
    return kind(whole, generator=generator, device=generator.device).narrow(images, own * generator.rank, own)


@contextlib.contextmanager
def global_seed(seed: int, stream: str, *indices: int, device: torch.device | str = CPU) -> Iterator[None]:
    """Seed the global generators, which the modules of PyTorch draw from, and restore them afterward.

    Module constructors draw from the CPU generator, layers such as dropout from the generator of their device.
    `torch.manual_seed` also seeds all other devices, which takes 17 times as long.

    Args:
        seed: Seed of the trial.
        stream: Name of the stream.
        *indices: Position in the stream, such as the step.
        device: Device whose generator is seeded and restored besides the CPU generator.
    """
    device = torch.device(device)
    others = [] if device.type == CPU else [device]
    with torch.random.fork_rng(devices=others, device_type=device.type):
        torch.default_generator.manual_seed(stream_seed(seed, stream, *indices))
        for other in others:
            torch.get_device_module(other).manual_seed(stream_seed(seed, stream, *indices))
        yield


def _shared_generator(device: torch.device | str, seed: int, rank: int, world_size: int) -> SharedGenerator:
    fresh = SharedGenerator(device)
    fresh.manual_seed(seed)
    fresh.rank, fresh.world_size = rank, world_size
    return fresh


def _hash(content: bytes) -> int:
    """Return 63 bits of a hash of `content`."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1
