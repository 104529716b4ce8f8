"""Sections of the report: one question per file."""
