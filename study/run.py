"""The script that `ray submit cluster.yaml study/run.py` sends to a cluster, and that runs a study anywhere."""

import sys
from pathlib import Path

# Run as a script, Python puts this folder first on its path, where `config` and `journal` would hide others' modules.
_here = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if entry not in ("", _here)]

from study.cli.run import main  # noqa: E402

if __name__ == "__main__":
    main()
