"""cluster.yaml is a file that Ray's own launcher accepts."""

from __future__ import annotations

from pathlib import Path

import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).resolve().parents[1] / "cluster.yaml"


def test_rays_schema_accepts_it():
    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_it_installs_the_package_and_opens_no_dashboard_to_the_network():
    config = yaml.safe_load(CLUSTER.read_text())
    assert any("pip install" in command and "pretext-study" in command for command in config["setup_commands"])
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
    assert "password" not in CLUSTER.read_text().lower()
