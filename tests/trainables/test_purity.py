"""A GPU machine has torch, torchvision, numpy and Pillow; all of `trainables` but two files must run there."""

from __future__ import annotations

import subprocess
import sys
import textwrap

ON_RAY = ("trainables.trainable", "trainables.storage")
HEAVY = ("ray", "mlflow", "pydantic", "pandas", "scipy", "sklearn", "pyarrow", "optuna", "yaml")

IMPORT_ALL = """
    import importlib, pkgutil, sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            return None if name.partition(".")[0] in {heavy!r} else self.finder.find_spec(name, path, target)

    sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
    import trainables
    for module in pkgutil.walk_packages(trainables.__path__, "trainables."):
        if module.name not in {on_ray!r}:
            importlib.import_module(module.name)
            print(module.name)
"""


def test_everything_but_the_trainable_and_its_storage_imports_without_ray() -> None:
    code = textwrap.dedent(IMPORT_ALL).format(heavy=HEAVY, on_ray=ON_RAY)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stderr
    modules = found.stdout.split()
    for name in ("loop", "evaluation", "self_test", "tasks.simclr", "data.load", "augmentation.policy"):
        assert f"trainables.{name}" in modules
