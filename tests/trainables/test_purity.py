"""A GPU machine has torch, torchvision, numpy and Pillow: `trainables` and the search spaces must run there."""

from __future__ import annotations

import subprocess
import sys
import textwrap

ELSEWHERE = ("trainables.ray_adapter", "trainables.testing", "search_spaces.ablations")
HEAVY = ("ray", "mlflow", "pydantic", "pandas", "scipy", "sklearn", "pyarrow", "optuna", "yaml")

IMPORT_ALL = """
    import importlib, pkgutil, sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            return None if name.partition(".")[0] in {heavy!r} else self.finder.find_spec(name, path, target)

    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    import search_spaces, trainables
    for package in (search_spaces, trainables):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not module.name.startswith({elsewhere!r}):
                importlib.import_module(module.name)
                print(module.name)
"""


def test_all_but_the_trainable_its_storage_and_the_ablations_import_without_ray() -> None:
    code = textwrap.dedent(IMPORT_ALL).format(heavy=HEAVY, elsewhere=ELSEWHERE)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    modules = found.stdout.split()
    for name in (
        "training.loop",
        "probes.evaluation",
        "tasks.self_test",
        "tasks.simclr",
        "data.load",
        "augmentation.policy",
    ):
        assert f"trainables.{name}" in modules
    assert "search_spaces.space" in modules


def test_trials_are_described_and_their_encoders_named_without_torch() -> None:
    code = "import sys; import trainables.encoders, trainables.trial; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "False"
