"""Outputs saved in the notebooks: `python -m tests.analysis.saved_notebooks` makes them again.

They come from simulated studies, so that they are the same on every machine, and say so; only `first_study` trains.
Their images have few colors, so that a notebook stays small.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from study.series import load_series
from tests.analysis.simulated_studies import simulate, simulate_series, simulated_config

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "analysis" / "notebooks"
OF_A_STUDY = ("results", "convergence", "ablation")
OF_A_SERIES = "original_report"
NAMES = (*OF_A_STUDY, OF_A_SERIES)
WHOLE_STUDY = "first_study"  # runs a study inside itself
OPTIONAL_WIDGETS = "TqdmWarning"  # Optuna's progress bars miss ipywidgets, which nothing here needs
DPI, N_COLORS = 70, 64
WORKING = "working"  # folder that a notebook runs in


def read(name: str) -> NotebookNode:
    """Return the notebook of this name as it is committed."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def simulated_series(folder: Path) -> Path:
    """Simulate the series that `original_report` shows, with one task in its first part; return its folder."""
    return simulate_series(load_series("report", ["pretext.tasks=[rotation]"]).simulated(), folder)


def execute(name: str, study: Path, folder: Path, *, dpi: int = 40, **settings: str) -> NotebookNode:
    """Return a notebook as executed on a study in an empty working directory, which it leaves empty.

    Args:
        name: Name of the notebook.
        study: Folder of the study or series, which is not changed.
        folder: Folder for the working directory and the kernel's files.
        dpi: Resolution of its figures.
        settings: Further environment variables.
    """
    before = sorted(study.rglob("*"))
    notebook = _executed(name, folder, dpi, {"PRETEXT_STUDY": str(study), **settings})
    assert list((folder / WORKING).iterdir()) == []
    assert sorted(study.rglob("*")) == before
    return notebook


def execute_whole_study(folder: Path, *, dpi: int = 40) -> NotebookNode:
    """Return the notebook that runs a study as executed; its study is in the working directory in `folder`."""
    return _executed(WHOLE_STUDY, folder, dpi, {"RAY_ADDRESS": "local"})


def _executed(name: str, folder: Path, dpi: int, settings: dict[str, str]) -> NotebookNode:
    working = folder / WORKING
    working.mkdir(parents=True)
    (folder / "matplotlibrc").write_text(f"figure.dpi: {dpi}\n")
    notebook = read(name)
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "MATPLOTLIBRC": str(folder),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(folder / "jupyter"),
        **settings,
    }
    runtime = os.environ.get("JUPYTER_RUNTIME_DIR")
    os.environ["JUPYTER_RUNTIME_DIR"] = environment["JUPYTER_RUNTIME_DIR"]
    try:
        resources = {"metadata": {"path": str(working)}}
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute(env=environment)
    finally:
        del os.environ["JUPYTER_RUNTIME_DIR"]
        if runtime is not None:
            os.environ["JUPYTER_RUNTIME_DIR"] = runtime
    return notebook


def without_traces(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook without what only its own execution has: times, versions, and optional warnings."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if OPTIONAL_WIDGETS not in output.get("text", "")]
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data = {"image/png": _small(output.data["image/png"])}  # its text is its size in px
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def shown_by(notebook: NotebookNode) -> list[tuple[str, list[dict[str, str]]]]:
    """Return each cell's source and its outputs as text; an image only counts, as fonts differ between machines."""
    shown = []
    for cell in notebook.cells:
        data = [output.get("data", {}) for output in cell.get("outputs", [])]
        kinds = [{kind: "" if kind == "image/png" else text for kind, text in each.items()} for each in data]
        shown.append((cell.source, kinds))
    return shown


def _small(png: str) -> str:
    """Return a PNG in base64 with few colors."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    image.quantize(N_COLORS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def main(names: list[str]) -> None:
    """Execute notebooks on simulated studies and save them with their outputs."""
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        study = simulate(simulated_config(scratch), scratch) if {*names} & {*OF_A_STUDY} else scratch
        for name in names:
            if name == WHOLE_STUDY:
                notebook = execute_whole_study(scratch / name, dpi=DPI)
            else:
                source = study if name in OF_A_STUDY else simulated_series(scratch / "series")
                notebook = execute(name, source, scratch / name, dpi=DPI)
            nbformat.write(without_traces(notebook), FOLDER / f"{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:] or [*NAMES, WHOLE_STUDY])
