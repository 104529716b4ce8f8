"""What a person sees while a study runs: a live table on a terminal, one line an event otherwise."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.records import FAILED
from study.config.schema import StudyConfig

SHOWN = 12  # trials in the live table


class Progress:
    """Listens to the journal and shows it. Use as a context manager; call it with each event."""

    def __init__(self, config: StudyConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.trials: dict[str, dict[str, Any]] = {}
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

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "phase_started":
            self.phase, self.trials = event["phase"], {}
            self._say(f"phase {self.phase}")
        elif kind == "trial_started":
            self.trials[event["trial_id"]] = {"config": event["config"], "step": 0, "metrics": {}, "status": "RUNNING"}
        elif kind == "facts" and event["trial_id"] in self.trials:
            self.trials[event["trial_id"]]["primary"] = event["primary_metric"]
        elif kind == "report" and event["trial_id"] in self.trials:
            self.trials[event["trial_id"]] |= {"step": event["step"], "metrics": event["metrics"]}
        elif kind == "trial_ended" and event["trial_id"] in self.trials:
            trial = self.trials[event["trial_id"]]
            trial |= {"status": event["status"], "results": event["results"]}
            reason = event["reason"].strip().splitlines()
            self._say(f"{trial['status']:<8} {_title(trial)}  {_state(trial)}{_because(trial, reason)}")

    def _say(self, line: str) -> None:
        elapsed = int(time.monotonic() - self.began)
        self.console.print(
            f"{elapsed // 60:3d}:{elapsed % 60:02d}  {line}", highlight=False, markup=False, soft_wrap=True
        )

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "step", "now", "state"):
            table.add_column(heading, no_wrap=True)
        running = [trial for trial in self.trials.values() if trial["status"] == "RUNNING"]
        for trial in running[-SHOWN:]:
            steps = f"{trial['step']}/{trial['config']['budget_steps']}"
            table.add_row(_title(trial), steps, _state(trial), "running")
        counts = Counter(trial["status"].lower() for trial in self.trials.values())
        summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "starting"
        return Group(Text(f"{self.config.name} · {self.phase}: {summary}", style="bold"), table)


def _title(trial: dict[str, Any]) -> str:
    config = trial["config"]
    if not config["budget_steps"] or config["init_from"]:
        return f"{config['task']} seed={config['seed']}"
    return (
        f"{config['task']} lr={config['lr']:.2g} aug={config['augmentation_strength']:.2f} "
        f"bs={config['batch_size']} seed={config['seed']}"
    )


def _state(trial: dict[str, Any]) -> str:
    metrics = trial["metrics"] or {}
    shown = [name for name in (trial.get("primary"), "probe/linear") if name in metrics]
    values = {name: metrics[name] for name in shown}
    values |= {name: value for name, value in trial.get("results", {}).items() if name.endswith("/linear")}
    return "  ".join(f"{name} {value:.3f}" for name, value in values.items() if math.isfinite(value))


def _because(trial: dict[str, Any], reason: list[str]) -> str:
    if not reason:
        return ""
    return f"  ({reason[-1] if trial['status'] == FAILED else reason[0]})"
