"""clusters/rayjob.yaml has the fields that KubeRay's RayJob has, and its image is built of what there is.

The fields are those of `ray-operator/apis/ray/v1` of KubeRay (https://github.com/ray-project/kuberay), from which its
custom resource definitions are generated, and of Kubernetes' PodSpec, as far as the manifest uses them. The operator
itself refuses what it does not know; no Kubernetes runs here.
"""

from __future__ import annotations

import importlib.metadata
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from packaging.requirements import Requirement
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from study.cli import launch
from study.cli import run as run_command
from study.config.schema import StudyConfig
from study.driver import Outcome
from tests.conftest import REPOSITORY

MANIFEST = REPOSITORY / "clusters" / "rayjob.yaml"
DOCKERFILE = REPOSITORY / "clusters" / "Dockerfile"
SHARED = "/shared"


class Kubernetes(BaseModel):
    """An object with no fields but those named; strict, since YAML's `2` is no string."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Resources(Kubernetes):
    requests: dict[str, str]
    limits: dict[str, str]


class Env(Kubernetes):
    name: str
    value: str


class VolumeMount(Kubernetes):
    name: str
    mountPath: str  # noqa: N815 - Kubernetes' name


class Container(Kubernetes):
    name: str
    image: str
    resources: Resources
    env: list[Env] = []
    volumeMounts: list[VolumeMount]  # noqa: N815


class Claim(Kubernetes):
    claimName: str  # noqa: N815


class Volume(Kubernetes):
    name: str
    persistentVolumeClaim: Claim  # noqa: N815


class PodSpec(Kubernetes):
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume]


class PodTemplate(Kubernetes):
    spec: PodSpec


class HeadGroup(Kubernetes):
    rayStartParams: dict[str, str]  # noqa: N815
    template: PodTemplate


class WorkerGroup(HeadGroup):
    groupName: str  # noqa: N815
    replicas: int
    minReplicas: int  # noqa: N815
    maxReplicas: int  # noqa: N815


class AuthOptions(Kubernetes):
    mode: Literal["disabled", "token"]


class AutoscalerOptions(Kubernetes):
    idleTimeoutSeconds: int  # noqa: N815


class RayClusterSpec(Kubernetes):
    rayVersion: str  # noqa: N815
    authOptions: AuthOptions  # noqa: N815
    enableInTreeAutoscaling: bool  # noqa: N815
    autoscalerOptions: AutoscalerOptions  # noqa: N815
    headGroupSpec: HeadGroup  # noqa: N815
    workerGroupSpecs: list[WorkerGroup]  # noqa: N815


class RayJobSpec(Kubernetes):
    entrypoint: str
    backoffLimit: int  # noqa: N815
    shutdownAfterJobFinishes: bool  # noqa: N815
    ttlSecondsAfterFinished: int  # noqa: N815 - works with shutdownAfterJobFinishes alone
    rayClusterSpec: RayClusterSpec  # noqa: N815


class Metadata(Kubernetes):
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?$")  # KubeRay allows a RayJob 47 characters


class RayJob(Kubernetes):
    apiVersion: Literal["ray.io/v1"]  # noqa: N815
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: RayJobSpec


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    return yaml.safe_load(MANIFEST.read_text())


@pytest.fixture(scope="module")
def job(manifest: dict[str, Any]) -> RayJob:
    return RayJob.model_validate(manifest)


def test_every_field_is_one_that_kuberay_has(manifest: dict[str, Any], job: RayJob):
    assert job.spec.shutdownAfterJobFinishes
    manifest = yaml.safe_load(MANIFEST.read_text())
    manifest["spec"]["rayClusterSpec"]["idleTimeoutSeconds"] = 600
    with pytest.raises(ValidationError):
        RayJob.model_validate(manifest)


def test_workers_come_from_nothing_and_nobody_without_the_token_is_answered(job: RayJob):
    cluster = job.spec.rayClusterSpec
    [workers] = cluster.workerGroupSpecs
    assert (workers.replicas, workers.minReplicas, workers.maxReplicas > 0) == (0, 0, True)
    assert workers.template.spec.containers[0].resources.limits["nvidia.com/gpu"] == "1"
    assert cluster.enableInTreeAutoscaling
    assert cluster.authOptions.mode == "token"


def test_head_and_workers_see_the_same_image_and_the_same_volume(job: RayJob):
    cluster = job.spec.rayClusterSpec
    pods = [cluster.headGroupSpec.template.spec, cluster.workerGroupSpecs[0].template.spec]
    assert pods[0].volumes == pods[1].volumes
    containers = [pod.containers[0] for pod in pods]
    assert len({container.image for container in containers}) == 1
    assert [container.volumeMounts for container in containers] == [[VolumeMount(name="shared", mountPath=SHARED)]] * 2


def test_the_entrypoint_is_a_study_that_writes_to_the_shared_volume_alone(job: RayJob, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def record(config: StudyConfig, output: Path, **_: object) -> Outcome:
        asked.update(config=config, output=output)
        return Outcome(Path("f"), Path("r"), {})

    program, *arguments = shlex.split(job.spec.entrypoint)
    [script] = importlib.metadata.entry_points(group="console_scripts", name=program)
    assert script.value == "study.cli.run:main"
    monkeypatch.setattr(launch, "run_study", record)
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    with pytest.raises(SystemExit) as ended:
        run_command.main()
    assert not ended.value.code
    config = asked["config"]
    assert (str(asked["output"]), config.storage) == (f"{SHARED}/studies", f"{SHARED}/studies")
    assert config.data_root == f"{SHARED}/data"
    assert 0 < config.resources.gpu <= 1
    [tracking] = job.spec.rayClusterSpec.headGroupSpec.template.spec.containers[0].env
    assert (tracking.name, tracking.value) == ("MLFLOW_TRACKING_URI", f"sqlite:///{SHARED}/mlflow.db")


def test_the_image_holds_the_rays_version_and_all_of_the_package(job: RayJob):
    lines = [line.split() for line in DOCKERFILE.read_text().splitlines() if line and not line.startswith("#")]
    [base] = [words[1] for words in lines if words[0] == "FROM"]
    version = base.removeprefix("rayproject/ray:").split("-")[0]
    assert version == job.spec.rayClusterSpec.rayVersion
    requirements = map(Requirement, importlib.metadata.requires("pretext-study") or [])
    assert all(requirement.specifier.contains(version) for requirement in requirements if requirement.name == "ray")
    copied = {source for words in lines if words[0] == "COPY" for source in words[1:-1]}
    packages = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert copied == {"pyproject.toml", "README.md", "LICENSE", *packages}
