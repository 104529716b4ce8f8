"""Findings: what is computed for a study, and queries on it."""
