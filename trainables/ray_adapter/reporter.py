"""Reporter: saves the training loop's reports as checkpoints and sends them to the driver as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trainables.objective import WORST, as_objective
from trainables.per_image import Evaluation
from trainables.ray_adapter.messages import FinalResults, Message, Replay, TrialReport
from trainables.ray_adapter.storage import CheckpointStore
from trainables.training import checkpoint
from trainables.training.loop import Report
from trainables.trial import TrialConfig

Send = Callable[[Message, bytes | None], None]


class Reporter:
    """Reporter of one trial: saves each report as a checkpoint and then sends it to the driver.

    Args:
        trial: The trial that reports.
        store: Where its checkpoints are saved.
        send: Function that sends a message, with the serialized state of the trial if `sends_state`.
        objective: Metric that the trial's search optimizes, and `max` or `min`; None for its primary metric.
        saves: Whether this worker saves checkpoints; one worker of a group does.
        sends_state: Whether reports carry the trial's state, which population-based training needs.
        member: Index of the trial among those that are trained as one network.
    """

    def __init__(
        self,
        trial: TrialConfig,
        store: CheckpointStore,
        send: Send,
        *,
        objective: tuple[str, str] | None = None,
        saves: bool = True,
        sends_state: bool = False,
        member: int = 0,
    ) -> None:
        self.trial, self.store, self.saves, self.sends_state = trial, store, saves, sends_state
        self._send, self._objective_metric, self._member = send, objective, member
        self._step, self._objective = 0, WORST
        self._reports: list[dict[str, Any]] = []  # all so far; part of every checkpoint

    def report(self, report: Report) -> None:
        """Save the checkpoint of a report and send its metrics."""
        self._advance(report)
        if not self._reports or report.step > self._reports[-1]["step"]:
            self._reports.append({"step": report.step, "metrics": report.metrics})
        state = report.state() | {"reports": self._reports, "facts": report.facts}
        path = self.store.save(self.trial.trial_id, state) if self.saves else ""
        message = TrialReport(metrics=report.metrics, facts=report.facts, checkpoint=path, **self._progress())
        self._send(message, checkpoint.to_bytes(state) if self.sends_state else None)

    def resume(self) -> dict[str, Any] | None:
        """Return the state in the trial's newest readable checkpoint, or None if there is none.

        All reports up to that checkpoint are sent again, since the last ones may have been lost on their way to the
        driver. The journal skips reports that it already has; the stopper replays the whole curve.
        """
        state = self.store.load(self.trial.trial_id)
        if state is not None and state.get("reports"):
            self._reports = list(state["reports"])
            for each in self._reports:
                self._advance(Report(**each, facts=state["facts"], state=lambda: state))
            self._send(Replay(reports=self._reports, facts=state["facts"], **self._progress()), None)
        return state

    def finish(self, found: Evaluation) -> None:
        """Send the results of the final probes, which mark the trial as finished."""
        self._send(FinalResults(results=found.results, per_image=found.per_image, **self._progress()), None)

    def _progress(self) -> dict[str, Any]:
        """Return the fields common to all messages, including checkpoints found damaged since the last one."""
        damaged, self.store.damaged = tuple(self.store.damaged), []
        own = {"step": self._step, "objective": self._objective, "member": self._member}
        return {**own, "damaged_checkpoints": damaged}

    def _advance(self, report: Report) -> None:
        own = (report.facts["primary_metric"], report.facts["primary_mode"])
        metric, mode = self._objective_metric or own
        self._step = report.step
        if metric in report.metrics:
            self._objective = as_objective(report.metrics[metric], mode)
