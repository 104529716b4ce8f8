"""Shortcut controls: what is left of an image, and a task that is solved by lighting or a border alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainables.tiny import SIDE, splits, trial
from trainables.data.table import ImageTable, Splits
from trainables.tasks import TASKS
from trainables.training.loop import Report, fit
from trainables.training.shortcuts import CONTROLS, border_only, lighting_only

CHANCE = 1 / 4


def ramp() -> np.ndarray:
    """A quadratic surface in [0, 1], [SIDE, SIDE]."""
    y, x = np.mgrid[:SIDE, :SIDE] / (SIDE - 1)
    return 0.1 + 0.5 * y + 0.2 * x * (1 - x) + 0.1 * x * y


def blobs(n: int, light: np.ndarray | float = 0.0) -> ImageTable:
    """Return images of round blobs, which look the same from every side, under a light that is added to all of them."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:SIDE, :SIDE]
    centers, radii = rng.uniform(3, SIDE - 3, (n, 5, 2)), rng.uniform(1.5, 3.5, (n, 5))
    distance = np.hypot(y - centers[..., :1, None], x - centers[..., 1:, None])
    values = 0.2 + 0.4 * (distance < radii[..., None, None]).any(axis=1) + light
    return ImageTable("blobs", np.repeat(np.rint(255 * values.clip(0, 1)).astype(np.uint8)[:, None], 3, axis=1))


def last_report(task: str, table: ImageTable | None = None, **changes: object) -> dict[str, float]:
    """Return the last report of a trial that learns from a table, validated on its last 40 images."""
    made = splits()
    if table is not None:
        train, validation = table.take(np.arange(len(table) - 40)), table.take(np.arange(len(table) - 40, len(table)))
        made = Splits(train, validation, None, None, table.take(np.arange(0)))
    reports: list[Report] = []
    fit(trial(task, **changes), made, reports.append)
    assert all("shortcut/" not in name for report in reports[:-1] for name in report.metrics)
    return {name: value for name, value in reports[-1].metrics.items() if name != "images_per_s"}


def test_reduced_images_stay_in_the_range_of_images() -> None:
    half = torch.zeros(1, 3, 16, 16)
    half[..., 8:] = 1  # the fitted surface goes beyond both ends
    for images in (half, (half * 255).to(torch.uint8)):
        reduced = lighting_only(images)
        top = 1 if images.dtype == torch.float32 else 255
        assert (reduced.min(), reduced.max()) == (0, top)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_lighting_is_kept_and_all_else_is_gone(dtype: str) -> None:
    top = 1.0 if dtype == "float32" else float(np.iinfo(dtype).max)
    smooth = torch.from_numpy((ramp() * top).astype(dtype)).expand(2, 3, SIDE, SIDE).contiguous()
    tolerance = 1e-6 if dtype == "float32" else 1
    assert (lighting_only(smooth).double() - smooth.double()).abs().max() <= tolerance
    checks = torch.from_numpy(np.indices((SIDE, SIDE)).sum(0) % 2 * top).to(smooth.dtype).expand_as(smooth)
    flat = lighting_only(checks)
    assert flat.dtype == smooth.dtype
    assert (flat.double() - top / 2).abs().max() < 0.02 * top


def test_a_border_is_kept_and_the_inside_is_gone() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    reduced = border_only(images)
    inside = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    assert reduced[inside].flatten(2).double().std(dim=2).max() == 0
    outside = torch.ones_like(images, dtype=torch.bool)
    outside[inside] = False
    assert torch.equal(reduced[outside], images[outside])


@pytest.mark.parametrize("name", list(TASKS.built_in))
def test_the_controls_change_nothing_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = last_report(name)
    found = {metric for metric in whole if metric.startswith("shortcut/")}
    expected = {f"shortcut/{cue}{end}" for cue in CONTROLS for end in ("", "_se")}
    assert found == (expected if name in ("rotation", "context_prediction") else set())
    monkeypatch.setattr(TASKS[name], "has_shortcuts", False)
    without = last_report(name)
    assert {metric: value for metric, value in whole.items() if metric not in found} == without


@pytest.mark.core
@pytest.mark.slow
def test_a_light_or_a_frame_that_tells_which_way_is_up_solves_rotation() -> None:
    """Planted cues: a light from above, and a bright line along the upper side; without either, nothing is learned."""
    training = {"budget_steps": 60, "report_every": 60, "width": 8, "lr": 5e-3, "augmentation": {}}
    frame = np.zeros((SIDE, SIDE))
    frame[:2] = 0.6
    lit = last_report("rotation", blobs(240, 0.4 * np.linspace(1, 0, SIDE)[:, None]), **training)
    framed = last_report("rotation", blobs(240, frame), **training)
    plain = last_report("rotation", blobs(240), **training)
    assert lit["val/accuracy"] > 0.9
    assert lit["shortcut/lighting"] > CHANCE + 0.8 * (lit["val/accuracy"] - CHANCE)
    assert framed["val/accuracy"] > 0.9
    assert framed["shortcut/border"] > CHANCE + 0.8 * (framed["val/accuracy"] - CHANCE)
    assert plain["val/accuracy"] < 0.5
