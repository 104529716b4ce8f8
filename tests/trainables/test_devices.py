"""The device of a trial, and what a Mac's GPU lacks: float64 and 16-bit images."""

from __future__ import annotations

import re

import pytest
import torch

from tests.conftest import REPOSITORY
from trainables import devices
from trainables.data.table import to_float

# On the CPU alone: statistics of the images before training, the workers of one trial, and simulated trials.
ON_CPU = ("tasks/context_encoder.py", "tasks/context_prediction.py", "distributed.py", "devices.py", "simulated/")


@pytest.mark.parametrize(
    ("resources", "cuda", "mps", "expected"),
    [
        ({"CPU": 1, "GPU": 0.25}, True, False, "cuda"),
        ({"CPU": 1, "GPU": 0.25}, False, True, "cpu"),
        ({"CPU": 1}, True, True, "cpu"),
        ({"CPU": 1, "mps": 0.5}, False, True, "mps"),
        ({"CPU": 1, "mps": 0.5}, False, False, "cpu"),
    ],
)
def test_a_trial_computes_on_the_gpu_that_it_has_reserved_where_there_is_one(
    resources: dict[str, float], cuda: bool, mps: bool, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.device_of(resources).type == expected


class OnMac:
    """Stands for a tensor on a Mac's GPU, which has no float64."""

    device = torch.device("mps")

    def __init__(self, values: torch.Tensor) -> None:
        self.values = values

    def cpu(self) -> torch.Tensor:
        return self.values

    def double(self) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")


def test_values_on_a_macs_gpu_become_float64_on_the_cpu():
    values = torch.tensor([1.0, 2.0])
    assert devices.in_float64(OnMac(values)).dtype == torch.float64  # type: ignore[arg-type]
    assert devices.in_float64(values).dtype == torch.float64


def test_images_of_16_bits_keep_their_type_except_on_a_macs_gpu(monkeypatch: pytest.MonkeyPatch):
    images = torch.tensor([[[[0, 30_000, 65_535]]]], dtype=torch.uint16)
    assert devices.placed(images, "cpu").dtype == torch.uint16
    monkeypatch.setattr(devices, "MPS", "cpu")  # this machine is not a Mac: its CPU plays the part
    assert devices.placed(images, "cpu").dtype == torch.float32
    torch.testing.assert_close(devices.placed(images, "cpu"), to_float(images))


def test_nothing_that_runs_on_a_device_asks_for_float64_by_itself():
    found = []
    for path in sorted((REPOSITORY / "trainables").rglob("*.py")):
        name = path.relative_to(REPOSITORY / "trainables").as_posix()
        for line, text in enumerate(path.read_text().splitlines(), start=1):
            if re.search(r"\.double\(\)|torch\.float64", text) and not name.startswith(ON_CPU):
                found.append(f"{name}:{line}: {text.strip()}")
    allowed = (
        "side = torch.linspace(",
        "return float(values.double().std()",
    )  # made on the CPU; `History` keeps them there
    assert [each for each in found if not any(text in each for text in allowed)] == []


def test_devices_are_named_in_one_place():
    found = []
    for package in ("trainables", "study", "analysis"):
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            named = re.search(r"[\"'](?:cuda|mps)[\"']|device\.type [!=]= [\"']", path.read_text())
            if named and path.name != "devices.py":
                found.append(path.relative_to(REPOSITORY).as_posix())
    assert found == []
