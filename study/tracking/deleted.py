"""What somebody has deleted in MLflow, and how to bring it back."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from analysis.records.layout import MLFLOW_FILE
from study.tracking.state import TrackingError, TrackingState
from study.tracking.store import GONE, UNREACHABLE, check_active, find_runs
from study.tracking.sync import default_tracking_uri, mlflow_environment
from trainables.errors import first_line

MOST_SHOWN = 3  # runs in a message


def check_not_deleted(folder: Path, tracking_uri: str | None = None) -> None:
    """Check that nobody has deleted a study's experiment or one of its runs, to which MLflow then adds nothing.

    Call it after `sync`, which delivers anew what was removed for good.

    Args:
        folder: The study's folder.
        tracking_uri: The MLflow store; `default_tracking_uri()` if it is None.

    Raises:
        TrackingError: Something was deleted, and the message has the command that brings it back; or the store cannot
            be reached.
    """
    uri = tracking_uri or default_tracking_uri()
    state = TrackingState.of(folder, uri)
    if state is None or not state.experiment_id:
        return
    try:
        with mlflow_environment():
            deleted = _deleted_runs(MlflowClient(tracking_uri=uri), state)
    except UNREACHABLE as error:
        if getattr(error, "error_code", None) == GONE:
            return
        raise TrackingError(f"MLflow at {uri} cannot be read: {first_line(error)}") from error
    if deleted:
        shown = ", ".join(f"{key} (run {run_id})" for key, run_id in list(deleted.items())[:MOST_SHOWN])
        more = f" and {len(deleted) - MOST_SHOWN} more" if len(deleted) > MOST_SHOWN else ""
        raise TrackingError(
            f"deleted in MLflow, which accepts nothing more for it: {shown}{more}. `mlflow runs restore --run-id "
            f"{next(iter(deleted.values()))}` brings a run back, unless `mlflow gc` has removed it for good. Then "
            f"delete {folder / MLFLOW_FILE} and run this command again: it delivers everything that MLflow lacks"
        )


def _deleted_runs(client: MlflowClient, state: TrackingState) -> dict[str, str]:
    """Return the ids of the deleted runs by their keys; raise TrackingError if the whole experiment was deleted."""
    check_active(client.get_experiment(state.experiment_id))
    active = find_runs(client, state)
    return {key: run_id for key, run_id in state.runs.items() if key not in active}
