"""Progress of a running study: a live table on a terminal, otherwise one line per phase and per ended trial."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.data.frames import RUNNING
from analysis.records import FAILED, Event, Facts, PhaseStarted, Report, TrialEnded, TrialStarted
from study.config.schema import StudyConfig
from trainables.trial import TrialConfig

MAX_SHOWN = 12  # trials in the live table


@dataclass
class _Trial:
    """The displayed state of one trial."""

    config: TrialConfig
    status: str = RUNNING
    step: int = 0
    primary_metric: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    results: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        config = self.config
        if not config.budget_steps or config.init_from:
            return f"{config.task} seed={config.seed}"
        return (
            f"{config.task} lr={config.lr:.2g} aug={config.augmentation_strength:.2f} "
            f"bs={config.batch_size} seed={config.seed}"
        )

    @property
    def values(self) -> str:
        shown = {name: self.metrics[name] for name in (self.primary_metric, "probe/linear") if name in self.metrics}
        shown |= {name: value for name, value in self.results.items() if name.endswith("/linear")}
        return "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if math.isfinite(value))


class Progress:
    """Journal listener that displays a study's progress. Use it as a context manager and call it with each event.

    Args:
        config: The study's configuration.
        console: Console to draw on.
    """

    def __init__(self, config: StudyConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.trials: dict[str, _Trial] = {}  # trials of the current phase
        self.phase = ""
        self.began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=2, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def __call__(self, event: Event) -> None:
        """Update the display with one event."""
        match event:
            case PhaseStarted():
                self.phase, self.trials = event.phase, {}
                self._say(f"phase {self.phase}")
            case TrialStarted():
                self.trials[event.trial_id] = _Trial(event.config)
            case Facts() | Report() | TrialEnded() if event.trial_id in self.trials:
                self._update(self.trials[event.trial_id], event)

    def _update(self, trial: _Trial, event: Facts | Report | TrialEnded) -> None:
        match event:
            case Facts():
                trial.primary_metric = event.primary_metric
            case Report():
                trial.step, trial.metrics = event.step, event.metrics
            case TrialEnded():
                trial.status, trial.results = event.status, event.results
                self._say(f"{trial.status:<8} {trial.title}  {trial.values}{_short_reason(event)}")

    def _say(self, line: str) -> None:
        elapsed = int(time.monotonic() - self.began)
        self.console.print(
            f"{elapsed // 60:3d}:{elapsed % 60:02d}  {line}", highlight=False, markup=False, soft_wrap=True
        )

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "step", "now", "state"):
            table.add_column(heading, no_wrap=True)
        running = [trial for trial in self.trials.values() if trial.status == RUNNING]
        for trial in running[-MAX_SHOWN:]:
            table.add_row(trial.title, f"{trial.step}/{trial.config.budget_steps}", trial.values, "running")
        counts = Counter(trial.status.lower() for trial in self.trials.values())
        summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "starting"
        return Group(Text(f"{self.config.name} · {self.phase}: {summary}", style="bold"), table)


def _short_reason(event: TrialEnded) -> str:
    """Return the most informative line of the reason: the last line of a traceback, otherwise the first line."""
    lines = event.reason.strip().splitlines()
    return f"  ({lines[-1] if event.status == FAILED else lines[0]})" if lines else ""
