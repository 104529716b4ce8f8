"""What a study's results mean: tidy frames, tables, figures and one page; `analysis.load` is the way in."""

from analysis.data.load import load
from analysis.data.study import Study

__all__ = ["Study", "load"]
