"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.timing.machine import Machine, machine_of

REPOSITORY = Path(__file__).resolve().parents[1]
CORE = (pytest.mark.core, pytest.mark.slow)  # of a parameter that `make test` leaves out and `.ci/run` runs


@pytest.fixture(scope="session", autouse=True)
def clean_repository() -> Iterator[None]:
    """Every test runs its studies elsewhere: they leave nothing in the repository."""
    written = [REPOSITORY / name for name in ("mlruns", "mlartifacts", "mlflow.db", "studies")]
    before = [path for path in written if path.exists()]
    yield
    left = [str(path) for path in written if path.exists() and path not in before]
    assert not left, "a test has left these; let it change into a temporary folder"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of this test run, so that the user's own one stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("PRETEXT_STUDY_CACHE", str(folder))
        machine_of(lambda: Machine(start=8, phase=4, warm_up=3, trial=0.1, end=8))  # or every estimate would rehearse
        yield folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder with the real sample images, named by PRETEXT_DATA_ROOT or next to the repository."""
    root = Path(os.environ.get("PRETEXT_DATA_ROOT", REPOSITORY.parent / "shared" / "data"))
    if not (root / "cifar10").is_dir():
        pytest.skip(f"real sample images are not in {root}; set PRETEXT_DATA_ROOT to use them")
    return root


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """The one local Ray of the whole test run, with two CPUs, started as a study starts its own."""
    import ray  # takes seconds to import, and most tests do not need it

    from study.execution import cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", "local")  # never the cluster of somebody else on this machine
        cluster.connect(cpus=2, dashboard=True)  # for the trials with worker groups among them
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def simulated_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole study on simulated trials, ablations included, run in this process. Not to be changed."""
    import analysis
    from analysis.findings import compute_findings, write_tables
    from tests.analysis.simulated_studies import simulate, simulated_config

    output = tmp_path_factory.mktemp("simulated")
    folder = simulate(simulated_config(output), output)
    write_tables(folder, compute_findings(analysis.load(folder)))
    return folder


@pytest.fixture(scope="session")
def study_on_ray(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same study run by its driver on Ray, a minute and more. Not to be changed."""
    from study.driver import run_study
    from tests.analysis.simulated_studies import simulated_config

    output = tmp_path_factory.mktemp("on_ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(output)  # where MLflow puts the artifacts of such a store
        outcome = run_study(simulated_config(output), output)
    assert not outcome.failed
    return outcome.folder
