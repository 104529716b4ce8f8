"""Plug-ins on several nodes: a file reaches nodes that do not have it; a package that a node lacks is named."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ray.cluster_utils import Cluster

from analysis import load
from analysis.records import FINISHED, STOPPED, TrialStarted
from study.config.validation import check_config
from tests.acceptance.nodes import LOOPBACK
from tests.acceptance.studies import PATIENCE_S, DriverProcess, crowding
from tests.conftest import REPOSITORY
from tests.documents import plugin_of_the_page
from trainables import plugins

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SMALL = {
    "tasks": ["upside_down"],
    "encoder": {"name": "patches"},
    "max_train": 200,
    "image_size": 16,
    "budget_steps": 4,
    "report_every": 2,
    "search": {"algorithm": "random", "num_samples": 1, "scheduler": "none"},
    "confirm": {"top_k": 1, "seeds": 2},
    "evaluate": {"segmentation": False},  # the encoder has no stages
    "max_failures": 2,
}


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The file of the page, in a folder of its own; what it registers is forgotten after the test."""
    (tmp_path / "mine").mkdir()
    path = plugin_of_the_page(tmp_path / "mine")
    yield path
    for name in (path.name, path.stem):
        with contextlib.suppress(KeyError):
            plugins.unload(plugins.loaded(name))
    sys.modules.pop(path.stem, None)


def test_a_file_reaches_the_two_workers_of_a_trial_on_two_nodes_that_lack_it(
    head: Cluster, plugin: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        head.add_node(num_cpus=1, **LOOPBACK)
    content = {**SMALL, "name": "plugged-in", "plugins": [str(plugin)], "workers": 2, "storage": str(tmp_path / "all")}
    study = DriverProcess(tmp_path, check_config(content), {"RAY_ADDRESS": head.address})
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    with study.running() as process:
        study.wait_for(process, lambda events: len(events) > 0)
        plugin.unlink()
        assert process.wait(2 * PATIENCE_S * crowding()) == 0, study.log()
    runs = load(study.folder).runs
    assert set(runs["status"]) <= {FINISHED, STOPPED}
    assert set(runs.loc[runs["task"] == "upside_down", "workers"]) == {2}


def test_a_node_without_the_package_ends_each_trial_once_and_says_what_to_install(
    head: Cluster, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head.add_node(num_cpus=1, **LOOPBACK)
    monkeypatch.syspath_prepend(str(plugin.parent))
    content = {**SMALL, "name": "installed", "plugins": [plugin.stem], "storage": str(tmp_path / "all")}
    here = {"RAY_ADDRESS": head.address, "PYTHONPATH": os.pathsep.join([str(plugin.parent), str(REPOSITORY)])}
    study = DriverProcess(tmp_path, check_config(content), here)
    assert study.run() != 0
    assert "plugins: my_task" in study.log()
    assert "Traceback" not in study.log()
    started = Counter(event.trial_id for event in study.events() if isinstance(event, TrialStarted))
    assert set(started.values()) == {1}  # a restart would not help
