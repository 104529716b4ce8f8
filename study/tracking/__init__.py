"""Tracking: delivery of the journal to MLflow."""
