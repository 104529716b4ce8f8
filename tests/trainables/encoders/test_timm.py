"""Encoders of timm: built by name, for any number of channels and side, without random numbers of their own."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.trainables.tiny import splits, trial
from trainables.distributed import synchronize_batchnorm
from trainables.encoders import build_encoder, timm_models
from trainables.encoders.timm_models import TimmNetwork, expected_inputs
from trainables.errors import ConfigError
from trainables.testing import EncoderConformance
from trainables.training.loop import Report, fit

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_efficientnet"])
class TestTimm(EncoderConformance):
    """A vision transformer, and a convolutional network with layers after its last stage."""


@pytest.mark.parametrize(("name", "feature_dim"), [("timm/test_vit", 64), ("timm/test_resnet", 96)])
@pytest.mark.parametrize("side", [9, 20, 33])
def test_takes_patches_of_any_side_and_images_of_any_channels(name: str, feature_dim: int, side: int) -> None:
    encoder = build_encoder(name, image_size=40, in_channels=5).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, 5, side, side))
    assert features.shape == (2, feature_dim)
    assert torch.isfinite(features).all()


def test_features_end_with_the_layers_after_the_last_stage() -> None:
    encoder, images = build_encoder("timm/test_efficientnet").eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert encoder.widths[-1] == encoder.feature_dim == 256
        torch.testing.assert_close(encoder.stages(images)[-1].mean(dim=(2, 3)), encoder(images))


def test_images_are_normalized_as_timm_does_for_the_model() -> None:
    seen: list[Tensor] = []
    encoder = build_encoder("timm/test_efficientnet", image_size=16).eval()
    encoder.network.model.conv_stem.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    encoder(torch.full((1, 3, 16, 16), 0.5))
    expected = [(0.5 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor(expected))
    assert expected_inputs("timm/test_efficientnet")["mean"] == (0.485, 0.456, 0.406)


def test_patches_are_scaled_by_the_factor_of_whole_images() -> None:
    model = timm.create_model("test_resnet", num_classes=0)
    network = TimmNetwork(model, image_size=20, in_channels=3, input_size=50, mean=[0.5], std=[0.5]).eval()
    seen: list[Tensor] = []
    model.conv1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    for side in (20, 8):
        network(torch.rand(1, 3, side, side))
    assert [each.shape[-1] for each in seen] == [50, 20]


def test_a_model_of_a_fixed_size_is_built_for_the_side_that_its_images_are_scaled_to() -> None:
    encoder = build_encoder("timm/mixer_s32_224", image_size=40, input_size=64).eval()
    with torch.no_grad():
        features = encoder(torch.rand(2, 3, 40, 40))
    assert features.shape == (2, encoder.feature_dim)


def test_dropout_is_off_so_that_training_draws_no_numbers_of_its_own() -> None:
    model = timm.create_model("test_vit", num_classes=0, drop_rate=0.5, drop_path_rate=0.5, attn_drop_rate=0.5)
    network = TimmNetwork(model, image_size=160, in_channels=3, input_size=None, mean=[0.5], std=[0.5])
    images, before = torch.rand(4, 3, 160, 160), torch.get_rng_state()
    assert network.training
    torch.testing.assert_close(network(images), network(images))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/test_vitt", r"encoder 'timm/test_vitt': timm .* has no such model; did you mean timm/test_vit"),
        ("timm/resnet18.nobody", r"'timm/resnet18.nobody': Invalid pretrained tag \(nobody\).* timm/resnet18.a1_in1k"),
    ],
)
@pytest.mark.parametrize("use", [build_encoder, expected_inputs])
def test_an_unknown_model_is_refused_with_close_names(use: Callable[[str], object], name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        use(name)


def test_without_timm_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r'needs the library timm: pip install "pretext-study\[timm\]"'):
        build_encoder("timm/test_vit")


@pytest.mark.parametrize("task", ["rotation", "context_encoder", "simclr", "context_prediction"])
def test_every_task_trains_a_vision_transformer_and_resumes_to_the_bit(task: str) -> None:
    own, reports, resumed = trial(task, encoder="timm/test_vit", budget_steps=4), [], []
    states = []

    def keep(report: Report) -> None:
        reports.append(report)
        states.append(copy.deepcopy(report.state()))

    encoder = fit(own, splits(), keep)
    again = fit(own, splits(), resumed.append, resume=states[1])
    assert reports[-1].metrics["train/loss"] == resumed[-1].metrics["train/loss"]
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in encoder.state_dict().items())


def test_a_batchnorm_keeps_its_activation_when_workers_share_its_statistics() -> None:
    encoder, images = build_encoder("timm/test_efficientnet", image_size=32), torch.rand(4, 3, 32, 32)
    keys, alone = list(encoder.state_dict()), encoder(images)
    shared = synchronize_batchnorm(encoder)
    assert list(shared.state_dict()) == keys
    torch.testing.assert_close(shared(images), alone)


def test_a_mean_of_the_wrong_length_is_an_error() -> None:
    model = timm_models._model(pytest.importorskip("timm"), "test_efficientnet", 4, 32)
    with pytest.raises(ConfigError, match="2 values for 4 channels"):
        TimmNetwork(model, image_size=32, in_channels=4, input_size=None, mean=[0.1, 0.9], std=[0.5])
