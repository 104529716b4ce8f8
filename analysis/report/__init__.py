"""The report of a study, one self-contained HTML page."""

from analysis.report.page import write_report
from analysis.report.sections.registry import register_section

__all__ = ["register_section", "write_report"]
