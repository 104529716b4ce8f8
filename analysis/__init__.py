"""Analysis of a study's results: tidy frames, tables, figures and an HTML report. Start with `analysis.load`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.comparisons.studies import compare_studies as compare
    from analysis.data.load import load
    from analysis.data.study import Study

__all__ = ["Study", "compare", "load"]


def __getattr__(name: str) -> Any:
    """Import the public names at their first use: they need scipy, which `--help` must not wait for."""
    if name == "compare":
        from analysis.comparisons.studies import compare_studies

        return compare_studies
    if name == "load":
        from analysis.data.load import load

        return load
    if name == "Study":
        from analysis.data.study import Study

        return Study
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
