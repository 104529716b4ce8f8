"""Findings: what is computed for a study, and queries on it."""

from analysis.findings.compute import Findings, compute_findings, design_runs, write_tables

__all__ = ["Findings", "compute_findings", "design_runs", "write_tables"]
