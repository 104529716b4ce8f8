"""The report of a study, one self-contained HTML page."""

from analysis.report.page import FIGURES, FILE_NAME, write_report

__all__ = ["FIGURES", "FILE_NAME", "write_report"]
