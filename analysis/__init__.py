"""What a study's results mean: tidy frames, tables, figures and one page; `analysis.load` is the way in."""

from analysis.load import Study, load

__all__ = ["Study", "load"]
