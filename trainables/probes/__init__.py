"""Probes: linear, kNN and segmentation probes on frozen features, fine-tuning on few labels, and feature health.

The training loop's monitor imports the probes below. `evaluation` and `few_labels` import the training loop in turn, so
they are imported from their modules.
"""

from trainables.probes.accuracy import Accuracy, largest_class, top_accuracy
from trainables.probes.features import extract_features, labeled_features, raw_pixels
from trainables.probes.health import health_metrics
from trainables.probes.knn import KnnResult, knn_probe
from trainables.probes.linear import LinearProbe, LinearProbeResult, fit_linear_probe, linear_probe
from trainables.probes.segmentation import SegmentationResult, SegmentationScores, segmentation_probe

__all__ = [
    "Accuracy",
    "KnnResult",
    "LinearProbe",
    "LinearProbeResult",
    "SegmentationResult",
    "SegmentationScores",
    "extract_features",
    "fit_linear_probe",
    "health_metrics",
    "knn_probe",
    "labeled_features",
    "largest_class",
    "linear_probe",
    "raw_pixels",
    "segmentation_probe",
    "top_accuracy",
]
