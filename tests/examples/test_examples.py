"""The examples of plug-ins: each passes the conformance suite, resumes, trains on two workers, and learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from search_spaces.registry import SPECS
from tests.conftest import REPOSITORY
from tests.examples.packages import EXAMPLES
from tests.trainables.tiny import splits, trial
from tests.trainables.two_workers import assert_as_one, trained
from trainables.augmentation import Augmentation
from trainables.data import load_splits
from trainables.data.table import Splits
from trainables.tasks import TASKS, Batch, PretextTask, shuffled
from trainables.testing import TaskConformance
from trainables.testing.tasks import SELF_TESTS
from trainables.training import checkpoint
from trainables.training.fused import Job, fit_fused
from trainables.training.loop import Report, fit
from trainables.trial import TrialConfig

# Steps until learning is shown, and the gain that shows it. Over 6 to 8 seeds, the gains were at least three of their
# standard deviations above it, and those of the controls at least three below it.
LEARNING = {"jigsaw": (300, 3), "vicreg": (300, 4), "byol": (150, 3)}


@pytest.mark.parametrize("name", EXAMPLES)
class TestExamples(TaskConformance):
    """The conformance suite; its self-tests train for a minute."""

    defining = {"jigsaw": frozenset({"grid", "permutations", "normalize"})}  # noqa: RUF012 - a constant of the suite

    @pytest.mark.slow
    @pytest.mark.parametrize("self_test", SELF_TESTS, ids=lambda test: test.__name__)
    def test_passes_the_self_test(self, name: str, self_test: Any) -> None:
        super().test_passes_the_self_test(name, self_test)


@pytest.mark.core
@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_resumed_trial_gives_the_same_curve_and_weights_to_the_bit(name: str) -> None:
    whole, resumed = Run(trial(name)), Run(trial(name))
    whole.train()
    resumed.train(whole.saved[2])
    assert resumed.curve(after=2) == whole.curve(after=2)
    expected, found = (checkpoint.from_bytes(run.saved[6], where="here")["task"] for run in (whole, resumed))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


class Run:
    """A trial's reports, and the bytes of the checkpoint of each."""

    def __init__(self, config: TrialConfig) -> None:
        self.config = config
        self.reports: list[Report] = []
        self.saved: dict[int, bytes] = {}

    def train(self, resume: bytes | None = None) -> None:
        """Train, from a checkpoint if there is one."""
        state = None if resume is None else checkpoint.from_bytes(resume, where="here")
        fit(self.config, splits(), self._keep, resume=state)

    def curve(self, after: int) -> list[tuple[int, dict[str, float]]]:
        """Return the metrics of later reports, without the speed."""
        left_out = "images_per_s"
        return [
            (each.step, {key: value for key, value in each.metrics.items() if key != left_out})
            for each in self.reports
            if each.step > after
        ]

    def _keep(self, report: Report) -> None:
        self.reports.append(report)
        self.saved[report.step] = checkpoint.to_bytes(report.state())


@pytest.mark.slow
def test_two_workers_follow_the_curve_of_one(tmp_path: Path) -> None:
    trials = [trial(name) for name in EXAMPLES]
    curves = zip(*trained(tmp_path, *trials, plugins=tuple(EXAMPLES.values())), strict=True)
    for config, (first, second) in zip(trials, curves, strict=True):
        assert_as_one(config, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vicreg", "byol"])  # those that declare `replayable`
def test_trials_that_are_trained_as_one_network_follow_their_own_curves(name: str) -> None:
    trials = [trial(name, seed=seed, lr=lr) for seed, lr in ((0, 1e-3), (1, 3e-3))]
    fused: list[list[Report]] = [[], []]
    fit_fused([Job(config, reports.append) for config, reports in zip(trials, fused, strict=True)], splits())
    for config, reports in zip(trials, fused, strict=True):
        alone: list[Report] = []
        fit(config, splits(), alone.append)
        for metric in ("train/loss", "val/loss"):
            expected, found = ([each.metrics[metric] for each in curve[1:]] for curve in (alone, reports))
            assert found == pytest.approx(expected, rel=1e-3), metric


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_it_learns_on_photographs_and_its_shuffled_control_does_not(
    data_root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = load_splits("cifar10", root=data_root, max_train=3000)
    steps, enough = LEARNING[name]
    settings = {**SPECS[name].defaults, "batch_size": 64, "budget_steps": steps, "report_every": steps}
    config = TrialConfig(phase="test", task=name, width=16, **settings)
    gains = {"task": gain(config, tables)}
    draw = TASKS[name].draw

    def shuffled_draw(task: PretextTask, images: Tensor, policy: Augmentation, stream: torch.Generator) -> Batch:
        batch = draw(task, images, policy, stream)
        return shuffled(batch, stream) if task.training else batch

    monkeypatch.setattr(TASKS[name], "draw", shuffled_draw)
    gains["control"] = gain(config, tables)
    assert gains["control"] < enough < gains["task"], gains


def gain(config: TrialConfig, tables: Splits) -> float:
    """Return the gain in accuracy on validation images over the untrained network, in standard errors."""
    reports: list[Report] = []
    fit(config, tables, reports.append)
    untrained, last = (report.metrics for report in reports)
    return (last["val/accuracy"] - untrained["val/accuracy"]) / last["val/accuracy_gain_se"]


def test_the_page_states_the_length_of_each_example() -> None:
    page = (REPOSITORY / "docs" / "extending.md").read_text(encoding="utf-8")
    for name, path in EXAMPLES.items():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        (row,) = [line for line in page.splitlines() if line.startswith(f"| `examples/{name}/`")]
        assert f"| {lines} |" in row
        assert lines < 120
