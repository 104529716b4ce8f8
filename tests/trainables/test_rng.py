"""Random streams: several workers together draw the same numbers as one."""

from __future__ import annotations

import torch

from trainables.augmentation import OPS, Augmentation
from trainables.rng import SharedGenerator, generator, sample, stream_seed


def shares(stream: str, workers: int) -> list[SharedGenerator]:
    return [generator("cpu", 3, stream, 0, rank=rank, world_size=workers) for rank in range(workers)]


def test_the_seeds_of_streams_are_those_that_existing_studies_were_run_with() -> None:
    assert stream_seed(0, "augmentation", 0) == 8702502941740838038
    assert stream_seed(7, "augmentation", 12) == 8068451313655393418
    assert stream_seed(0, "labels") == 5192706566704833423


def test_other_seeds_names_and_indices_have_other_streams() -> None:
    indices = [(), (0,), (0, 1)]
    seeds = {stream_seed(seed, name, *each) for seed in (0, 1) for name in ("order", "labels") for each in indices}
    assert len(seeds) == 12


def test_the_shares_of_workers_make_up_the_draws_of_one() -> None:
    for shape, images in (((12, 5), 0), ((2, 12, 3), 1)):
        own = [*shape[:images], shape[images] // 4, *shape[images + 1 :]]
        parts = [sample(torch.rand, each, *own, images=images) for each in shares("a", 4)]
        assert torch.equal(torch.cat(parts, dim=images), sample(torch.rand, generator("cpu", 3, "a", 0), *shape))


def test_what_workers_draw_later_is_still_the_same_stream() -> None:
    alone, *shared = generator("cpu", 3, "a", 0), *shares("a", 2)
    for each in (alone, *shared):
        sample(torch.randn, each, 8 // each.world_size, 3)
    assert torch.equal(torch.cat([sample(torch.rand, each, 2) for each in shared]), sample(torch.rand, alone, 4))


def test_an_image_is_augmented_alike_however_many_workers_share_its_batch() -> None:
    images = torch.randint(256, (120, 3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation = Augmentation(dict.fromkeys(OPS, 1.0))
    alone = augmentation(images, generator("cpu", 3, "a", 0))
    shared = [augmentation(part, each) for part, each in zip(images.chunk(3), shares("a", 3), strict=True)]
    torch.testing.assert_close(torch.cat(shared), alone, rtol=0, atol=1e-6)
