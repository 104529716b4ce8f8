"""The example that gives the tensors of a package's weights the names that timm has for them."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from tests.conftest import REPOSITORY

pytest.importorskip("timm")
SPEC = importlib.util.spec_from_file_location("convert", REPOSITORY / "examples/imagenet_weights/convert.py")
assert SPEC is not None
assert SPEC.loader is not None
convert = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(convert)


def test_tensors_get_the_names_of_the_other_implementation() -> None:
    weights = {"_stem.weight": torch.ones(2, 3), "_bn.bias": torch.zeros(2)}
    found = convert.converted(weights, {"conv.weight": torch.empty(2, 3), "norm.bias": torch.empty(2)})
    assert list(found) == ["conv.weight", "norm.bias"]
    assert torch.equal(found["conv.weight"], weights["_stem.weight"])


@pytest.mark.parametrize("other", [{"conv.weight": torch.empty(3, 2)}, {"conv.bias": torch.empty(2, 3)}, {}])
def test_another_network_is_refused(other: dict) -> None:
    with pytest.raises(ValueError, match=r"does not match|zip"):
        convert.converted({"_stem.weight": torch.ones(2, 3)}, other)
