"""Data: a study's results as tidy frames, from its folder or from an MLflow tracking server."""
