"""Script that runs a study on any machine; `ray submit cluster.yaml study/run.py` copies it alone to a cluster."""

import sys
from pathlib import Path

# Python puts a script's folder first on the path, where files of any name could hide the modules imported below.
_here = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if entry not in ("", _here)]

from study.cli.run import main  # noqa: E402

if __name__ == "__main__":
    main()
