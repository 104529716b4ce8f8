"""Tracking: the journal delivered to MLflow."""
