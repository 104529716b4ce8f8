"""What to run: configuration, phases, execution on Ray Tune, journal and MLflow tracking."""
