"""Policies: ranges of the views, pairing of the random numbers, and the meaning of magnitudes."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch

from tests.trainables.smooth_images import SIDE, seeded, smooth_images, values
from trainables.augmentation import OPS, Augmentation, identity, ops, policy, validate_policy
from trainables.errors import ConfigError

EVERYTHING = dict.fromkeys(OPS, 1.0)


def draws_for(n: int) -> dict[str, torch.Tensor]:
    return policy.by_op(policy.uniform_numbers(n, seeded()))


def test_the_output_is_float_in_the_unit_range_and_the_input_is_left_alone() -> None:
    images = smooth_images(64)
    before = images.clone()
    views = Augmentation(EVERYTHING)(images, seeded())
    assert views.dtype == torch.float32
    assert views.shape == images.shape
    assert 0 <= views.min() <= views.max() <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize("op", OPS)
def test_every_op_changes_images_when_it_is_on(op: str) -> None:
    images = smooth_images(16, side=64)
    assert not torch.equal(Augmentation({op: 1.0})(images, seeded()), images / 255)


@pytest.mark.parametrize(
    "augmentation",
    [identity, Augmentation(EVERYTHING, strength=0), Augmentation(dict.fromkeys(OPS, 0.0))],
    ids=["empty policy", "strength 0", "magnitudes 0"],
)
def test_no_strength_is_the_identity_to_the_bit(augmentation: Augmentation) -> None:
    images = smooth_images()
    assert torch.equal(augmentation(images, seeded()), images / 255)


@pytest.mark.parametrize("op", OPS)
def test_a_vanishing_magnitude_changes_next_to_nothing(op: str) -> None:
    images = smooth_images(64)
    changed = (Augmentation({op: 1e-4})(images, seeded()) - images / 255).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert changed.sum() <= 1  # flip and gray are rare at a low magnitude, the others are small


def test_the_same_generator_gives_the_same_views_and_another_gives_others() -> None:
    images, augmentation = smooth_images(), Augmentation(EVERYTHING)
    assert torch.equal(augmentation(images, seeded(1)), augmentation(images, seeded(1)))
    assert not torch.equal(augmentation(images, seeded(1)), augmentation(images, seeded(2)))


def test_images_of_a_batch_get_parameters_of_their_own() -> None:
    same = smooth_images(1).expand(32, -1, -1, -1)
    views = Augmentation({"crop_resize": 1.0, "color_jitter": 1.0})(same, seeded())
    assert len(torch.unique(views.flatten(1), dim=0)) == 32


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("strength", [0, 0.5])
def test_the_stream_moves_on_alike_whatever_is_on(op: str, strength: float) -> None:
    images, full, other = smooth_images(), seeded(), seeded()
    Augmentation(EVERYTHING)(images, full)
    Augmentation({op: 1.0}, strength)(images, other)
    assert torch.equal(full.get_state(), other.get_state())


def test_leaving_one_op_out_leaves_the_draws_of_all_others_as_they_were() -> None:
    """Erase on top of anything else covers the same boxes with the same colors: paired cells share their draws."""
    images = smooth_images(64)
    rest = {op: 1.0 for op in OPS if op not in ("erase", "noise")}
    alone, together = Augmentation({"erase": 1.0}), Augmentation({**rest, "erase": 1.0})
    erased = alone(images, seeded()) != images / 255
    box = erased.any(dim=1, keepdim=True).expand_as(images)
    assert box.any()
    assert torch.equal(together(images, seeded())[box], alone(images, seeded())[box])
    assert torch.equal(together(images, seeded())[~box], Augmentation(rest)(images, seeded())[~box])


def test_noise_is_the_same_whatever_comes_before_it() -> None:
    images = torch.full((8, 3, SIDE, SIDE), 128, dtype=torch.uint8)  # far from the limits, so that nothing is cut
    alone = Augmentation({"noise": 1.0})(images, seeded())
    with_flip = Augmentation({"noise": 1.0, "flip": 1.0, "crop_resize": 1.0})(images, seeded())
    torch.testing.assert_close(alone, with_flip, atol=1e-6, rtol=0)
    noise = (alone - images / 255).flatten()
    assert abs(torch.corrcoef(torch.stack([noise[:-1], noise[1:]]))[0, 1]) < 0.03


def test_twice_the_strength_goes_twice_as_far_the_same_way() -> None:
    draws = draws_for(500)
    weak, strong = (torch.stack(ops.jitter_factors(m, draws["color_jitter"])) for m in (0.5, 1.0))
    neutral = values(1, 1, 1, 0)[:, None]
    torch.testing.assert_close(strong - neutral, 2 * (weak - neutral), atol=1e-6, rtol=0)
    weak, strong = (torch.stack(ops.translation(m, draws["translate"], 800, 800)) for m in (0.5, 1.0))
    assert (strong - 2 * weak).abs().max() <= 1.5  # whole pixels


def test_strength_scales_magnitudes_and_their_product_stops_at_one() -> None:
    assert Augmentation({"flip": 0.8, "gray": 0.2}, strength=0.5).magnitudes == {"flip": 0.4, "gray": 0.1}
    assert Augmentation({"flip": 0.8}, strength=2).magnitudes == {"flip": 1.0}


# --- what a magnitude means --------------------------------------------------------------------------------------

MANY = 20_000


@pytest.mark.parametrize(("magnitude", "share"), [(1.0, 0.5), (0.5, 0.25)])
def test_flip_mirrors_half_the_images_at_full_magnitude(magnitude: float, share: float) -> None:
    ramp = torch.arange(4, dtype=torch.uint8).expand(MANY, 3, 4, 4)
    views = Augmentation({"flip": magnitude})(ramp, seeded())
    flipped = (views[:, 0, 0, 0] == 3 / 255).float().mean().item()
    assert flipped == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / MANY))


def test_gray_takes_the_share_of_images_that_its_magnitude_says() -> None:
    colored = torch.tensor([200, 50, 10], dtype=torch.uint8)[:, None, None].expand(MANY, 3, 2, 2)
    views = Augmentation({"gray": 0.2})(colored, seeded())
    assert (views[:, 0] == views[:, 1]).all(dim=(1, 2)).float().mean().item() == pytest.approx(0.2, abs=0.012)


@pytest.mark.parametrize("magnitude", [0.3, 1.0])
def test_crops_have_the_area_and_ratio_of_their_magnitude_and_lie_inside(magnitude: float) -> None:
    side = 1000  # so that whole pixels do not matter
    top, left, height, width = ops.crop_window(magnitude, draws_for(MANY)["crop_resize"], side, side)
    area, log_ratio = height * width / side**2, (width / height).log()
    smallest = 1 - 0.92 * magnitude
    assert area.min() == pytest.approx(smallest, abs=0.005)
    assert area.mean() == pytest.approx((smallest + 1) / 2, abs=0.01)
    assert log_ratio.abs().max() <= magnitude * math.log(4 / 3) + 0.01
    assert log_ratio.mean() == pytest.approx(0, abs=0.01)
    for start, length in ((top, height), (left, width)):
        assert start.min() == 0
        assert (start + length).max() == side
        assert torch.equal(start, start.round())
        assert torch.equal(length, length.round())


def test_every_place_that_a_crop_fits_in_is_as_likely() -> None:
    top, _, height, _ = ops.crop_window(1.0, draws_for(MANY)["crop_resize"], 8, 8)
    for length in (5, 7, 8):
        starts = top[height == length]
        places = 8 - length + 1
        counts = torch.bincount(starts.long(), minlength=places)
        assert len(counts) == places
        assert counts / len(starts) == pytest.approx(1 / places, abs=0.04)


def test_jitter_leaves_a_fifth_alone_and_spans_simclrs_ranges() -> None:
    *factors, hue = ops.jitter_factors(1.0, draws_for(MANY)["color_jitter"])
    for factor in factors:
        assert factor.min() == pytest.approx(0.2, abs=0.01)
        assert factor.max() == pytest.approx(1.8, abs=0.01)
        assert factor.mean() == pytest.approx(1, abs=0.02)
    assert hue.abs().max() == pytest.approx(0.2, abs=0.001)
    untouched = (hue == 0) & (factors[0] == 1) & (factors[1] == 1) & (factors[2] == 1)
    assert untouched.float().mean() == pytest.approx(0.2, abs=0.012)
    assert abs(torch.corrcoef(torch.stack([*factors, hue])) - torch.eye(4)).max() < 0.05


def test_translations_reach_a_quarter_of_the_side_both_ways() -> None:
    down, right = ops.translation(1.0, draws_for(MANY)["translate"], 32, 32)
    for shift in (down, right):
        assert shift.unique().tolist() == list(range(-8, 9))


def test_erase_leaves_half_the_images_alone_and_its_boxes_stay_inside() -> None:
    side = 1000
    top, left, height, width = ops.erased_box(1.0, draws_for(MANY)["erase"], side, side)
    erased = height > 0
    assert erased.float().mean() == pytest.approx(0.5, abs=0.015)
    area = (height * width)[erased] / side**2
    assert area.min() == pytest.approx(0.02, abs=0.002)
    assert area.max() == pytest.approx(0.33, abs=0.01)
    assert (width / height)[erased].log().abs().max() <= math.log(3.3) + 0.02
    assert (top + height).max() <= side
    assert (left + width).max() <= side


def test_blur_is_measured_at_224_px_and_shrinks_with_the_side() -> None:
    step = torch.zeros(64, 3, 224, 224, dtype=torch.uint8)
    step[..., 112:] = 255
    views = Augmentation({"blur": 1.0})(step, seeded())
    edge = views[:, 0, 100].diff(dim=1)  # a blurred step has the kernel as its derivative
    position = torch.arange(223.0)
    mean = (edge * position).sum(1)
    sd = ((edge * (position - mean[:, None]) ** 2).sum(1)).sqrt()
    assert (sd < 0.02).float().mean() == pytest.approx(0.5, abs=0.2)
    assert 1.7 < sd.max() <= 2.05


# --- mistakes ----------------------------------------------------------------------------------------------------


def test_an_unknown_op_is_refused_with_the_closest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'color_jitter'"):
        Augmentation({"color_jiter": 0.5})


@pytest.mark.parametrize("magnitude", [-0.1, 1.1, math.nan, True, "0.5", None])
def test_a_magnitude_out_of_range_is_refused(magnitude: object) -> None:
    with pytest.raises(ConfigError, match=r"augmentation\.flip = .*\[0, 1\]"):
        validate_policy({"flip": magnitude})  # type: ignore[dict-item]


@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="augmentation_strength"):
        Augmentation({}, strength)


def test_images_that_are_already_float_are_not_scaled_again() -> None:
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(identity(images, seeded()), images)


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8"):
        identity(torch.rand(1, 3, 8, 8, dtype=torch.float64), seeded())


def test_autocast_does_not_lower_the_precision() -> None:
    images, augmentation = smooth_images(), Augmentation(EVERYTHING)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = augmentation(images, seeded())
    assert torch.equal(views, augmentation(images, seeded()))


def test_a_batch_in_several_chunks_is_the_same_as_one_in_a_single_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    images, augmentation = smooth_images(40), Augmentation({op: 1.0 for op in OPS if op != "noise"})
    monkeypatch.setattr(policy, "_CHUNK_VALUES", 10**9)
    whole = augmentation(images, seeded())
    monkeypatch.setattr(policy, "_CHUNK_VALUES", 0)
    torch.testing.assert_close(augmentation(images, seeded()), whole, atol=1e-6, rtol=0)


def test_an_augmentation_goes_with_its_last_reference_and_not_when_garbage_is_collected() -> None:
    """On a GPU it has CUDA graphs, which must not be destroyed while another one is captured."""
    gc.disable()
    try:
        augmentation = Augmentation(EVERYTHING)
        augmentation(smooth_images(), seeded())
        left = weakref.ref(augmentation)
        del augmentation
        assert left() is None
    finally:
        gc.enable()
