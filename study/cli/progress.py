"""Progress of a running study: bars and a live table on a terminal, and one line per phase and per ended trial."""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.records import Event, PhaseStarted, StudyStarted, TrialEnded, TrialStarted
from analysis.records.phases import ABLATE, SEARCH
from study.cli.lines import ended_line, title, values_of
from study.cli.state import StudyState
from study.cli.words import best_table, dataset_lines
from study.config.schema import StudyConfig
from study.plan.best import best_so_far
from study.plan.history import TrialRecord
from study.timing.fit_to_budget import with_sizes_of
from trainables.trial import BASELINES, ONLINE_PROBES, RAW_PIXELS, WEIGHTS, TrialConfig

MAX_RUNNING = 12  # running trials in the live table
STAMP_WIDTH, N_BAR_LINES = 8, 4
WIDE = 110  # columns from which on the live tables have room for settings and second metrics


class Progress:
    """Journal listener that displays a study's progress. Use it as a context manager and call it with each event.

    Args:
        config: The study's configuration.
        console: Console to draw on.
        folder: The study's folder; what its journal already holds counts as done when a study is resumed.
    """

    def __init__(self, config: StudyConfig, console: Console, folder: Path | None = None) -> None:
        self.config, self.console = config, console
        self.state = StudyState(config.name, folder)
        self.began = time.monotonic()
        self._seeds: dict[str, list[int]] = {}  # per phase, in the order in which they first ran
        self._changing = threading.Lock()  # the live display reads the state in a thread of its own
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
        with self._changing:
            for observed in self.state.observe(event):
                self._note_seed(observed)
        match event:
            case StudyStarted():
                if event.config:
                    self.config = with_sizes_of(self.config, event.config)
                for line in dataset_lines(event.datasets):
                    self.console.print(Text(line), soft_wrap=True)
            case PhaseStarted():
                planned = self.state.pace.plan.get(event.phase, {}).get("trials")
                self._say(Text(f"phase {event.phase}" + (f", {planned} trials" if planned else ""), style="bold"))
            case TrialEnded():
                record = self.state.history.trials[event.trial_id]
                seed, width = self._seed_words(record), self.console.width - STAMP_WIDTH
                room = width if self.console.is_terminal else None
                weights = [f"{WEIGHTS}{each.name}" for each in self.config.baselines]
                names = [*self.config.tasks, *BASELINES, *weights]
                self._say(ended_line(record, self._metric(record), seed, names, room))

    def _note_seed(self, event: Event) -> None:
        if isinstance(event, TrialStarted) and _has_seed(event.config):
            seeds = self._seeds.setdefault(event.phase, [])
            if event.config.seed not in seeds:
                seeds.append(event.config.seed)

    def _metric(self, record: TrialRecord) -> str:
        """Return the metric that a trial's configuration is chosen by."""
        return self.state.history.objectives.get(record.trial.task, ONLINE_PROBES)[0]

    def _seed_words(self, record: TrialRecord) -> str:
        """Return which of the phase's seeds a trial has; empty in the search, where all trials have the same.

        Raw pixels have none, unless it draws their few labels.
        """
        phase, trial = record.trial.phase, record.trial
        if phase == SEARCH or not _has_seed(trial):
            return ""
        n_seeds = self.config.ablate.seeds if phase == ABLATE else self.config.confirm.n_seeds
        return f"seed {self._seeds[phase].index(trial.seed) + 1}/{n_seeds}"

    def _say(self, line: Text) -> None:
        elapsed = int(time.monotonic() - self.began)
        for number, part in enumerate(line.split()):
            stamp = f"{elapsed // 60:3d}:{elapsed % 60:02d}  " if not number else " " * STAMP_WIDTH
            self.console.print(Text.assemble((stamp, "dim"), part), soft_wrap=True)

    def _render(self) -> Group:
        """Return the live display: bars, the best results, and the running trials, as far as the screen has room."""
        with self._changing:
            return self._rendered()

    def _rendered(self) -> Group:
        running = [record for record in self.state.history.of(self.state.phase) if not record.ended]
        best = best_so_far(self.state.history, self.state.history.objectives)
        tables = [best_table(best, settings=self.console.width >= WIDE)] if best else []
        room = self.console.height - N_BAR_LINES - len(best) - 5  # blank lines and headings
        if running:
            tables.append(self._running(running, max(1, min(MAX_RUNNING, room))))
        parts: list[RenderableType] = [Text(""), self._bars()]
        for table in tables:
            parts += [Text(""), table]
        return Group(*parts)

    def _bars(self) -> RenderableType:
        """Return a bar of the phase and one of the study, with trial counts, states and the time left."""
        table = Table.grid(padding=(0, 2, 0, 0))
        for name, n, total in self.state.bars():
            table.add_row(
                Text(name, style="bold"),
                ProgressBar(total=max(total, 1), completed=n, width=max(16, min(60, self.console.width - 56))),
                f"{n} of {total} trials",
            )
        counts = Counter((record.status or "running").lower() for record in self.state.history.of(self.state.phase))
        words = [f"{count} {status}" for status, count in sorted(counts.items())]
        return Group(table, Text(f"{', '.join([*words, self.state.left()])}", style="dim"))

    def _running(self, running: list[TrialRecord], most: int) -> Table:
        """Return a table of the trials that run, at most `most` of them, the latest."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for heading in ("running", "step", "now"):
            table.add_column(heading, no_wrap=True)
        for record in running[-most:]:
            values = values_of(record, self._metric(record))
            shown = values if self.console.width >= WIDE else values[:1]
            step = f"{record.step}/{record.trial.budget_steps}"
            table.add_row(title(record, self._seed_words(record)), step, "  ".join(shown))
        return table


def _has_seed(trial: TrialConfig) -> bool:
    return trial.task != RAW_PIXELS or bool(trial.labels_per_class)
