"""Near duplicates: copies of one image after compression, brightening or a shift, found by a perceptual hash.

Candidates have similar hashes: the thumbnail of 8 × 8 gray values without its mean and contrast. A candidate is
confirmed where its pixels agree in detail, too: the correlation of what a blur removes, at the best shift of up to
MAX_SHIFT pixels. Silhouettes of one kind agree in their thumbnails, copies also in their details.

`tests/benchmarks/near_duplicates.py` measures both thresholds; docs/studies.md has the figures.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.data.cache import key_of, remembered
from trainables.data.row_hashes import HASH_SIDE, RowHashes, gray, hash_rows

DETAIL_SIDE = 32  # pixels at which candidates are compared; larger images are scaled down to it
BLURRED_SIDE = 4  # pixels: side of the thumbnail whose structure is not a detail
MAX_SHIFT = 2
MIN_HASH, MIN_DETAIL = 0.9, 0.93  # correlations from which two images are candidates, and near duplicates
N_CANDIDATES = 4  # most similar images that are compared with an image
VERSION = 1  # to be raised whenever the same images have other near duplicates than before

_CHUNK = 1024
_MANY = 2**24  # pairs of images; a search among more of them takes a second and is remembered


def near_duplicates(
    first: np.ndarray,
    second: np.ndarray,
    *,
    hashes: tuple[RowHashes, RowHashes] | None = None,
    rows: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Find the images of one table with a near duplicate in another one.

    Each image is compared with the N_CANDIDATES most similar ones, so that it is found if it has a near duplicate,
    but not all its near duplicates are. What was found between many images is remembered in the cache.

    Args:
        first: Images, [N, C, S, S].
        second: Images, [M, C, S, S]; their channels and side may be others.
        hashes: Their hashes, if they are known.
        rows: Rows of `first` and of `second` to compare, int64; None for all.

    Returns:
        Pairs of rows of `first` and `second`, int64 [P, 2], ascending if `rows` are.
    """
    own, others = hashes or (hash_rows(first), hash_rows(second))
    one, other = rows or (np.arange(len(first)), np.arange(len(second)))

    def search() -> np.ndarray:
        found = _candidates(*(torch.from_numpy(hashes) for hashes in (own.perceptual[one], others.perceptual[other])))
        candidates = np.stack([one[found[:, 0]], other[found[:, 1]]], axis=1)
        chunks = (candidates[start : start + _CHUNK] for start in range(0, len(candidates), _CHUNK))
        confirmed = [_detail_correlation(first, second, chunk) >= MIN_DETAIL for chunk in chunks]
        return candidates[torch.cat(confirmed).numpy()] if confirmed else candidates

    if len(one) * len(other) < _MANY:
        return search()
    settings = (VERSION, HASH_SIDE, DETAIL_SIDE, BLURRED_SIDE, MAX_SHIFT, MIN_HASH, MIN_DETAIL, N_CANDIDATES)
    key = key_of(settings, str(first.dtype), first.shape, own.content[one], others.content[other], one, other)
    return remembered("near_duplicates", key, search)


def _candidates(own: Tensor, others: Tensor) -> np.ndarray:
    """Return the pairs of rows with similar hashes, int64 [P, 2], at most N_CANDIDATES per row of `own`."""
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(own) if len(others) else 0, _CHUNK):
        similarity = own[start : start + _CHUNK] @ others.T
        rows = torch.nonzero(similarity.amax(1) >= MIN_HASH)[:, 0]  # few, which saves most of topk's time
        best, columns = similarity[rows].topk(min(N_CANDIDATES, len(others)), dim=1)
        row, rank = torch.nonzero(best >= MIN_HASH, as_tuple=True)
        found.append(torch.stack([rows[row] + start, columns[row, rank]], 1).numpy())
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _detail_correlation(first: np.ndarray, second: np.ndarray, pairs: np.ndarray) -> Tensor:
    """Return the correlation of the details of each pair of images at their best shift, float32 [P]."""
    side = min(first.shape[-1], second.shape[-1], DETAIL_SIDE)
    one, other = _details(first, pairs[:, 0], side), _details(second, pairs[:, 1], side)
    return torch.maximum(_best_shift(one, other), _best_shift(other, one))


def _best_shift(fixed: Tensor, shifted: Tensor) -> Tensor:
    """Return the highest correlation of the centers of `fixed`, [P, S, S], with `shifted` at any shift, [P]."""
    side = fixed.shape[-1] - 2 * MAX_SHIFT
    center = fixed[:, MAX_SHIFT : MAX_SHIFT + side, MAX_SHIFT : MAX_SHIFT + side].flatten(1)
    center = center - center.mean(1, keepdim=True)
    length = center.norm(dim=1)
    best = torch.full_like(length, -1)
    for top, left in itertools.product(range(2 * MAX_SHIFT + 1), repeat=2):
        window = shifted[:, top : top + side, left : left + side].flatten(1)
        # Details vary around 0, so that the difference of squares is exact enough.
        squares = torch.linalg.vecdot(window, window) - window.sum(1) ** 2 / side**2
        lengths = squares.clamp_min(0).sqrt() * length
        best = torch.maximum(best, torch.linalg.vecdot(window, center) / lengths.clamp_min(1e-12))
    return best


def _details(images: np.ndarray, rows: np.ndarray, side: int) -> Tensor:
    """Return what a blur removes from the images at `rows`, gray and scaled to `side` pixels, float32 [R, S, S]."""
    scaled = torch.cat([F.adaptive_avg_pool2d(chunk, side) for chunk in gray(images, rows)])
    blurred = F.interpolate(F.adaptive_avg_pool2d(scaled, BLURRED_SIDE), size=side, mode="bilinear")
    return (scaled - blurred)[:, 0]
