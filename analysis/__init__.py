"""Analysis of a study's results: tidy frames, tables, figures and an HTML report. Start with `analysis.load`."""

from analysis.data.load import load
from analysis.data.study import Study

__all__ = ["Study", "load"]
