"""Pretrained weights: read without running code, and loaded name by name or not at all."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from tests.trainables.tiny import splits, trial
from trainables.encoders import build_encoder
from trainables.encoders.weights import digest, load_weights, read_weights
from trainables.errors import ConfigError
from trainables.probes.evaluation import baseline_encoder, evaluate
from trainables.training.loop import Report, fit
from trainables.trial import WEIGHTS


def test_a_trial_starts_from_the_weights_and_a_resumed_one_from_its_checkpoint() -> None:
    given = build_encoder("conv4", width=4, seed=77).state_dict()
    states: list[dict] = []

    def keep(report: Report) -> None:
        states.append(copy.deepcopy(report.state()))

    own = trial("rotation", weights="0123456789abcdef")
    trained = fit(own, splits(), keep, weights=given)
    first = {key.removeprefix("encoder."): each for key, each in states[0]["task"].items() if "encoder." in key}
    assert all(torch.equal(first[key], value) for key, value in given.items())
    again = fit(own, splits(), lambda report: None, resume=states[1])
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in trained.state_dict().items())


def test_frozen_weights_are_probed_with_the_statistics_in_their_file() -> None:
    encoder = build_encoder("conv4", width=4, seed=77)
    encoder(torch.rand(32, 3, 20, 20))  # moves the statistics
    base = trial(f"{WEIGHTS}given", weights="0123456789abcdef", probe_datasets=["own"], probe_split="test")
    loaded = baseline_encoder(base, 20, weights=encoder.state_dict())
    assert loaded is not None
    found = evaluate(base, loaded, {"own": splits()}, torch.device("cpu")).results
    expected = dict(encoder.state_dict())
    assert all(torch.equal(value, expected[key]) for key, value in loaded.state_dict().items())
    other = evaluate(base.replace(task="random_init", weights=""), loaded, {"own": splits()}, torch.device("cpu"))
    assert found["probe/own/linear_train"] != other.results["probe/own/linear_train"]


def test_a_classifier_is_left_out_and_named() -> None:
    timm = pytest.importorskip("timm")
    source = timm.create_model("test_resnet")
    encoder = build_encoder("timm/test_resnet")
    assert load_weights(encoder, source.state_dict(), "given") == ["fc.weight", "fc.bias"]
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = source.eval().forward_head(source.forward_features((images - 0.5) / 0.5), pre_logits=True)
        torch.testing.assert_close(encoder.eval()(images), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda own: own.pop("blocks.0.0.weight"), "weights given do not fit the encoder: missing: blocks.0.0.weight"),
        (lambda own: own.update(extra=torch.zeros(1)), "unexpected: extra$"),
        (lambda own: own.update({"blocks.0.1.bias": torch.zeros(7)}), r"blocks.0.1.bias is \[7\] instead of \[4\]"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, message: str) -> None:
    own = dict(build_encoder("conv4", width=4).state_dict())
    change(own)
    encoder = build_encoder("conv4", width=4, seed=1)
    before = copy.deepcopy(encoder.state_dict())
    with pytest.raises(ConfigError, match=message):
        load_weights(encoder, own, "given")
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_safetensors_state_dicts_and_checkpoints_hold_the_same_weights(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    given = {"a": torch.arange(3.0)}
    save_file(given, tmp_path / "w.safetensors")
    torch.save(given, tmp_path / "w.pth")
    torch.save({"epoch": 3, "state_dict": given}, tmp_path / "checkpoint.pth")
    for name in ("w.safetensors", "w.pth", "checkpoint.pth"):
        assert torch.equal(read_weights(tmp_path / name)["a"], given["a"])
    assert len({digest(path) for path in tmp_path.iterdir()}) == 3


class _Harmful:
    def __reduce__(self):
        return print, ("code ran",)


def test_no_code_in_a_file_runs_and_no_other_content_is_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"a": _Harmful()}, tmp_path / "harmful.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    (tmp_path / "text.safetensors").write_text("text")
    (tmp_path / "users.pth").write_text("root:x:0:0:root:/root:/bin/bash\n")  # the unpickler raises IndexError
    (tmp_path / "words.pth").write_text("hello world")  # KeyError
    for name in ("harmful.pth", "list.pth", "text.safetensors", "users.pth", "words.pth", "missing.pth"):
        with pytest.raises(ConfigError, match=f"weights .*{name}"):
            read_weights(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out
