"""The report of a study, one self-contained HTML page."""

from analysis.report.page import FIGURES, FILE_NAME, write_report
from analysis.report.sections.registry import register_section

__all__ = ["FIGURES", "FILE_NAME", "register_section", "write_report"]
