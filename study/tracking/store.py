"""Queries on an MLflow store: the study's experiment, its existing runs, and the meaning of the store's errors."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

import requests
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Experiment
from sqlalchemy.exc import SQLAlchemyError

from study.tracking.state import TrackingError, TrackingState
from trainables.files import NO_ROOM

UNREACHABLE = (MlflowException, SQLAlchemyError, OSError)  # requests' errors are OSErrors
TRANSIENT = {  # error numbers of files after which there may be success later
    *NO_ROOM,
    *(errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE),
    *(errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH),
}
GONE = "RESOURCE_DOES_NOT_EXIST"
REFUSALS = ("INVALID_PARAMETER_VALUE", "INVALID_STATE", "RESOURCE_ALREADY_EXISTS", "ENDPOINT_NOT_FOUND")
STUDY = "study"  # key of the study run, and its `pretext.kind`


def is_refusal(error: Exception) -> bool:
    """Return whether retrying cannot help: a deleted run, a bad value, a folder without write permission.

    A full disk, a file server that is away and the errors of an artifact store's own library do not count.
    """
    if isinstance(error, MlflowException):
        return error.error_code in REFUSALS
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in (401, 403, 408, 429)
    if isinstance(error, requests.RequestException):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return False
    return isinstance(error, OSError) and error.errno is not None and error.errno not in TRANSIENT


@contextlib.contextmanager
def artifact_errors() -> Iterator[None]:
    """Turn what the library of an artifact store raises, such as boto3's errors, into an OSError."""
    try:
        yield
    except (*UNREACHABLE, ImportError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


def experiment_id_of(client: MlflowClient, study: str) -> str:
    """Return the id of the experiment named after the study, which is created if there is none.

    Raises:
        TrackingError: The experiment was deleted in MLflow.
    """
    found = client.get_experiment_by_name(study)
    if found is None:
        # With this kind MLflow opens the experiment on its runs; without it, it guesses and may show traces.
        return client.create_experiment(study, tags={"mlflow.experimentKind": "custom_model_development"})
    check_active(found)
    return found.experiment_id


def check_active(experiment: Experiment) -> None:
    """Check that nobody has deleted the experiment.

    Raises:
        TrackingError: It was deleted; the message has the command that brings it back.
    """
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"experiment {experiment.name!r} was deleted in MLflow: `mlflow experiments restore -x "
            f"{experiment.experiment_id}` brings it back, `mlflow gc --experiment-ids {experiment.experiment_id}` "
            "removes it for good; then run this command again"
        )


def find_runs(client: MlflowClient, state: TrackingState) -> dict[str, str]:
    """Return the ids of this journal's existing runs by key; of duplicates, the oldest."""
    runs: dict[str, str] = {}
    page: str | None = ""
    while page is not None:
        found = client.search_runs(
            [state.experiment_id],
            f"tags.`pretext.journal` = '{state.journal}'",
            order_by=["attributes.start_time ASC"],
            page_token=page or None,
        )
        for run in found:
            tags = run.data.tags
            kind = tags.get("pretext.kind")
            key = f"{kind}/{tags.get('pretext.trial_id' if kind == 'trial' else 'pretext.phase')}"
            runs.setdefault(STUDY if kind == STUDY else key, run.info.run_id)
        page = found.token or None
    return runs
