"""The draws of the eight original ops never change, and a further op changes no other op's draws."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import Tensor

from tests.trainables.smooth_images import seeded
from trainables.augmentation import OPS, Augmentation, policy
from trainables.augmentation.ops import REGISTRY, Draws, Op
from trainables.rng import generator, sample

N, SIDE, SEED = 16, 24, 5

# Recorded with version 0.1: existing trials resume and are extended with these draws and views.
NUMBERS = "6677fcb46adf5fc9"
VIEWS = {  # each op alone at magnitude 0.5, and all together
    "crop_resize": "1d051ba2f997724d",
    "flip": "9e46a8594906ab69",
    "translate": "62da2f2c144cf3f5",
    "color_jitter": "5504262ef08119ed",
    "gray": "0d604b1ef2d4df86",
    "blur": "f170c65220e5e739",
    "erase": "e012c710031fdcec",
    "noise": "72de0498ab269b52",
    "all": "bbbab6729ba8cd81",
}
FIRST = list(VIEWS)[:-1]
ARITHMETIC = ("8cf8f9cc1b999766", "54145feacd085edf", "cf42a3ef0f66ad85")  # results of the recording machine


def digest(values: Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def pattern() -> Tensor:
    """Return images, uint8 [N, 3, SIDE, SIDE], made by integer arithmetic alone."""
    i = torch.arange(N * 3 * SIDE * SIDE)
    return ((i * 7 + (i // 5) * 13 + (i // SIDE) * 31) % 256).to(torch.uint8).view(N, 3, SIDE, SIDE)


def needs_the_recording_machines_arithmetic() -> None:
    """Skip where matrix products, exponentials or logarithms round differently, as they may on another CPU."""
    matrices = torch.rand(8, 24, 24, generator=seeded(SEED))
    found = (digest(torch.bmm(matrices, matrices)), digest(matrices.exp()), digest(matrices.log()))
    if found != ARITHMETIC:
        pytest.skip("floating-point results differ from the recording's on this CPU")


def test_the_shared_numbers_are_those_of_the_first_version() -> None:
    assert digest(policy.uniform_numbers(N, seeded(SEED))) == NUMBERS
    assert [name for name in OPS if name in VIEWS] == FIRST
    assert [REGISTRY[name].shared for name in OPS if name in VIEWS] == [4, 1, 2, 5, 1, 2, 8, 1]
    assert not any(REGISTRY[name].shared for name in OPS if name not in VIEWS)


@pytest.mark.parametrize("name", VIEWS)
def test_the_views_are_those_of_the_first_version(name: str) -> None:
    needs_the_recording_machines_arithmetic()
    chosen = dict.fromkeys(FIRST if name == "all" else [name], 0.5)
    assert digest(Augmentation(chosen)(pattern(), seeded(SEED))) == VIEWS[name]


# --- a ninth op --------------------------------------------------------------------------------------------------


def _shift(shape: torch.Size, stream: torch.Generator) -> Tensor:
    return sample(torch.rand, stream, shape[0])


def _add(images: Tensor, magnitude: float, draws: Draws) -> Tensor:
    assert draws.own is not None
    return images + magnitude * draws.own[:, None, None, None]


@pytest.fixture
def ninth(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a ninth op, which adds magnitude x U[0, 1] to all pixels of an image."""
    monkeypatch.setitem(REGISTRY, "brighten", Op(draw=_shift, change=_add))
    return "brighten"


@pytest.mark.parametrize("name", OPS)
def test_a_ninth_op_leaves_the_views_of_every_other_op_to_the_bit(name: str, ninth: str) -> None:
    alone = Augmentation({name: 1.0})(pattern(), seeded(SEED))
    together = Augmentation({name: 1.0, ninth: 1.0})(pattern(), seeded(SEED))
    shift = Augmentation({ninth: 1.0})(torch.zeros_like(pattern()), seeded(SEED))
    assert torch.equal(together, alone + shift)
    assert len(shift[:, 0, 0, 0].unique()) == N


def test_a_ninth_op_that_is_registered_but_off_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    everything, after = dict.fromkeys(OPS, 1.0), seeded(SEED)
    before = Augmentation(everything)(pattern(), seeded(SEED))
    monkeypatch.setitem(REGISTRY, "brighten", Op(draw=_shift, change=_add))
    assert torch.equal(Augmentation(everything)(pattern(), after), before)


def test_a_ninth_op_does_not_advance_the_stream(ninth: str) -> None:
    without, with_it = seeded(SEED), seeded(SEED)
    Augmentation(dict.fromkeys(OPS, 1.0))(pattern(), without)
    Augmentation({**dict.fromkeys(OPS, 1.0), ninth: 1.0})(pattern(), with_it)
    assert torch.equal(without.get_state(), with_it.get_state())


def test_twice_the_strength_takes_a_ninth_op_twice_as_far_the_same_way(ninth: str) -> None:
    weak, strong = (Augmentation({ninth: 1.0}, strength)(pattern(), seeded(SEED)) for strength in (0.5, 1.0))
    plain = pattern() / 255
    torch.testing.assert_close(strong - plain, 2 * (weak - plain), atol=1e-6, rtol=0)


def test_two_ops_with_generators_of_their_own_draw_different_numbers(
    ninth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "tenth", Op(draw=_shift, change=_add))
    plain = pattern() / 255
    nine, ten = (Augmentation({name: 1.0})(pattern(), seeded(SEED)) - plain for name in (ninth, "tenth"))
    assert not torch.allclose(nine, ten, atol=1e-3)


def test_each_worker_draws_a_ninth_op_for_its_own_images(ninth: str) -> None:
    whole = Augmentation({ninth: 1.0})(pattern(), generator("cpu", 0, "draw"))
    for rank, part in enumerate(pattern().chunk(2)):
        views = Augmentation({ninth: 1.0})(part, generator("cpu", 0, "draw", rank=rank, world_size=2))
        assert torch.equal(views, whole.chunk(2)[rank])
