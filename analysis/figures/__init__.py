"""Figures: functions `(frame, ..., ax=None) -> Axes`, so a notebook can draw each of them anywhere.

With `ax=None`, a function creates a figure of the size that its content needs.
"""

from analysis.figures.bars import accuracy_bars
from analysis.figures.forest import ANSWER_STYLES, effects_forest
from analysis.figures.images import sample_grid, what_a_task_sees
from analysis.figures.label_curves import label_curves
from analysis.figures.learning_curves import learning_curves
from analysis.figures.maps import pair_heatmap, size_strength_map, transfer_map
from analysis.figures.probes import (
    BALANCED_NAMES,
    PROBE_NAMES,
    SEGMENTATION_NAMES,
    accuracy_by_task,
    balanced_accuracy_by_task,
    miou_by_task,
    probe_by_stage,
    search_scatter,
)
from analysis.figures.search import importance_bars, parallel_coordinates
from analysis.figures.size_gains import size_gains
from analysis.figures.size_law import size_law
from analysis.figures.survival_curves import survival_curves
from analysis.figures.verdict_map import verdict_map

__all__ = [
    "ANSWER_STYLES",
    "BALANCED_NAMES",
    "PROBE_NAMES",
    "SEGMENTATION_NAMES",
    "accuracy_bars",
    "accuracy_by_task",
    "balanced_accuracy_by_task",
    "effects_forest",
    "importance_bars",
    "label_curves",
    "learning_curves",
    "miou_by_task",
    "pair_heatmap",
    "parallel_coordinates",
    "probe_by_stage",
    "sample_grid",
    "search_scatter",
    "size_gains",
    "size_law",
    "size_strength_map",
    "survival_curves",
    "transfer_map",
    "verdict_map",
    "what_a_task_sees",
]
