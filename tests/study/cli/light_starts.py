"""Commands in a process of their own that must not import what takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import REPOSITORY

CODE = """
import importlib, sys
module, heavy, *sys.argv = sys.argv[1:]
try:
    importlib.import_module(module).main()
finally:
    imported = set(heavy.split(",")) & set(sys.modules)
    assert not imported, imported
"""


def light_start(module: str, heavy: set[str], *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `main` of a module and return how it ended; it fails if `main` imports one of the heavy modules.

    Args:
        module: Name of the module.
        heavy: Names of the modules that must not be imported.
        *command: Command line, the name of the command included.
        **environment: Additional environment variables.
    """
    return subprocess.run(
        [sys.executable, "-c", CODE, module, ",".join(heavy), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )
