"""Sections of the report, one question a file."""
